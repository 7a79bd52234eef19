"""A real language model: SmolLM2, from its GGUF file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from surd.errors import ModelError
from surd.llm.batches import Embedder
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


def test_vectors_of_a_padded_batch_are_those_of_each_prompt_alone(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModelForCausalLM

    monkeypatch.setenv("SURD_CACHE", str(cache))
    shape = shape_of("demo:llm")
    assert (shape.layers, shape.width) == (30, 576)
    layers = [0, 1, 15, 29, 30]
    llm = load_llm("demo:llm", layers)
    (folder,) = (cache / "gguf").iterdir()
    whole = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokens = llm.tokenize(PROMPTS, True)
    longest = max(map(len, tokens))
    ids = torch.tensor([text + [llm.pad_id] * (longest - len(text)) for text in tokens])
    states = llm.states(ids, layers)
    vectors = Embedder(llm, layers, "last", 1000).vectors(tokens)
    for row, text in enumerate(tokens):
        with torch.inference_mode():
            right = whole(torch.tensor([text]), output_hidden_states=True).hidden_states
        for layer in layers:
            alone = right[layer][0]
            # near the end values reach 577, and float32 itself is off float64 by 1e-4
            size = alone.abs().amax(dim=-1, keepdim=True)  # the first token's: 28,000
            error = (states[layer][row, : len(text)] - alone).abs()
            assert (error <= (1e-5 * size).clamp(min=1e-4)).all()
            last = states[layer][row, len(text) - 1]
            np.testing.assert_allclose(
                vectors[layer][row], last.half().numpy(), rtol=2e-3, atol=1e-3
            )


def test_a_conversion_is_made_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SURD_CACHE", str(cache))
    before = {p: p.stat().st_mtime_ns for p in cache.rglob("*") if p.is_file()}
    assert {p.suffix for p in before} >= {".safetensors", ".json"}
    assert gguf.plain_folder("demo:llm", None, None, torch.float32).parent == cache / "gguf"
    assert {p: p.stat().st_mtime_ns for p in cache.rglob("*") if p.is_file()} == before
