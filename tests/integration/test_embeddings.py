"""Vectors of a language model: looked up by id, and exchanged as ``prompt2vec``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from support import digests
from support_llm import KEEP, SAMPLES, make_model, make_workspace, vectors_of
from support_publish import rewrite

from surd.errors import WorkspaceError
from surd.llm import embeddings
from surd.store import edits
from surd.store.workspace import DamagedPartError, Workspace

Surd = Callable[..., Any]

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_workspace(tmp_path / "w", SAMPLES, KEEP)
    return tmp_path / "w"


def test_vectors_are_looked_up_by_id_and_mapped_from_disk(
    surd: Surd, folder: Path, llm: str
) -> None:
    surd("embed-llm", folder, "--model", llm, "--layer", 2)
    found = embeddings.load(folder, llm, 2)
    wanted = [row for row in vectors_of(folder, 2) if row["embedding"] is not None]
    assert list(found) == [row["id"] for row in wanted] and found.width == 32
    ids = [row["id"] for row in reversed(wanted)]
    taken = found.take(ids)
    assert taken.dtype == np.float16 and taken.shape == (6, 32)
    for id_, vector, row in zip(ids, taken, reversed(wanted), strict=True):
        np.testing.assert_array_equal(vector, np.float16(row["embedding"]))
        np.testing.assert_array_equal(found[id_], vector)
        assert isinstance(found[id_], np.memmap)
    assert "f" * 32 not in found
    first = embeddings.load(folder, "tiny", 2)
    layer = folder / "llm" / "tiny" / "layer-2"
    (made,) = layer.glob("vectors-*.npy")
    left = layer / f".{made.name}.0123abcd.tmp"
    left.write_bytes(b"of a run that was killed")
    made.unlink()
    embeddings.load(folder, "tiny", 2)
    assert [*layer.glob("vectors-*.npy")] == [made] and not left.exists()
    whole = made.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"x" * len(whole)):
        made.write_bytes(damaged)
        assert len(embeddings.load(folder, "tiny", 2)) == 6 and made.read_bytes() == whole
    make_workspace(folder, SAMPLES, [True] * 8)
    surd("embed-llm", folder, "--model", llm, "--layer", 2)
    assert len(embeddings.load(folder, "tiny", 2)) == len(first) + 1
    assert len(list((folder / "llm" / "tiny" / "layer-2").glob("vectors-*.npy"))) == 1


def test_every_token_is_kept_where_asked(surd: Surd, folder: Path, llm: str) -> None:
    surd("embed-llm", folder, "--model", llm, "--layer", 2)
    last = dict(embeddings.load(folder, "tiny", 2))
    surd("embed-llm", folder, "--pool", "none")
    found = embeddings.load(folder, "tiny", 2)
    assert list(found) == list(last)
    for id_, vectors in found.items():
        prompt = SAMPLES[int(id_, 16)]
        assert prompt is not None and vectors.shape == (1 + len(prompt.split()), 32)
        np.testing.assert_array_equal(vectors[-1], last[id_])
    with pytest.raises(ValueError, match="one by one"):
        found.take(list(found))


def test_prompt2vec_goes_out_and_comes_back_the_same(
    surd: Surd, folder: Path, llm: str, tmp_path: Path
) -> None:
    surd("embed-llm", folder, "--model", llm, "--layer", 2)
    out = tmp_path / "13B" / "39.pt"
    told = ("--model", "tiny", "--layer", 2)
    assert surd("export", folder, "prompt2vec", "-o", out, *told).code == 0
    published = torch.load(out, weights_only=True)
    assert sorted(published) == sorted({p for p, k in zip(SAMPLES, KEEP, strict=True) if k and p})
    assert {(v.dtype, v.shape) for v in published.values()} == {(torch.float16, (32,))}
    other = tmp_path / "other"
    make_workspace(other, ["the rain", *reversed(SAMPLES)], [True] * 9)
    brought = ("import", "prompt2vec", out, "-o", other, "--model", "org/13B", "--layer", 39)
    assert "6 samples have a vector" in surd(*brought).out
    found = embeddings.load(other, "org/13B", 39)
    for id_, vector in found.items():
        prompt = ["the rain", *reversed(SAMPLES)][int(id_, 16)]
        np.testing.assert_array_equal(vector, published[prompt].numpy())
    before = digests(other)
    assert surd(*brought).code == 0 and digests(other) == before
    again = surd("export", folder, "prompt2vec", "-o", out, *told)
    assert again.code == 2 and "already exists" in again.err


def test_vectors_of_simple_prompts_that_have_changed_since_do_not_go_out(
    surd: Surd, tmp_path: Path
) -> None:
    folder, out = tmp_path / "w", tmp_path / "out.pt"
    workspace = make_workspace(folder, ["a cat"], [True])
    torch.save({"a cat": torch.zeros(4, dtype=torch.float16)}, tmp_path / "in.pt")
    told = ("--model", "org/13B", "--layer", 39)
    assert surd("import", "prompt2vec", tmp_path / "in.pt", "-o", folder, *told).code == 0
    export = ("export", folder, "prompt2vec", "-o", out, *told)
    edits.write(workspace, {"0" * 32: "a dog"}, "by hand")
    ran = surd(*export)
    assert ran.code == 2 and f"run: surd edit {folder} --apply" in ran.err and not out.exists()
    edits.undo(workspace)
    make_workspace(folder, ["a dog"], [True])
    ran = surd(*export)
    assert ran.code == 2 and "part 0 are older than its simple prompts" in ran.err
    make_workspace(folder, ["a cat"], [True])
    assert surd("import", "prompt2vec", tmp_path / "in.pt", "-o", folder, *told).code == 0
    assert surd(*export).code == 0


def test_the_published_sample_is_read(surd: Surd, tmp_path: Path) -> None:
    sample = Path(__file__).parents[2].parent / "shared/real/prompt2vec_13B_layer39_sample.pt"
    if not sample.is_file():
        pytest.skip(f"{sample.name} is not at hand")
    prompt = "a colorful animal with big eyes on a blue background"
    make_workspace(tmp_path / "w", [prompt, "a cat"], [True, True])
    told = ("--model", "llama-13B", "--layer", 39)
    assert surd("import", "prompt2vec", sample, "-o", tmp_path / "w", *told).code == 0
    found = embeddings.load(tmp_path / "w", "llama-13B", 39)
    assert list(found) == ["0" * 32] and found.width == 5120


def test_another_model_in_a_folder_of_the_same_name_overwrites_nothing(
    surd: Surd, folder: Path, llm: str, tmp_path: Path
) -> None:
    other = tmp_path / "elsewhere" / "tiny"
    make_model(other, seed=1)
    assert surd("embed-llm", folder, "--model", llm, "--layer", 2).code == 0
    before = vectors_of(folder, 2)
    ran = surd("embed-llm", folder, "--model", other, "--layer", 2)
    assert ran.code == 2 and f"holds vectors of {llm}, not of {other}" in ran.err
    assert vectors_of(folder, 2) == before
    with pytest.raises(WorkspaceError, match="another model in a folder of the same name"):
        embeddings.load(folder, str(other), 2)
    assert len(embeddings.load(folder, llm, 2)) == 6


def test_vectors_of_other_samples_are_refused_as_in_any_group(
    surd: Surd, folder: Path, llm: str, tmp_path: Path
) -> None:
    theirs = make_workspace(tmp_path / "theirs", SAMPLES, KEEP, first=100)
    for one in (folder, Path(theirs.location)):
        assert surd("embed-llm", one, "--model", llm, "--layer", 2).code == 0
    part = "llm/tiny/layer-2/part-00000.parquet"
    (folder / part).write_bytes(Path(theirs.location, part).read_bytes())
    with pytest.raises(DamagedPartError, match=r"not those of samples/part-00000"):
        embeddings.load(folder, llm, 2)


def test_two_folders_of_the_same_name_never_share_vectors(
    surd: Surd, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2):
        make_model(tmp_path / f"run{number}" / "checkpoint-1000", seed=number)
    told = ("embed-llm", folder, "--model", "./checkpoint-1000", "--layer", 2)
    monkeypatch.chdir(tmp_path / "run1")
    assert surd(*told).code == 0
    before = digests(folder)
    monkeypatch.chdir(tmp_path / "run2")
    ran = surd(*told)
    assert ran.code == 2 and "another model in a folder of the same name" in ran.err
    with pytest.raises(WorkspaceError, match="another model in a folder of the same name"):
        embeddings.load(folder, "./checkpoint-1000", 2)
    (tmp_path / "run1").rename(tmp_path / "away")  # its content is known all the same
    assert surd(*told).code == 2
    monkeypatch.chdir(tmp_path / "away")
    assert surd(*told).code == 0, "the same model in another place"
    assert digests(folder) == before


def test_minus_one_is_the_deepest_layer_there(surd: Surd, folder: Path, llm: str) -> None:
    with pytest.raises(WorkspaceError, match=rf"no vectors of {llm}; .* --model {llm}$"):
        embeddings.load(folder, llm, -1)
    assert surd("embed-llm", folder, "--model", llm).code == 0
    assert embeddings.load(folder, llm, -1).layer == 4
    with pytest.raises(WorkspaceError, match="count from 0, or use -1"):
        embeddings.load(folder, llm, -2)


@pytest.mark.parametrize("pool", ["last", "none"])
def test_vectors_that_surd_did_not_write_are_told_in_one_line(
    surd: Surd, folder: Path, llm: str, pool: str
) -> None:
    surd("embed-llm", folder, "--model", llm, "--layer", 2, "--pool", pool)
    workspace = Workspace(folder)
    group = "llm/tiny/layer-2"
    whole = (folder / group / "part-00000.parquet").read_bytes()
    for name, column in (
        ("embedding", pa.array(["a"] * 4)),
        ("embedding", pa.nulls(4, pa.binary(8))),
        ("tokens", pa.array(["a"] * 4)),
        ("tokens", pa.array([-1] * 4, pa.int32())),
        ("tokens", pa.array([1000] * 4, pa.int32())),
    ):
        if (pool, name) == ("last", "tokens") and pa.types.is_integer(column.type):
            continue  # of one vector for each text they say nothing
        rewrite(
            workspace,
            group,
            lambda t, n=name, c=column: t.set_column(t.column_names.index(n), n, c),
        )
        for load in (embeddings.load, embeddings.load_texts):
            with pytest.raises(WorkspaceError, match=r"layer-2[^\n]*$"):
                load(folder, "tiny", 2)
        (folder / group / "part-00000.parquet").write_bytes(whole)
    assert len(embeddings.load(folder, "tiny", 2)) == 6
