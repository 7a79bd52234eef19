"""What collecting tells at its end: nothing is lost in silence."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from conftest import Ran
from PIL import Image, PngImagePlugin
from support_shards import write_tar

from surd.report.dataset.sections import sections
from surd.stages import collect as collect_stage
from surd.stages.collected import collected
from surd.store.workspace import Workspace

Surd = Callable[..., Ran]
INFOTEXT = "a cup\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 42, Size: 8x8"


def png(seed: int, parameters: str | None = None) -> bytes:
    info = PngImagePlugin.PngInfo()
    if parameters:
        info.add_text("parameters", parameters)
    file = BytesIO()
    Image.new("RGB", (8, 8), (seed % 256, seed // 256, 0)).save(file, "PNG", pnginfo=info)
    return file.getvalue()


def write(folder: Path, files: dict[str, bytes | str]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(
        tmp_path / "f",
        {
            "1.png": png(1, INFOTEXT), "1.txt": "a white cup", "2.png": png(2), "2.txt": "a mug",
            "3.png": png(3), "4.png": png(4), "4.txt": b"a\x01\x02", "a.psd": "", "b/a.psd": "",
        },
    )  # fmt: skip


def build(surd: Surd, out: Path, *more: object, kind: str, path: Path) -> Ran:
    recipe = out.parent / "r.json"
    recipe.write_text(json.dumps({"name": "r", "sources": [{"kind": kind, "path": str(path)}]}))
    return surd("build", recipe, "-o", out, "--until", "prompts", *more)


def test_the_table_tells_what_was_found_and_what_was_not(
    surd: Surd, tmp_path: Path, folder: Path
) -> None:
    ran = build(surd, tmp_path / "w", kind="folder", path=folder)
    assert (ran.code, ran.err) == (0, "")
    lines = [" ".join(line.split()) for line in ran.out.splitlines() if line.startswith("  ")]
    wanted = [
        "files seen 9",
        "images 4",
        "with a prompt 2",
        "AUTOMATIC1111 1",
        "generator not stated 1",
        "with a simple prompt 1",
        "without a prompt 2",
        "text not understood 1",
        "file beside the image 1 such as 4.png: 4.txt: holds control characters",
        "passed over 2",
        ".psd 2 such as a.psd",
    ]
    assert [a[: len(b)] for a, b in zip(lines, wanted, strict=True)] == wanted
    status = surd("status", tmp_path / "w").out
    assert [" ".join(line.split()) for line in status.splitlines()][1 : 1 + len(lines)] == lines
    again = build(surd, tmp_path / "w", kind="folder", path=folder)
    assert "files seen" not in again.out, "nothing was collected"


def test_machines_are_told_the_same(surd: Surd, tmp_path: Path, folder: Path) -> None:
    ran = build(surd, tmp_path / "w", "--json", kind="folder", path=folder)
    found = json.loads(ran.out)["stages"][0]["found"]
    status = json.loads(surd("status", tmp_path / "w", "--json").out)
    assert status["groups"]["samples"]["found"] == found
    assert found["passed_over"] == {".psd": {"count": 2, "example": "a.psd"}}
    assert (found["files_seen"], found["images"], found["with_prompt"]) == (9, 4, 2)


def test_the_report_shows_it_and_hides_what_strangers_wrote_in_names(
    surd: Surd, tmp_path: Path, folder: Path
) -> None:
    write(folder, {"<script>.x": ""})
    build(surd, tmp_path / "w", kind="folder", path=folder)
    found, _ = sections(Workspace(tmp_path / "w"))
    (section,) = [section for section in found if section.id == "sources"]
    assert "AUTOMATIC1111" in section.body and "holds control characters" in section.body
    assert "&lt;script&gt;.x" in section.body and "<script>" not in section.body


def test_collecting_again_counts_anew_and_not_twice(
    surd: Surd, tmp_path: Path, folder: Path
) -> None:
    build(surd, tmp_path / "w", kind="folder", path=folder)
    workspace = Workspace(tmp_path / "w")
    before = collected(workspace).as_json()
    assert surd("collect", tmp_path / "w").code == 0
    assert collected(workspace).as_json() == before
    write(folder, {"5.png": png(5), "c.psd": "", "c.mp4": ""})
    (folder / "1.txt").write_text("a blue cup")
    ran = surd("collect", tmp_path / "w", "--refresh")
    assert "1 new, 1 changed" in ran.out
    after = collected(workspace).as_json()
    assert (after["files_seen"], after["images"], after["with_prompt"]) == (12, 5, 2)
    assert after["passed_over"][".psd"]["count"] == 3


def test_what_was_met_is_counted_once_however_often_collecting_is_interrupted(
    surd: Surd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {f"{i:03}.{suffix}": png(i) for i in range(350) for suffix in ("png", "psd")}
    folder = write(tmp_path / "f", files)  # type: ignore[arg-type]
    build(surd, tmp_path / "whole", "--set", "part_size=64", kind="folder", path=folder)
    row_of, left = collect_stage.row_of, 0

    def stopped(*arguments: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return row_of(*arguments)

    monkeypatch.setattr(collect_stage, "row_of", stopped)
    for _ in range(20):
        left = 137
        ran = build(surd, tmp_path / "w", "--set", "part_size=64", kind="folder", path=folder)
        if ran.code == 0:
            break
    assert ran.code == 0
    whole = collected(Workspace(tmp_path / "whole")).as_json()
    assert collected(Workspace(tmp_path / "w")).as_json() == whole
    assert (whole["files_seen"], whole["passed_over"][".psd"]["count"]) == (700, 350)


def test_a_limit_that_is_raised_counts_no_file_twice(surd: Surd, tmp_path: Path) -> None:
    folder = write(tmp_path / "f", {f"{i:03}.png": png(i) for i in range(150)})
    for limit in (30, 60, 150):
        more = ("--set", f"sources.0.limit={limit}")
        build(surd, tmp_path / "w", *more, kind="folder", path=folder)
    found = collected(Workspace(tmp_path / "w")).as_json()
    assert (found["files_seen"], found["images"]) == (150, 150)


def test_a_source_without_images_tells_what_it_passed_over(surd: Surd, tmp_path: Path) -> None:
    folder = write(tmp_path / "f", {"a.psd": "", "b.psd": "", "c.txt": "x"})
    ran = build(surd, tmp_path / "w", kind="folder", path=folder)
    assert ran.code == 2
    assert "there are no images; passed over: 2 .psd (a.psd), 1 .txt of no image (c.txt)" in ran.err
    tar = write_tar(tmp_path / "a.tar", {"1.txt": "x", "2.npy": b""})
    ran = build(surd, tmp_path / "w", kind="webdataset", path=tar)
    assert ran.code == 2 and "1 .npy (a.tar::2.npy)" in ran.err


def test_a_table_without_urls_or_paths_is_refused(surd: Surd, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("subject,prompt\n1,a cup\n")
    ran = build(surd, tmp_path / "w", kind="table", path=tmp_path / "t.csv")
    assert ran.code == 2
    assert "no column of urls or paths; name one with url_column or path_column" in ran.err
    assert not (tmp_path / "w" / "surd.json").exists()


def test_captions_of_one_image_are_its_candidates(surd: Surd, tmp_path: Path) -> None:
    write(tmp_path, {"a.png": png(1), "t.csv": "path,caption\na.png,one\na.png,two\na.png,three\n"})
    ran = build(surd, tmp_path / "w", kind="table", path=tmp_path / "t.csv")
    assert "1 new, 0 already known" in ran.out
    (row,) = Workspace(tmp_path / "w").read("samples", 0).to_pylist()
    assert (row["prompt"], row["simple_prompt"], row["captions"]) == ("one", "two", ["three"])


NEAR = [folder / "shared" / "cases" / "other" for folder in Path(__file__).parents]
CASES = next(filter(Path.is_dir, NEAR), NEAR[0])


@pytest.mark.skipif(not CASES.is_dir(), reason="needs the bug reports' files, shared/cases/other")
@pytest.mark.parametrize(
    ("kind", "name", "prompts"),
    [
        ("webdataset", "a_prefixed.tar", ["a tin kettle", "a wicker chair"]),
        ("webdataset", "c_not_adjacent.tar", ["a tin kettle", "a wicker chair"]),
        ("webdataset", "h_upper.tar", ["a red door", "a tin kettle", "a wicker chair"]),
        ("folder", "imagefolder_backslash", ["a tin kettle"]),
        ("folder", "imagefolder_csv", ["a tin kettle", "a wicker chair"]),
        ("table", "tables/a_semicolon.csv", ["a kettle, steaming, in a blue kitchen", "a spoon"]),
        ("table", "tables/h_no_header.csv", ["a kettle", "a spoon"]),
        ("table", "tables/k_array.json", ["a kettle", "a spoon"]),
        ("table", "same_image_three_captions/t.csv", ["a kettle on a stove", "a wicker chair"]),
    ],
)
def test_the_cases_of_bug_reports(
    surd: Surd, tmp_path: Path, kind: str, name: str, prompts: list[str]
) -> None:
    ran = build(surd, tmp_path / "w", kind=kind, path=CASES / name)
    assert ran.code == 0
    rows = Workspace(tmp_path / "w").read("samples", 0).to_pylist()
    assert sorted(row["prompt"] for row in rows) == prompts
    statuses = Workspace(tmp_path / "w").read("images", 0)["status"].to_pylist()
    assert set(statuses) == {"ok"}


def test_images_that_are_gone_are_told_by_every_later_command(
    surd: Surd, tmp_path: Path, folder: Path
) -> None:
    out = tmp_path / "w"
    assert "gone since" not in build(surd, out, kind="folder", path=folder).out
    (folder / "2.png").unlink()
    told = [surd("collect", out, "--refresh"), surd("status", out)]
    found = collected(Workspace(out))
    assert (found.seen.files, found.tally.images, found.gone) == (8, 3, 1)
    assert all(re.search(r"files seen +8\n +images +3\n", ran.out) for ran in told)
    assert all(re.search(r"gone since, which the filter drops +1\n", ran.out) for ran in told)
    (folder / "2.png").write_bytes(png(2))
    surd("collect", out, "--refresh")
    assert "gone since" not in surd("status", out).out
    found = collected(Workspace(out))
    assert (found.seen.files, found.tally.images, found.gone) == (9, 4, 0)
