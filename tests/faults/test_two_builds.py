"""Two surd processes on one workspace: one line says so, and a dead one locks nothing."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Ran
from support import digests, pictures
from support_faults import small_settings, surd_command

from surd.demo.site import Site

Surd = Callable[..., Ran]
BUSY = "another surd process is writing here; wait for it or stop it"


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_second_is_refused_and_goes_on_at_once_when_the_first_is_dead(
    surd: Surd, tmp_path: Path, end: signal.Signals
) -> None:
    with Site(pictures(60, p50="stall")) as site:  # which holds the first one up
        settings = small_settings(site, until="download", download__stall_timeout_s="100")
        build = ("build", "civitai", "-o", tmp_path / "w", "-q", *settings)
        with subprocess.Popen(surd_command(*build), stderr=subprocess.DEVNULL) as first:
            while site.image_requests.total() < 51:
                assert first.poll() is None
                time.sleep(0.01)
            for second in (build, ("collect", tmp_path / "w"), ("prompts", tmp_path / "w")):
                refused = surd(*second)
                assert refused.code == 2
                assert refused.err == f"surd: {tmp_path / 'w'}: {BUSY}\n"
            assert surd("status", tmp_path / "w").code == 0, "looking is allowed"
            assert first.poll() is None, "the first is not disturbed"
            first.send_signal(end)
            first.wait(30)
        settings = small_settings(site, until="download", download__stall_timeout_s="1")
        for name in ("w", "other"):
            ran = surd("build", "civitai", "-o", tmp_path / name, "-q", *settings)
            assert ran.code == 0, ran.err
    assert digests(tmp_path / "w") == digests(tmp_path / "other")


def test_of_two_that_begin_at_once_one_builds_and_the_result_is_whole(tmp_path: Path) -> None:
    with Site(pictures(60)) as site:
        settings = small_settings(site, until="download", sources__0__requests_per_s="4")
        build = surd_command("build", "civitai", "-o", tmp_path / "w", "-q", *settings)
        both = [subprocess.Popen(build, stderr=subprocess.PIPE, text=True) for _ in range(2)]
        said = [process.communicate(timeout=100)[1] for process in both]
        codes = sorted(process.returncode for process in both)
        assert codes in ([0, 0], [0, 2]), said
        assert all(
            BUSY in err for err, process in zip(said, both, strict=True) if process.returncode
        )
        requests = site.image_requests
        assert set(requests.values()) == {1}, "no image was asked for twice"
