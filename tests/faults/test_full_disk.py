"""A disk that fills up: one line, nothing half written, and the next run goes on."""

from __future__ import annotations

import resource
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from support import digests, pictures
from support_faults import run, small_settings, surd_command

from surd.demo.site import Site
from surd.errors import WorkspaceError
from surd.store.storage import Storage

TMPFS = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c")
"""A file system of one's own, which needs no rights where user namespaces are allowed."""


def build(site: Site, folder: Path) -> list[str]:
    settings = small_settings(site, until="download", part_size="40")
    return surd_command("build", "civitai", "-o", folder, "-q", *settings)


def assert_one_line(ran: subprocess.CompletedProcess[str], reason: str) -> None:
    assert ran.returncode == 2
    assert ran.stderr.startswith("surd: ")
    assert reason in ran.stderr
    assert len(ran.stderr.strip().splitlines()) == 1


def test_a_write_that_fails_is_one_line_and_loses_nothing(tmp_path: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))  # images need more

    with Site(pictures(80)) as site:
        assert_one_line(run(build(site, tmp_path / "w"), preexec_fn=limit), "File too large")
        assert not list((tmp_path / "w").rglob("*.tmp"))
        assert run(build(site, tmp_path / "w")).returncode == 0
        assert run(build(site, tmp_path / "other")).returncode == 0
    assert digests(tmp_path / "w") == digests(tmp_path / "other")


def test_what_safetensors_cannot_write_is_told_as_anything_else(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, before[1]))
    try:
        with (
            pytest.raises(WorkspaceError, match="cannot write weights: File too large"),
            Storage(str(tmp_path)).writing("weights") as temporary,
        ):
            save_file({"a": np.zeros(10_000)}, temporary)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not [*tmp_path.iterdir()]


def within(size_kb: int, disk: Path, kept: Path, command: Sequence[str]) -> list[str]:
    """Run the command with a disk of that size at `disk`, which begins and ends as `kept`."""
    script = (
        f"mount -t tmpfs -o size={size_kb}k none '{disk}' && cp -r '{kept}/.' '{disk}'; "
        f"\"$@\"; code=$?; rm -rf '{kept}'; cp -r '{disk}' '{kept}'; exit $code"
    )
    return [*TMPFS, script, "sh", *command]


@pytest.mark.parametrize("size_kb", [pytest.param(40, marks=pytest.mark.long), 150])
def test_whatever_a_full_disk_holds_the_next_run_goes_on_from_it(
    tmp_path: Path, size_kb: int
) -> None:
    disk, kept = tmp_path / "disk", tmp_path / "kept"
    disk.mkdir()
    kept.mkdir()
    if shutil.which("unshare") is None or run(within(99, disk, kept, ["true"])).returncode:
        pytest.skip("no file system of one's own can be mounted here")
    with Site(pictures(80)) as site:
        full = run(within(size_kb, disk, kept, build(site, disk)))
        assert_one_line(full, "No space left on device")
        assert not list(kept.rglob("*.tmp"))
        ended = run(within(100_000, disk, kept, build(site, disk)))
        assert ended.returncode == 0, ended.stderr
        assert run(build(site, tmp_path / "other")).returncode == 0
    assert digests(kept) == digests(tmp_path / "other")
