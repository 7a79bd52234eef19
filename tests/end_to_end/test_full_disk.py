"""A disk that fills up: one line, nothing half written, and the next run goes on."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

from support import digests, pictures

from surd.demo.site import Site


def build(site: Site, folder: Path, *, max_file_bytes: int | None) -> subprocess.CompletedProcess:
    def limit() -> None:
        if max_file_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (max_file_bytes, max_file_bytes))

    return subprocess.run(
        [
            *(sys.executable, "-m", "surd", "build", "civitai", "-o", str(folder), "-q"),
            *("--set", f"sources.0.base_url={site.url}", "--set", "sources.0.requests_per_s=1000"),
            *("--set", "download.allow_private_addresses=true", "--set", "part_size=40"),
            *("--set", "until=prompts"),
        ],
        preexec_fn=limit,
        check=False,
        capture_output=True,
        text=True,
    )


def test_a_write_that_fails_is_one_line_and_loses_nothing(tmp_path: Path) -> None:
    with Site(pictures(80)) as site:
        full = build(site, tmp_path / "w", max_file_bytes=30_000)  # images need more
        assert full.returncode == 2
        assert full.stderr.startswith("surd: ")
        assert len(full.stderr.strip().splitlines()) == 1
        assert "Traceback" not in full.stderr
        assert not list((tmp_path / "w").rglob("*.tmp"))
        assert build(site, tmp_path / "w", max_file_bytes=None).returncode == 0
        assert build(site, tmp_path / "other", max_file_bytes=None).returncode == 0
    assert digests(tmp_path / "w") == digests(tmp_path / "other")
