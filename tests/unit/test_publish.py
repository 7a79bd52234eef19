"""Publishing: what is in ``dataset/``, and that it is there whole or not at all."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError
from support_publish import (
    RECIPE,
    dropped,
    files,
    make_workspace,
    picture,
    remote_files,
    sample,
    samples,
    write_group,
)

from surd.dataset.columns import LATER, PUBLISHED
from surd.dataset.publish.rows import with_images
from surd.dataset.publish.run import publish
from surd.dataset.publish.split import split_of
from surd.dataset.published import batches, open_published, row_reader
from surd.errors import SurdError, WorkspaceError
from surd.recipe.publish import PublishParams
from surd.store.workspace import Manifest, Workspace

SMALL = PublishParams(validation=0.2, test=0.2, row_group_rows=4, shard_mb=0.01)


STYLES = ("dense", "tags")


def table(folder: Path) -> list[dict]:
    return [
        row
        for path in sorted((folder / "dataset").glob("*.parquet"))
        for row in pq.read_table(path).to_pylist()
    ]


def ids(folder: Path, split: str) -> set[str]:
    paths = (folder / "dataset").glob(f"{split}-*.parquet")
    return {id_ for path in paths for id_ in pq.read_table(path)["id"].to_pylist()}


def test_every_kept_sample_is_published_with_its_own_bytes(tmp_path: Path) -> None:
    rows = samples(9), [dropped(20, "small"), *samples(5, 30)]
    summary = publish(make_workspace(tmp_path, rows), SMALL, styles=STYLES)
    kept = {row["id"]: row for row in [*rows[0], *rows[1][1:]]}
    found = table(tmp_path)
    assert {row["id"] for row in found} == set(kept) and len(found) == len(kept)
    for row in found:
        expected = kept[row["id"]]
        image = row.pop("image")
        assert hashlib.sha256(image["bytes"]).hexdigest() == expected["sha256"]
        suffix = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}[expected["mime"]]
        assert image["path"] == f"{row['id']}.{suffix}"
        assert row == pytest.approx({name: expected[name] for name in row})
    assert (summary.state, summary.collected, sum(summary.splits.values())) == ("written", 15, 14)
    assert summary.dropped == {"small": 1}


def test_dense_captions_and_tags_are_published_where_they_are_asked_for(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, [samples(4), samples(4, 10)])
    publish(workspace, SMALL, styles=["tags"])
    assert {row["dense_caption"] for row in table(tmp_path)} == {None}
    assert {row["tags"] for row in table(tmp_path)} > {"cup, red, number 0", "cup, red, number 10"}
    assert publish(workspace, SMALL, styles=["tags"]).state == "fresh"
    assert publish(workspace, SMALL).state == "written"
    assert {row["tags"] for row in table(tmp_path)} == {None}
    (tmp_path / "dense" / "part-00001.parquet").unlink()
    with pytest.raises(SurdError, match=r"no dense yet; first run: surd caption"):
        publish(workspace, SMALL, styles=STYLES)


def test_files_of_earlier_versions_have_neither_and_are_read(tmp_path: Path) -> None:
    publish(make_workspace(tmp_path, [samples(6)]), SMALL)
    for path in (tmp_path / "dataset").glob("*.parquet"):
        pq.write_table(pq.read_table(path).drop_columns(list(LATER)), path)
    dataset = open_published(str(tmp_path))
    [whole] = batches(dataset, "train")
    assert whole.schema.names == PUBLISHED.names and whole["tags"].null_count == len(whole)
    [some] = batches(dataset, "train", ["tags", "id"])
    assert some.schema.names == ["tags", "id"] and some["id"].null_count == 0
    [row] = row_reader(dataset, "train", ["id", "dense_caption"])([0])
    assert row == {"id": whole["id"][0].as_py(), "dense_caption": None}


def test_files_are_cut_by_rows_and_bytes(tmp_path: Path) -> None:
    publish(make_workspace(tmp_path, [samples(60)]), SMALL)
    paths = sorted((tmp_path / "dataset").glob("train-*.parquet"))
    assert len(paths) > 1
    assert [p.name for p in paths] == [
        f"train-{n:05d}-of-{len(paths):05d}.parquet" for n in range(len(paths))
    ]
    for path in paths:
        found = pq.ParquetFile(path)
        assert found.schema_arrow.equals(PUBLISHED, check_metadata=True)
        counts = [found.metadata.row_group(n).num_rows for n in range(found.num_row_groups)]
        assert max(counts) <= 4
        sizes = [len(row["bytes"]) for row in found.read()["image"].to_pylist()]
        assert sum(sizes) <= 10_000


def test_a_row_group_ends_where_its_megabytes_are_full(tmp_path: Path) -> None:
    size = len(picture(0))
    params = PublishParams(validation=0, test=0, row_group_mb=size * 2.5 / 1e6)
    publish(make_workspace(tmp_path, [samples(6, bytes=picture(0))]), params)
    found = pq.ParquetFile(tmp_path / "dataset" / "train-00000-of-00001.parquet")
    assert [found.metadata.row_group(n).num_rows for n in range(found.num_row_groups)] == [2, 2, 2]


def test_near_duplicates_share_a_split_and_nothing_moves_as_the_dataset_grows(
    tmp_path: Path,
) -> None:
    def cluster(number: int) -> str:
        return f"{number // 4:032x}"

    publish(make_workspace(tmp_path / "a", [samples(80, cluster=cluster)]), SMALL)
    more = [samples(80, cluster=cluster), samples(80, 80, cluster=cluster)]
    publish(make_workspace(tmp_path / "b", more), SMALL)
    for split in ("train", "validation", "test"):
        found = ids(tmp_path / "a", split)
        assert found and len(found) % 4 == 0
        assert found <= ids(tmp_path / "b", split)


def test_images_of_more_than_2_gib_in_one_batch_are_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count, size = 50, 50_000_000
    pages = np.zeros(count * size, np.uint8)  # the system has no memory for it until it is read
    pages[::size] = range(count)
    ends = pa.py_buffer(np.arange(count + 1, dtype=np.int64) * size)
    column = pa.Array.from_buffers(pa.large_binary(), count, [None, ends, pa.py_buffer(pages)])
    workspace = Workspace(tmp_path)
    monkeypatch.setattr(workspace, "read_batches", lambda *_: iter([pa.table({"bytes": column})]))
    columns = {name: pa.nulls(count, PUBLISHED.field(name).type) for name in PUBLISHED.names}
    columns |= {"id": pa.array(map(str, range(count))), "mime": pa.repeat("image/png", count)}
    mask = pa.array([number != 3 for number in range(count)])
    first_bytes, rows = [], 0
    for table in with_images(workspace, 0, pa.table(columns), mask):
        images = pc.struct_field(table["image"], "bytes")
        assert set(pc.binary_length(images).to_pylist()) == {size}
        first_bytes += [bytes(one.as_buffer()[:1])[0] for one in images]
        rows += table.num_rows
    assert rows == count - 1
    assert first_bytes == [number for number in range(count) if number != 3]


def test_shares_are_kept_and_test_does_not_depend_on_validation() -> None:
    keys = [f"{n:032x}" for n in range(20_000)]
    found = [split_of(key, PublishParams(validation=0.1, test=0.05)) for key in keys]
    assert found.count("test") / len(keys) == pytest.approx(0.05, abs=0.005)
    assert found.count("validation") / len(keys) == pytest.approx(0.1, abs=0.008)
    other = [split_of(key, PublishParams(validation=0.3, test=0.05)) for key in keys]
    assert [s == "test" for s in found] == [s == "test" for s in other]


def test_a_split_without_samples_is_not_written(tmp_path: Path) -> None:
    summary = publish(make_workspace(tmp_path, [samples(3)]), PublishParams(validation=0, test=0))
    assert summary.splits == {"train": 3}
    assert [p.name for p in (tmp_path / "dataset").glob("*.parquet")] == [
        "train-00000-of-00001.parquet"
    ]


def test_shares_beyond_the_whole_are_refused() -> None:
    with pytest.raises(ValidationError, match="add up to more than 1"):
        PublishParams(validation=0.6, test=0.6)


def test_the_same_samples_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        publish(make_workspace(tmp_path / name, [samples(20), samples(20, 20)]), SMALL)
    assert files(tmp_path / "a" / "dataset") == files(tmp_path / "b" / "dataset")


def test_nothing_is_written_when_nothing_changed(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, [samples(20)])
    publish(workspace, SMALL)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "dataset").iterdir()}
    assert publish(workspace, SMALL).state == "fresh"
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "dataset").iterdir()} == before


def test_other_verdicts_publish_anew(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, [samples(20)])
    publish(workspace, SMALL)
    write_group(workspace, "verdicts", 0, [*samples(19), dropped(19, "clip_threshold")])
    summary = publish(workspace, SMALL)
    assert summary.state == "written" and summary.dropped == {"clip_threshold": 1}
    assert sample(19)["id"] not in {row["id"] for row in table(tmp_path)}
    fresh = make_workspace(tmp_path / "other", [[*samples(19), dropped(19, "clip_threshold")]])
    publish(fresh, SMALL)
    assert files(tmp_path / "dataset") == files(tmp_path / "other" / "dataset")


def test_a_lost_or_cut_file_is_written_anew(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, [samples(20)])
    publish(workspace, SMALL)
    before = files(tmp_path / "dataset")
    shard = next((tmp_path / "dataset").glob("train-00000-*"))
    for break_it in (shard.unlink, lambda: shard.write_bytes(b"PAR1")):
        break_it()
        assert publish(workspace, SMALL).state == "written"
        assert files(tmp_path / "dataset") == before


def test_what_concerns_the_card_alone_leaves_the_shards_alone(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, [samples(20)])
    publish(workspace, SMALL)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "dataset").glob("*.parquet")}
    workspace.write_manifest(Manifest(recipe=RECIPE | {"description": "Another description"}))
    assert publish(workspace, SMALL.model_copy(update={"licence": "mit"})).state == "card"
    text = (tmp_path / "dataset" / "README.md").read_text()
    assert "Another description" in text and "license: mit" in text
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "dataset").glob("*.parquet")} == before


def test_settings_of_what_is_made_from_a_dataset_are_not_on_its_card(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, [samples(9)])
    publish(workspace, SMALL)
    later = {"embed_llm": {"model": "some/model"}, "train_adapter": {"steps": 7}}
    workspace.write_manifest(
        workspace.read_manifest().model_copy(update={"recipe": RECIPE | later})
    )
    assert publish(workspace, SMALL).state == "fresh"
    assert "train_adapter" not in (tmp_path / "dataset" / "README.md").read_text()


def test_a_lost_card_is_written_anew_and_nothing_else(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, [samples(9)])
    publish(workspace, SMALL)
    before = files(tmp_path / "dataset")
    (tmp_path / "dataset" / "README.md").unlink()
    assert publish(workspace, SMALL).state == "card"
    assert files(tmp_path / "dataset") == before


@pytest.mark.parametrize("name", ["README.md", "croissant.json"])
@pytest.mark.parametrize("change", [{"licence": "mit"}, {"test": 0.5}], ids=["card", "shards"])
def test_a_text_that_somebody_wrote_is_not_replaced(
    tmp_path: Path, name: str, change: dict[str, Any]
) -> None:
    workspace = make_workspace(tmp_path, [samples(9)])
    publish(workspace, SMALL)
    path = tmp_path / "dataset" / name
    path.unlink()
    path.write_text("mine")
    assert publish(workspace, SMALL).state == "fresh"
    before = files(tmp_path)
    other = SMALL.model_copy(update=change)
    with pytest.raises(WorkspaceError, match=f"dataset/{name}: not as surd publish left it; move"):
        publish(workspace, other)
    assert files(tmp_path) == before
    path.rename(tmp_path / "mine")
    assert publish(workspace, other).state in ("card", "written")
    assert publish(workspace, SMALL).state in ("card", "written"), "its own is replaced"


def test_without_duplicates_or_clip_the_rest_is_published(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, [samples(4)], without=("duplicates", "clip"))
    publish(workspace, SMALL)
    (row,) = [row for row in table(tmp_path) if row["source_id"] == "2"]
    assert row["cluster"] == row["id"]
    assert row["simple_prompt"] == "a red cup 2" and row["cos_simple"] is None
    assert "No scores" in (tmp_path / "dataset" / "README.md").read_text()


@pytest.mark.parametrize(
    ("group", "command"),
    [
        ("samples", "collect"),
        ("images", "download"),
        ("prompts", "prompts"),
        ("captions", "caption"),
        ("verdicts", "filter"),
    ],
)
def test_a_missing_group_names_the_command_to_run(tmp_path: Path, group: str, command: str) -> None:
    workspace = make_workspace(tmp_path, [samples(2)], without=(group,))
    with pytest.raises(SurdError, match=rf"no {group}.*surd {command} {tmp_path}$") as error:
        publish(workspace, SMALL)
    assert "\n" not in str(error.value)


def test_a_group_with_parts_missing_is_no_absent_group(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, [samples(2), samples(2, 2), samples(2, 4)])
    (tmp_path / "clip" / "part-00001.parquet").unlink()
    with pytest.raises(SurdError, match=r"no clip.*surd score"):
        publish(workspace, SMALL)


def test_parts_of_other_samples_are_refused(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, [samples(3)])
    write_group(workspace, "verdicts", 0, samples(3, 1))
    with pytest.raises(WorkspaceError, match=r"verdicts/part-00000.*samples are not those"):
        publish(workspace, SMALL)


def test_nothing_kept_is_one_clear_line(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, [[dropped(1, "small"), dropped(2, "small", "nsfw")]])
    with pytest.raises(
        SurdError, match=r"none of the 2 samples is kept \(dropped for small 2, nsfw 1"
    ):
        publish(workspace, SMALL)
    assert not (tmp_path / "dataset").exists()


def test_a_kept_sample_that_lacks_something_is_not_published(tmp_path: Path) -> None:
    rows = [
        sample(0),
        sample(1) | {"status": "timeout", "bytes": None},
        sample(2) | {"simple_prompt": None},
        sample(3) | {"complex_prompt": None},
    ]
    assert publish(make_workspace(tmp_path, [rows]), SMALL).splits.popitem()[1] == 1


def test_passwords_in_urls_are_not_published(tmp_path: Path) -> None:
    rows = samples(2, url="https://me:secret@images.example/a.png?x=1@2", page_url="http://[")
    publish(make_workspace(tmp_path, [rows]), SMALL)
    assert {row["url"] for row in table(tmp_path)} == {"https://images.example/a.png?x=1@2"}


def test_a_folder_of_someone_else_is_left_alone(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, [samples(2)])
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "thesis.txt").write_text("mine")
    with pytest.raises(WorkspaceError, match="surd did not write"):
        publish(workspace, SMALL)
    assert files(tmp_path / "dataset") == {"thesis.txt": b"mine"}


def test_files_added_to_a_dataset_survive_publishing_again(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, [samples(5)])
    publish(workspace, SMALL)
    (tmp_path / "dataset" / ".git").mkdir()
    (tmp_path / "dataset" / ".git" / "config").write_text("mine")
    (tmp_path / "dataset" / "train-mine.parquet").write_text("mine")
    write_group(workspace, "verdicts", 0, [*samples(4), dropped(4, "small")])
    publish(workspace, SMALL)
    assert (tmp_path / "dataset" / ".git" / "config").read_text() == "mine"
    assert (tmp_path / "dataset" / "train-mine.parquet").read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith("dataset")) == ["dataset"]


@pytest.mark.parametrize("name", ["dataset.old", "dataset.tmp-mine"])
def test_a_copy_of_the_dataset_made_by_hand_survives_publishing_again(
    tmp_path: Path, name: str
) -> None:
    workspace = make_workspace(tmp_path, [samples(5)])
    publish(workspace, SMALL)
    (tmp_path / "dataset").rename(tmp_path / name)
    (tmp_path / name / "notes.txt").write_text("mine")
    before = files(tmp_path / name)
    write_group(workspace, "verdicts", 0, [*samples(4), dropped(4, "small")])
    for _ in range(2):
        publish(workspace, SMALL)
        assert files(tmp_path / name) == before
    assert "notes.txt" not in files(tmp_path / "dataset")


def test_a_remote_workspace_is_published_alike(tmp_path: Path) -> None:
    rows = [samples(12), samples(12, 12)]
    publish(make_workspace(tmp_path, rows), SMALL)
    workspace = make_workspace(f"memory://{tmp_path}", rows)
    assert publish(workspace, SMALL).state == "written"
    assert remote_files(workspace) == files(tmp_path / "dataset")
    assert publish(workspace, SMALL).state == "fresh"
    assert not [name for name in workspace.storage.names("") if name.startswith("dataset.")]


def test_a_file_that_only_looks_like_a_shard_stays(tmp_path: Path) -> None:
    rows = samples(3)
    workspace = make_workspace(tmp_path, [rows])
    publish(workspace, SMALL)
    theirs = tmp_path / "dataset" / "train-00007-of-00009.parquet"
    theirs.write_bytes(b"of somebody else")
    write_group(workspace, "verdicts", 0, [rows[0] | {"keep": False}, *rows[1:]])
    assert publish(workspace, SMALL).state == "written"
    assert theirs.read_bytes() == b"of somebody else"


def test_images_without_a_complex_prompt_are_published_when_that_is_asked(
    surd: Any, tmp_path: Path
) -> None:
    rows = [*samples(3), sample(3) | {"complex_prompt": None, "cos_complex": None}]
    workspace = make_workspace(tmp_path, [rows])
    write_group(workspace, "prompts", 0, [*rows[:3], rows[3] | {"status": "missing"}])
    loose = ("--set", "filter.min_side=1", "--clip-threshold", "0.1")
    assert surd("filter", tmp_path, *loose).code == 0
    assert surd("publish", tmp_path).code == 0
    assert [row["complex_prompt"] for row in table(tmp_path)].count(None) == 0
    pairs = ("--set", "publish.require=[image,simple_prompt]")
    ran = surd("publish", tmp_path, *pairs)
    assert ran.code == 2 and "settings changed" in ran.err and "run: surd filter" in ran.err
    assert "kept" in surd("filter", tmp_path).out
    assert surd("publish", tmp_path).code == 0
    (pair,) = [row for row in table(tmp_path) if row["complex_prompt"] is None]
    assert pair["id"] == rows[3]["id"] and pair["simple_prompt"] == rows[3]["simple_prompt"]
    assert "Without a complex prompt: 1 of them" in (tmp_path / "dataset/README.md").read_text()
    assert surd("export", tmp_path, "surd", "-o", tmp_path / "files").code == 0


@pytest.mark.parametrize("require", ["[image]", "[simple_prompt,complex_prompt]", "[image,author]"])
def test_what_no_sample_can_do_without_is_named(surd: Any, tmp_path: Path, require: str) -> None:
    make_workspace(tmp_path, [samples(1)])
    ran = surd("filter", tmp_path, "--set", f"publish.require={require}")
    assert ran.code == 2 and "publish.require" in ran.err and ran.err.count("\n") == 1
