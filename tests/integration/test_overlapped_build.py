"""A build whose stages run side by side, in processes where there is much to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import digests, pictures
from support_faults import small_settings

from surd.demo.site import Site
from surd.engine import local

Surd = Callable[..., Any]


def build(surd: Surd, site: Site, folder: Path) -> Any:
    settings = small_settings(site, until="prompts", part_size="20")
    return surd("build", "civitai", "-o", folder, "--json", "-q", *settings)


def test_a_download_in_a_process_of_its_own_gives_the_same_bytes_and_no_line_more(
    surd: Surd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = pictures(50, p5="not_found", p21="truncated_file", p30="corrupt")
    with Site(shown) as site:
        here = build(surd, site, tmp_path / "here")
        monkeypatch.setattr(local, "_ROWS_WORTH_A_PROCESS", 1)
        apart = build(surd, site, tmp_path / "apart")
    assert (here.code, apart.code, apart.err) == (0, 0, here.err)
    assert digests(tmp_path / "apart") == digests(tmp_path / "here")
    assert len(digests(tmp_path / "apart")) == 9
