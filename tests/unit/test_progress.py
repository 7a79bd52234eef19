"""What long work says of itself where nobody watches a bar."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from surd import progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_line_now_and_then_has_rate_rest_and_what_failed(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with progress.track("download", 1000) as tick:
        tick({"ok": 50})
        assert capsys.readouterr().err == ""
        clock[0] = 20.0
        tick({"ok": 40, "timeout": 10})
    assert capsys.readouterr().err == "download: 100 of 1,000, 5.0/s, 180 s left (10 timeout)\n"


def test_work_that_goes_on_counts_what_was_done_before_but_not_in_its_rate(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with progress.track("train", 5000, done=1500) as tick:
        clock[0] = 10.0
        tick({"ok": 100})
    assert capsys.readouterr().err == "train: 1,600 of 5,000, 10.0/s, 340 s left\n"


def test_rows_that_turn_out_to_be_known_are_done_but_not_in_the_rate(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with progress.track("caption", 24) as tick:
        tick({"known": 7})
        clock[0] = 10.0
        tick({"ok": 1})
    assert capsys.readouterr().err == "caption: 8 of 24, 0.1/s, 160 s left\n"


def test_of_several_at_once_each_has_a_line(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with progress.tracks() as begin:
        download = begin("download", 1000)
        clock[0] = 5.0
        caption = begin("caption", 500)
        download({"ok": 50})
        clock[0] = 20.0
        download({"ok": 50})
        caption({"ok": 30})
    assert capsys.readouterr().err == (
        "download: 100 of 1,000, 5.0/s, 180 s left\ncaption: 30 of 500, 2.0/s, 235 s left\n"
    )


def test_quiet_work_says_nothing(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with progress.track("train", 10, quiet=True) as tick:
        clock[0] = 60.0
        tick({"ok": 10})
    assert capsys.readouterr().err == ""
