"""``surd embed-llm --texts all``: vectors of every caption and of the complex prompts, by text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support_llm import make_workspace, vectors_of
from support_publish import write_group

from surd.llm import embeddings

Surd = Callable[..., Any]

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

SIMPLE = ["a cat", "two red cups", "a dog", "a cat", "the rain"]
CAPTIONS = [["a cat", "cat"], ["two cups"], ["a dog runs"], ["cat", "the cat"], ["rain"]]
COMPLEX = ["cat grass", "red cups table", "dog grass", "cat grass", "rain table"]
KEEP = [True, True, True, True, False]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two parts of samples with captions and complex prompts."""
    workspace = make_workspace(tmp_path / "w", list(SIMPLE), KEEP, part_size=3)
    rows = [
        {
            "id": f"{n:032x}",
            "status": "ok",
            "candidates": [{"text": text, "raw": text, "how": "beam"} for text in texts],
            "complex_prompt": complex_,
        }
        for n, (texts, complex_) in enumerate(zip(CAPTIONS, COMPLEX, strict=True))
    ]
    for part in (0, 1):
        for group in ("captions", "prompts"):
            write_group(workspace, group, part, rows[3 * part : 3 * part + 3])
    return tmp_path / "w"


def wanted() -> set[str]:
    kept = [n for n, keep in enumerate(KEEP) if keep]
    return {t for n in kept for t in (SIMPLE[n], *CAPTIONS[n], COMPLEX[n])}


@pytest.mark.parametrize("pool", ["last", "none"])
def test_every_text_of_a_kept_sample_is_found_by_itself(
    surd: Surd, folder: Path, llm: str, pool: str
) -> None:
    told = ("embed-llm", folder, "--model", llm, "--layer", 2, "--layer", 3, "--pool", pool)
    assert surd(*told).code == 0
    simple = {layer: embeddings.load(folder, llm, layer) for layer in (2, 3)}
    before = {n: {id_: vector.copy() for id_, vector in some.items()} for n, some in simple.items()}
    assert surd(*told, "--texts", "all").code == 0
    for layer in (2, 3):
        found = embeddings.load_texts(folder, llm, layer)
        assert set(found) == wanted() and found.width == 32 and found.layer == layer
        assert found.per_token == (pool == "none") and "rain" not in found
        by_id = embeddings.load(folder, llm, layer)
        assert list(by_id) == list(before[layer])
        for id_, vector in by_id.items():
            np.testing.assert_array_equal(vector, before[layer][id_])
            text = SIMPLE[int(id_, 16)]
            np.testing.assert_array_equal(found[text], np.atleast_2d(vector))
        for text, vectors in found.items():
            assert vectors.shape == (1 + len(text.split()) if pool == "none" else 1, 32)
        assert isinstance(found["cat"], np.memmap)
    # the state of a text does not depend on whose text it is
    alone = embeddings.load_texts(folder, llm, 2)
    make_workspace(folder.with_name("other"), sorted(wanted()), [True] * len(wanted()))
    assert surd("embed-llm", folder.with_name("other"), *told[2:]).code == 0
    for text, vectors in embeddings.load_texts(folder.with_name("other"), llm, 2).items():
        np.testing.assert_allclose(vectors, alone[text], atol=0.02, rtol=0.02)


def test_what_has_a_vector_is_not_computed_again_for_more_texts(
    surd: Surd, folder: Path, llm: str, embedded: list[int]
) -> None:
    told = ("embed-llm", folder, "--model", llm, "--layer", 2)
    assert surd(*told).code == 0
    assert embedded == [3, 0]
    assert surd(*told, "--texts", "all").code == 0
    assert sum(embedded[2:]) == len(wanted()) - 3
    embedded.clear()
    (folder / "llm" / "tiny" / "layer-2" / "part-00000.parquet").unlink()
    assert surd("embed-llm", folder).code == 0  # the workspace remembers that it was all of them
    others = {one["text"] for row in vectors_of(folder, 2) for one in row["others"]}
    assert others == wanted() - set(SIMPLE[:4])
    assert set(embeddings.load_texts(folder, llm, 2)) == wanted()


def test_captions_that_are_missing_are_named(surd: Surd, tmp_path: Path, llm: str) -> None:
    make_workspace(tmp_path / "w", ["a cat"], [True])
    ran = surd("embed-llm", tmp_path / "w", "--model", llm, "--texts", "all")
    assert (ran.code == 2 and "captions is missing" in ran.err) or "prompts is missing" in ran.err
    assert ran.err.count("\n") == 1
