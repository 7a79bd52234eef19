"""surd report, from the command line."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support_publish import RECIPE, make_workspace, samples

from surd.pages.text import bytes_
from surd.report.write import report

Surd = Callable[..., Any]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_workspace(tmp_path / "my-data", [samples(6), samples(6, start=6)])
    return tmp_path / "my-data"


def test_the_report_is_one_file_in_the_workspace_and_its_path_and_size_are_told(
    surd: Surd, folder: Path
) -> None:
    ran = surd("report", folder)
    path = folder / "report" / "index.html"
    assert ran.code == 0 and ran.err == ""
    size = bytes_(path.stat().st_size)
    assert ran.out == f"{path}: {size}, one file; open it in a browser\n"
    page = path.read_text("utf-8")
    assert "<title>my-data</title>" in page and "tiny: A tiny dataset" in page
    assert [path.name for path in (folder / "report").iterdir()] == ["index.html"]


def test_it_goes_where_it_is_told_and_speaks_json(surd: Surd, folder: Path, tmp_path: Path) -> None:
    wanted = tmp_path / "out" / "look.html"
    ran = surd("report", f"{folder}/", "-o", wanted, "--json")
    assert ran.json["location"] == str(wanted) and ran.json["bytes"] == wanted.stat().st_size
    assert ran.json["sections"][:2] == ["funnel", "sources"]
    assert surd("report", folder, "-o", tmp_path / "out").code == 0
    assert (tmp_path / "out" / "index.html").read_bytes() == wanted.read_bytes()
    assert not (folder / "report").exists()


def test_a_page_that_is_no_report_is_not_replaced(surd: Surd, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    for name in ("site/index.html", "thesis.html"):
        (tmp_path / name).write_text("<p>mine</p>")
    for output in ("site", "thesis.html"):
        ran = surd("report", folder, "-o", tmp_path / output)
        assert ran.code == 2 and "not a surd report" in ran.err and ran.err.count("\n") == 1
    assert (tmp_path / "site" / "index.html").read_text() == "<p>mine</p>"
    assert surd("report", folder, "-o", tmp_path / "new.html").code == 0
    assert surd("report", folder, "-o", tmp_path / "new.html").code == 0, "its own is replaced"


def test_a_published_dataset_is_the_end_of_the_funnel_until_the_verdicts_change(
    surd: Surd, folder: Path
) -> None:
    recipe = json.loads((folder / "surd.json").read_text())
    recipe["recipe"] |= {"filter": {"min_side": 16, "clip_threshold": 0.1}}
    (folder / "surd.json").write_text(json.dumps(recipe))
    for command in ("filter", "publish"):
        assert surd(command, folder, "-q").code == 0

    def page() -> str:
        surd("report", folder, "-q")
        return (folder / "report" / "index.html").read_text("utf-8")

    before = page()
    assert '<th scope="row">published</th>' in before and "Times and rates" in before
    outdated = "not what today's verdicts"
    assert outdated not in before
    assert surd("filter", folder, "-q", "--clip-threshold", "0.205").code == 0
    assert outdated in page()


def test_next_to_a_finished_dataset_the_report_is_named(surd: Surd, folder: Path) -> None:
    surd("filter", folder, "-q", "--set", "filter.min_side=16", "--clip-threshold", "0.1")
    ran = surd("publish", folder, "-q")
    assert ran.out.splitlines()[-1].startswith(f"next: surd report {folder}, or surd push")


def test_what_is_no_workspace_and_no_run_is_told_in_one_line(surd: Surd, tmp_path: Path) -> None:
    ran = surd("report", tmp_path)
    assert ran.code == 2 and ran.out == "" and ran.err.count("\n") == 1
    assert f"{tmp_path}: neither a workspace" in ran.err and "surd build" in ran.err


def test_a_damaged_part_is_told_in_one_line_and_the_old_report_stays(
    surd: Surd, folder: Path
) -> None:
    surd("report", folder, "-q")
    before = (folder / "report" / "index.html").read_bytes()
    path = folder / "prompts" / "part-00000.parquet"
    path.write_bytes(path.read_bytes()[:-10])
    ran = surd("report", folder, "-q")
    assert ran.code == 2 and "prompts/part-00000.parquet: damaged" in ran.err
    assert (folder / "report" / "index.html").read_bytes() == before


def test_a_workspace_behind_fsspec_has_its_report_there(folder: Path) -> None:
    import fsspec

    where = f"memory://{uuid.uuid4().hex}/my-data"
    fs = fsspec.filesystem("memory")
    make_workspace(where, [samples(6)], recipe=RECIPE)
    written = report(where)
    assert written.location == f"{where}/report/index.html"
    assert fs.size(written.location) == written.bytes > 800_000
    shutil.rmtree(folder)
