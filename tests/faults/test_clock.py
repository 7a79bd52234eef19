"""A clock that jumps, by years, at every look: what comes out does not depend on it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support import digests, pictures
from support_faults import small_settings, surd_command

from surd.demo.site import Site

JUMPING = """
import random, sys, time
import datetime as dates

chance, real = random.Random(int(sys.argv.pop(1))), time.time
jump_s = lambda: chance.uniform(-10, 10) * 365 * 86_400
time.time = lambda: real() + jump_s()
time.time_ns = lambda: int(time.time() * 1e9)

import surd.build.run
from surd.cli.app import main

class Jumping(dates.datetime):
    @classmethod
    def now(cls, zone=None):
        return super().now(zone) + dates.timedelta(seconds=jump_s())

surd.build.run.datetime = Jumping
sys.argv[0] = "surd"
main()
"""


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.long)])
def test_a_build_under_a_jumping_clock_is_the_same_and_takes_up_what_another_left(
    tmp_path: Path, seed: int
) -> None:
    shown = pictures(
        60,
        p3="unavailable_once",
        p9="rate_limited_date_once",
        p20="not_found",
        p33="slow_ok",
        p41="server_error_once",
    )
    runs = {}
    with Site([]) as site:
        port = int(site.url.rsplit(":", 1)[1])
    for name in ("steady", "jumping"):
        with Site(shown, port=port) as site:
            settings = small_settings(site, until="download", download__retries="2")
            command = surd_command("build", "civitai", "-o", tmp_path / name, "-q", *settings)
            if name == "jumping":
                command = [sys.executable, "-c", JUMPING, str(seed), *command[3:]]
            runs[name] = subprocess.run(command, capture_output=True, text=True, check=False)
            assert runs[name].returncode == 0, runs[name].stderr
            asked = site.image_requests.total()
            again = subprocess.run(command, capture_output=True, text=True, check=False)
            assert "0 parts computed" in again.stdout
            assert site.image_requests.total() == asked
    assert digests(tmp_path / "jumping") == digests(tmp_path / "steady")


def test_files_from_the_future_are_not_taken_for_newer(tmp_path: Path) -> None:
    """What is stale is told by content, not by times of files."""
    import os

    with Site(pictures(30)) as site:
        command = surd_command(
            *("build", "civitai", "-o", tmp_path, "-q"), *small_settings(site, until="download")
        )
        subprocess.run(command, capture_output=True, check=True)
        before = digests(tmp_path)
        for number, path in enumerate(sorted(tmp_path.rglob("*.parquet"))):
            when = (0, 4_000_000_000)[number % 2]
            os.utime(path, (when, when))
        again = subprocess.run(command, capture_output=True, text=True, check=True)
        assert "0 parts computed" in again.stdout
    assert digests(tmp_path) == before
