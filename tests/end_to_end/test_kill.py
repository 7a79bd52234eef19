"""Kill -9 at any moment, run again: the same parts, byte for byte."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import digests, pictures

from surd.demo.site import Site


def command(site: Site, folder: Path) -> list[str]:
    values = [
        f"sources.0.base_url={site.url}",
        "sources.0.requests_per_s=40",
        "sources.0.page_size=20",
        "download.allow_private_addresses=true",
        "download.concurrency=4",
        "part_size=25",
        "until=prompts",
    ]
    settings = [argument for value in values for argument in ("--set", value)]
    return [sys.executable, "-m", "surd", "build", "civitai", "-o", str(folder), "-q", *settings]


@pytest.mark.timeout(300)
def test_killed_ten_times_a_build_ends_as_if_undisturbed(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    moments = random.Random(seed)
    shown = pictures(200, p5="not_found", p60="truncated_file", p130="slow_ok")
    with Site(shown) as site:
        started = time.monotonic()
        subprocess.run(command(site, tmp_path / "whole"), check=True, capture_output=True)
        whole_s = time.monotonic() - started
        kills = 0
        for _ in range(10):
            process = subprocess.Popen(
                command(site, tmp_path / "killed"),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            try:
                process.wait(moments.uniform(0.2, 1.0) * whole_s)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                kills += 1
        ended = subprocess.run(
            command(site, tmp_path / "killed"), check=False, capture_output=True, text=True
        )
        assert ended.returncode == 0, ended.stderr
        assert kills > 0, "every run had ended before it was killed"
        assert digests(tmp_path / "killed") == digests(tmp_path / "whole")
        asked = site.image_requests.total()
        subprocess.run(command(site, tmp_path / "killed"), check=True, capture_output=True)
        assert site.image_requests.total() == asked, "a finished build downloads nothing"
    left = list((tmp_path / "killed").rglob("*.tmp"))
    assert not left


def _heed_ctrl_c() -> None:
    """A shell that starts the tests in the background has its children ignore it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_ctrl_c_is_one_line_and_the_next_run_goes_on(tmp_path: Path) -> None:
    with Site(pictures(60, p50="slow_drip")) as site:
        process = subprocess.Popen(
            command(site, tmp_path),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=_heed_ctrl_c,
        )
        while site.image_requests.total() < 55:  # the slow one holds the build up
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err == "surd: stopped; run the same command to go on\n"
    assert not list(tmp_path.rglob("*.tmp"))
