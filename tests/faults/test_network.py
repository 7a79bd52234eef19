"""The network cut and back; an API that changes its answer between pages."""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import Ran
from support import digests, pictures
from support_faults import small_settings

from surd.demo.picture import Picture
from surd.demo.site import Site

Surd = Callable[..., Ran]


@pytest.fixture
def site() -> Iterator[Site]:
    """On a port of its own, to which it can come back."""
    first = Site([])
    with first:
        port = int(first.url.rsplit(":", 1)[1])
    site = Site(pictures(90, p40="slow_ok"), port=port)
    with site:
        yield site


@contextmanager
def cut_after(site: Site, enough: Callable[[], bool]) -> Iterator[None]:
    """While the block runs, the site is gone as soon as that is enough."""
    over = threading.Event()

    def cut() -> None:
        while not enough() and not over.is_set():
            time.sleep(0.001)
        site.stop()

    thread = threading.Thread(target=cut)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_a_network_cut_while_images_come_costs_rows_that_can_be_asked_for_again(
    surd: Surd, tmp_path: Path, site: Site
) -> None:
    def build(name: str, *more: str) -> Ran:
        settings = small_settings(site, until="download", download__concurrency="4")
        return surd("build", "civitai", "-o", tmp_path / name, *settings, *more)

    build("whole")
    before = site.image_requests.total()
    enough = before + random.SystemRandom().randrange(5, 60)
    with cut_after(site, lambda: site.image_requests.total() >= enough):
        cut = build("cut")
    assert cut.code == 0
    assert "connect_error" in cut.out or "truncated" in cut.out
    had = pq.read_table(tmp_path / "cut" / "images", columns=["status"])["status"].to_pylist()
    site.start()
    asked = site.image_requests.total()
    again = build("cut", "--retry-failed")
    assert again.code == 0
    assert site.image_requests.total() - asked == 90 - had.count("ok"), "no image twice"
    assert digests(tmp_path / "cut") == digests(tmp_path / "whole")


def test_a_network_cut_while_pages_come_keeps_what_they_gave(
    surd: Surd, tmp_path: Path, site: Site
) -> None:
    def build(name: str, *more: str) -> Ran:
        settings = small_settings(
            site, until="download", sources__0__retries="0", sources__0__requests_per_s="20"
        )
        return surd("build", "civitai", "-o", tmp_path / name, *settings, *more)

    build("whole")
    with cut_after(site, lambda: len(site.api_requests) >= 8):
        cut = build("cut")
    assert "no answer" in cut.err
    assert "the records read so far are kept" in cut.err
    assert len(cut.err.splitlines()) == 1
    site.start()
    assert build("cut", "--retry-failed").code == 0
    assert digests(tmp_path / "cut") == digests(tmp_path / "whole")


# An API that changes


class Changing(Site):
    """Does something to itself after so many requests to its API."""

    def after(self, requests: int, do: Callable[[], None]) -> None:
        class Counted(list[str]):
            def append(self, path: str) -> None:
                super().append(path)
                if len(self) == requests:
                    do()

        self.api_requests = Counted()


def newer(count: int) -> list[Picture]:
    """Pictures that nobody has seen yet."""
    return [
        replace(picture, id=9000 + n, uuid=str(uuid.UUID(int=9000 + n)))
        for n, picture in enumerate(pictures(count))
    ]


def collected(folder: Path) -> list[str]:
    return [str(n) for n in pq.read_table(folder / "samples")["source_id"].to_pylist()]


def test_images_that_come_while_pages_are_read_shift_nothing_out(
    surd: Surd, tmp_path: Path
) -> None:
    shown, news = pictures(100), newer(30)
    with Changing(shown) as site:
        site.after(3, lambda: site.show([*news, *shown]))
        settings = small_settings(site)
        surd("build", "civitai", "-o", tmp_path, "--until", "collect", *settings)
        found = collected(tmp_path)
        assert len(found) == len(set(found)), "nothing twice"
        assert set(found) == {str(picture.id) for picture in shown}, "nothing lost"
        surd("collect", tmp_path)
    found = collected(tmp_path)
    assert sorted(found) == sorted(str(picture.id) for picture in [*shown, *news])


def test_images_that_go_while_pages_are_read_shift_others_out_until_the_next_look(
    surd: Surd, tmp_path: Path
) -> None:
    shown = pictures(100)
    with Changing(shown) as site:
        site.after(3, lambda: site.show(shown[25:]))
        surd("build", "civitai", "-o", tmp_path, "--until", "collect", *small_settings(site))
        found = collected(tmp_path)
        assert len(found) == len(set(found))
        surd("collect", tmp_path)
        after = collected(tmp_path)
    assert len(after) == len(set(after))
    assert after[: len(found)] == found, "what was there stays where it was"
    assert set(after) >= {str(picture.id) for picture in shown[25:]}


def test_images_in_another_order_on_every_page_come_once(surd: Surd, tmp_path: Path) -> None:
    shown = pictures(100)
    mixed = random.Random(7).sample(shown, len(shown))
    with Changing(shown) as site:
        site.after(3, lambda: site.show(mixed))
        surd("build", "civitai", "-o", tmp_path, "--until", "collect", *small_settings(site))
        surd("collect", tmp_path)
        found = collected(tmp_path)
    assert sorted(found) == sorted(str(picture.id) for picture in shown)
