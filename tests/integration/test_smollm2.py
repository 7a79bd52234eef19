"""A real language model: SmolLM2, from its GGUF file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support import digests
from support_llm import make_workspace, states_alone
from support_rounding import assert_only_rounded, rounding
from transformers import AutoModelForCausalLM

from surd.errors import ModelError
from surd.llm.batches import Embedder, padded
from surd.models import gguf
from surd.models.llm import load_llm, shape_of

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

PROMPTS = [
    "two red cups on a table",
    "a cat",
    "an old man reads the newspaper on a bench in the park while it begins to rain",
    "three crimson discs in a line",
]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        gguf.demo_gguf()
    except ModelError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SURD_CACHE", str(folder))
        gguf.plain_folder("demo:llm", None, None, torch.float32)
    return folder


def test_a_converted_model_may_be_read_by_whoever_may_read_the_cache(cache: Path) -> None:
    (folder,) = (cache / "gguf").iterdir()
    beside = cache / "gguf" / "beside"
    beside.mkdir()
    (beside / "file").touch()
    assert folder.stat().st_mode == beside.stat().st_mode
    assert {p.stat().st_mode for p in folder.iterdir()} == {(beside / "file").stat().st_mode}
    (beside / "file").unlink()
    beside.rmdir()


def test_vectors_of_a_padded_batch_are_those_of_each_prompt_alone(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SURD_CACHE", str(cache))
    shape = shape_of("demo:llm")
    assert (shape.layers, shape.width) == (30, 576)
    layers = [0, 1, 15, 29, 30]
    llm = load_llm("demo:llm", layers)
    tokens = llm.tokenize(PROMPTS, True)
    (folder,) = (cache / "gguf").iterdir()
    whole = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    alone = states_alone(whole, tokens, torch.float32)
    exact = states_alone(whole, tokens, torch.float64)
    states = llm.states(padded(tokens, llm.pad_id), [len(text) for text in tokens], layers)
    vectors = Embedder(llm, layers, "last", 1000).vectors(tokens)
    for layer in layers:
        pairs = list(zip(alone, exact, strict=True))
        error = max(rounding(theirs[layer], right[layer]) for theirs, right in pairs)
        assert error < 1e-4, "float32 itself is far off"
        for row, (text, right) in enumerate(zip(tokens, exact, strict=True)):
            assert_only_rounded(states[layer][row, : len(text)], right[layer], error)
            assert_only_rounded(vectors[layer][row], right[layer][-1], error)


def test_vectors_do_not_depend_on_the_number_of_cores(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SURD_CACHE", str(cache))
    found = []
    for cores in (1, 3):
        make_workspace(tmp_path / f"{cores}", [*PROMPTS, *PROMPTS[:2]], [True] * 6, part_size=3)
        told = ("--layer", "4", "--set", "embed_llm.batch_tokens=12")
        command = ("-m", "surd", "embed-llm", str(tmp_path / f"{cores}"), "--model", "demo:llm")
        cores_seen = os.environ | {"OMP_NUM_THREADS": f"{cores}"}
        subprocess.run([sys.executable, *command, *told], check=True, env=cores_seen)
        found.append(digests(tmp_path / f"{cores}" / "llm"))
    assert len(found[0]) == 2
    assert found[0] == found[1]


def test_a_conversion_is_made_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SURD_CACHE", str(cache))
    before = {p: p.stat().st_mtime_ns for p in cache.rglob("*") if p.is_file()}
    assert {p.suffix for p in before} >= {".safetensors", ".json"}
    assert gguf.plain_folder("demo:llm", None, None, torch.float32).parent == cache / "gguf"
    assert {p: p.stat().st_mtime_ns for p in cache.rglob("*") if p.is_file()} == before
