"""Exporting: other tools read what was published, byte for byte, or find nothing at all."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from support_publish import HOSTILE, files, make_workspace, picture, sample, samples

from surd.dataset.columns import PUBLISHED
from surd.dataset.export.run import FORMS, export
from surd.dataset.publish.run import publish
from surd.errors import SurdError, WorkspaceError
from surd.recipe.publish import PublishParams
from surd.sources.folder import FolderSource, pages
from surd.store import beside

SMALL = PublishParams(validation=0.2, test=0.2, row_group_rows=4, shard_mb=0.01)
SUFFIXES = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp", "image/gif": "gif"}


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    rows = [
        *samples(30),
        sample(30) | {"bytes": picture(3, "GIF"), "mime": "image/gif"},
        sample(31) | dict.fromkeys(["simple_prompt", "complex_prompt", "author"], HOSTILE),
        sample(32) | {"negative_prompt": "nul \0 here", "author": "", "cos_simple": float("nan")},
    ]
    publish(make_workspace(tmp_path / "w", [rows]), SMALL)
    return tmp_path / "w"


def rows_of(workspace: Path) -> dict[str, dict]:
    """Id -> row of everything published."""
    return {
        row["id"]: row
        for path in (workspace / "dataset").glob("*.parquet")
        for row in pq.read_table(path).to_pylist()
    }


# surd --------------------------------------------------------------------------------------------


def test_the_surd_form_holds_every_byte_and_both_prompts(workspace: Path, tmp_path: Path) -> None:
    summary = export(workspace, "surd", tmp_path / "out")
    expected = rows_of(workspace)
    assert sum(summary.splits.values()) == len(expected)
    seen = set()
    for metadata in (tmp_path / "out").glob("*/metadata.jsonl"):
        for line in metadata.read_bytes().decode("ascii").splitlines():
            said = json.loads(line)
            file = metadata.parent / said["file_name"]
            row = expected[file.stem]
            assert list(said) == ["file_name", "text", "prompt"]
            assert file.read_bytes() == row["image"]["bytes"]
            assert (said["text"], said["prompt"]) == (row["simple_prompt"], row["complex_prompt"])
            seen.add(file.stem)
    assert seen == set(expected)


def test_datasets_loads_the_surd_form_as_an_imagefolder(workspace: Path, tmp_path: Path) -> None:
    reason = "datasets is not installed; pip install datasets"
    datasets = pytest.importorskip("datasets", reason=reason)
    summary = export(workspace, "surd", tmp_path / "out")
    cache = str(tmp_path / "cache")
    found = datasets.load_dataset("imagefolder", data_dir=str(tmp_path / "out"), cache_dir=cache)
    assert {split: len(found[split]) for split in found} == summary.splits
    assert set(found["train"].column_names) == {"image", "text", "prompt"}
    assert found["train"][0]["image"].size == (32, 24)
    prompts = {row["simple_prompt"] for row in rows_of(workspace).values()}
    texts = {text for split in found for text in found[split]["text"]}
    assert texts == prompts and HOSTILE in texts


def test_surd_collects_what_it_exported(workspace: Path, tmp_path: Path) -> None:
    export(workspace, "surd", tmp_path / "out")
    params = FolderSource(path=str(tmp_path / "out" / "train"), captions="sidecar")
    records = [record for page in pages(params, None) for record in page.records]
    expected = rows_of(workspace)
    assert len(records) > 5
    for record in records:
        row = expected[Path(record.path or "").stem]
        assert record.prompt == row["complex_prompt"].strip()


# webdataset --------------------------------------------------------------------------------------


def test_webdataset_reads_pictures_captions_and_facts(workspace: Path, tmp_path: Path) -> None:
    wds = pytest.importorskip("webdataset", reason="pip install webdataset")
    summary = export(workspace, "webdataset", tmp_path / "out")
    expected = rows_of(workspace)
    count = 0
    for split in summary.splits:
        for found in wds.WebDataset(
            str(tmp_path / "out" / split / "00000.tar"), shardshuffle=False
        ):
            row = expected[found["__key__"]]
            (suffix,) = {"png", "jpg", "webp", "gif"} & set(found)
            assert found[suffix] == row["image"]["bytes"]
            assert found["txt"].decode() == row["simple_prompt"]
            said = json.loads(found["json"])
            assert said["complex_prompt"] == row["complex_prompt"]
            assert said["caption"] == row["simple_prompt"] and said["key"] == row["id"]
            assert said["sha256"] == row["sha256"] and said["status"] == "success"
            count += 1
    assert count == len(expected)


def test_tars_end_after_so_many_samples(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("surd.dataset.export.tars._MAX_SAMPLES", 4)
    summary = export(workspace, "webdataset", tmp_path / "out")
    paths = sorted((tmp_path / "out" / "train").iterdir())
    assert [path.name for path in paths] == [f"{n:05d}.tar" for n in range(len(paths))]
    counts = []
    for path in paths:
        with tarfile.open(path) as tar:
            names = tar.getnames()
        counts.append(len({name.partition(".")[0] for name in names}))
        assert len(names) == counts[-1] * 3
    assert sum(counts) == summary.splits["train"] and set(counts[:-1]) == {4}


def test_tars_end_where_their_bytes_are_full(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("surd.dataset.export.tars._MAX_BYTES", 1)
    summary = export(workspace, "webdataset", tmp_path / "out")
    assert len(list((tmp_path / "out" / "test").iterdir())) == summary.splits["test"]


# csv ---------------------------------------------------------------------------------------------


def test_csv_keeps_every_text_as_it_is(workspace: Path, tmp_path: Path) -> None:
    export(workspace, "csv", tmp_path / "out")
    expected = rows_of(workspace)
    count = 0
    for path in (tmp_path / "out").glob("*.csv"):
        text = path.read_bytes().decode()
        # Python before 3.11 cannot read NUL
        for row in csv.DictReader(io.StringIO(text.replace("\0", "\1"), newline="")):
            want = expected[row["id"]]
            assert list(row) == [name for name in PUBLISHED.names if name != "image"]
            for name in ("simple_prompt", "complex_prompt", "negative_prompt", "author", "url"):
                assert row[name].replace("\1", "\0") == (want[name] or "")
            assert float(row["cos_complex"]) == pytest.approx(want["cos_complex"])
            count += 1
    assert count == len(expected)


def test_csv_tells_null_from_empty(workspace: Path, tmp_path: Path) -> None:
    from pyarrow.csv import ConvertOptions, ParseOptions, read_csv

    export(workspace, "csv", tmp_path / "out")
    options = ConvertOptions(strings_can_be_null=True, quoted_strings_can_be_null=False)
    found = {
        row["id"]: row
        for path in (tmp_path / "out").glob("*.csv")
        for row in read_csv(
            path,
            convert_options=options,
            parse_options=ParseOptions(newlines_in_values=True),
        ).to_pylist()
    }
    assert found[sample(32)["id"]]["author"] == ""
    assert found[sample(1)["id"]]["negative_prompt"] is None
    assert found[sample(31)["id"]]["author"] == HOSTILE


# all forms ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_names_are_made_of_ids_and_exports_are_repeatable(
    workspace: Path, tmp_path: Path, form: str
) -> None:
    export(workspace, form, tmp_path / "a")
    export(workspace / "dataset", form, tmp_path / "b")
    found = files(tmp_path / "a")
    assert found.keys() == files(tmp_path / "b").keys() and found
    for name, content in files(tmp_path / "b").items():  # settings name the folder they are in
        moved = content.replace(str(tmp_path / "b").encode(), str(tmp_path / "a").encode())
        assert moved == found[name], name
    assert all("evil" not in name and "author" not in name for name in found)


def test_a_folder_source_does_not_take_an_export_inside_for_samples(
    workspace: Path, tmp_path: Path
) -> None:
    export(workspace, "kohya", tmp_path / "source" / "out")
    found = list(pages(FolderSource(path=str(tmp_path / "source")), None))
    assert [page.records for page in found] == [[]]
    assert found[0].seen.passed == {"folder that surd wrote": (1, "out/")}


@pytest.mark.parametrize("form", FORMS)
def test_a_stopped_export_leaves_nothing(workspace: Path, tmp_path: Path, form: str) -> None:
    def stop(counts: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(workspace, form, tmp_path / "out", stop)
    assert [path.name for path in tmp_path.iterdir()] == ["w"]
    ended = subprocess.run(
        [sys.executable, "-c", "from surd.store.processes import own_name; print(own_name())"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    (tmp_path / f".out.{ended}.surd-export.tmp").mkdir()  # of a run that was killed
    (tmp_path / f".out.{ended}.surd-export.tmp" / "half").touch()
    export(workspace, form, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "w"]
    assert "half" not in files(tmp_path / "out")


def test_of_two_exports_to_one_folder_one_is_whole_and_the_other_says_so(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meanwhile(counts: object) -> None:
        monkeypatch.setattr(beside, "own_name", lambda: "another.process")
        if not (tmp_path / "out").exists():
            export(workspace, "kohya", tmp_path / "out")

    with pytest.raises(SurdError, match="not empty"):
        export(workspace, "kohya", tmp_path / "out", meanwhile)
    export(workspace, "kohya", tmp_path / "alone")
    assert {path.name for path in tmp_path.iterdir()} == {"alone", "out", "w"}
    in_out, alone = (
        {path.name for path in (tmp_path / name).rglob("*")} for name in ("out", "alone")
    )
    assert in_out == alone


def test_nothing_is_overwritten(workspace: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    (tmp_path / "file").touch()
    for name in ("full", "file"):
        with pytest.raises(SurdError, match="already exists"):
            export(workspace, "csv", tmp_path / name)
    (tmp_path / "empty").mkdir()
    export(workspace, "csv", tmp_path / "empty")


def test_what_cannot_be_exported_is_said_in_one_line(workspace: Path, tmp_path: Path) -> None:
    with pytest.raises(SurdError, match="unknown format; formats: imagefolder, surd, diff"):
        export(workspace, "zip", tmp_path / "out")
    with pytest.raises(SurdError, match=r"no published dataset; first run: surd publish"):
        export(tmp_path, "csv", tmp_path / "out")


def test_a_damaged_file_is_said_in_one_line(workspace: Path, tmp_path: Path) -> None:
    shard = workspace / "dataset" / "train-00000-of-00003.parquet"
    shard = shard if shard.exists() else next((workspace / "dataset").glob("train-00000-*"))
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(WorkspaceError, match=r"train-00000.*cannot be read") as error:
        export(workspace, "surd", tmp_path / "out")
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


def test_an_id_that_leads_out_of_the_folder_is_refused(workspace: Path, tmp_path: Path) -> None:
    import pyarrow as pa

    path = next((workspace / "dataset").glob("train-00000-*"))
    rows = pq.read_table(path).to_pylist()
    rows[0]["id"] = "../../evil"
    rows[0]["image"]["path"] = "../../evil.png"
    pq.write_table(pa.Table.from_pylist(rows, PUBLISHED), path)
    for form in ("surd", "webdataset"):
        with pytest.raises(SurdError, match="does not have an id as surd writes them"):
            export(workspace, form, tmp_path / "out")


def test_a_dataset_on_a_remote_store_is_exported_alike(workspace: Path, tmp_path: Path) -> None:
    export(workspace, "csv", tmp_path / "a")
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.put(str(workspace / "dataset"), f"{tmp_path}/dataset", recursive=True)
    export(f"memory://{tmp_path}", "csv", tmp_path / "b")
    assert files(tmp_path / "a") == files(tmp_path / "b")
