"""States after any block: those of an unpadded forward of one prompt, for many architectures."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support_llm import FAMILIES, LAYERS, PROMPTS, make_model, states_alone
from support_rounding import assert_only_rounded, rounding

from surd.errors import ModelError
from surd.llm.batches import Embedder, by_length, padded, pool
from surd.models.llm import LlmShape, load_llm, shape_of

pytestmark = pytest.mark.usefixtures("one_thread")


@torch.inference_mode()
def expected(model: Any, tokens: list[int], how: str) -> list[np.ndarray]:
    """By the library alone: one prompt, no padding, every layer."""
    states = model(torch.tensor([tokens]), output_hidden_states=True).hidden_states
    found = [state[0].float().numpy() for state in states]
    return [{"last": s[-1], "mean": s.mean(axis=0), "none": s}[how] for s in found]


def assert_states(states: dict[int, torch.Tensor], model: Any, tokens: list[list[int]]) -> None:
    """That a padded batch's states ``[b, s, h]`` are as near to float64 as the library's own."""
    exact = states_alone(model, tokens, torch.float64)
    computed = states_alone(model, tokens, torch.float32)
    for layer, found in states.items():
        pairs = zip(computed, exact, strict=True)
        error = max(rounding(some[layer], right[layer]) for some, right in pairs)
        for row, right in zip(found, exact, strict=True):
            assert_only_rounded(row[: len(right[layer])], right[layer], error)


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_are_those_of_the_library(
    family: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = make_model(tmp_path, family)
    layers = range(LAYERS + 1)
    llm = load_llm(str(tmp_path), layers)
    tokens = llm.tokenize(PROMPTS, True)
    assert {text[0] for text in tokens} == {1}
    states = llm.states(padded(tokens, llm.pad_id), lengths(tokens), list(layers))
    assert_states(states, model, tokens)
    assert "computing all of it" not in caplog.text


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("layer", [0, 2])
def test_blocks_beyond_the_deepest_layer_are_not_loaded(
    family: str, layer: int, tmp_path: Path
) -> None:
    model = make_model(tmp_path, family)
    llm = load_llm(str(tmp_path), [layer])
    loaded = {name for name, _ in parameters_of(llm)}
    blocks = {re.search(r"\d+", name).group() for name in loaded if re.search(r"\d", name)}
    assert blocks == {str(number) for number in range(max(1, layer))}
    tokens = llm.tokenize(PROMPTS[:2], True)
    assert_states(llm.states(padded(tokens, llm.pad_id), lengths(tokens), [layer]), model, tokens)


def lengths(tokens: list[list[int]]) -> list[int]:
    return [len(text) for text in tokens]


def parameters_of(llm: Any) -> list[tuple[str, torch.Tensor]]:
    """Of the model inside the closure."""
    cells = [cell.cell_contents for cell in llm.states.__wrapped__.__closure__]
    (model,) = [
        cell for cell in cells if isinstance(cell, torch.nn.Module) and hasattr(cell, "config")
    ]
    return list(model.named_parameters())


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("how", ["last", "mean", "none"])
def test_vectors_do_not_depend_on_padding_or_company(side: str, how: Any, tmp_path: Path) -> None:
    model = make_model(tmp_path, "llama", padding_side=side)
    shape = shape_of(str(tmp_path))
    layers = [shape.layer_number(layer) for layer in (-1, 2, -4)]
    assert layers == [4, 2, 1]
    llm = load_llm(str(tmp_path), layers)
    tokens = llm.tokenize(PROMPTS, True)
    for batch_tokens in (1, 16, 1000):
        vectors = Embedder(llm, layers, how, batch_tokens).vectors([*tokens, []])
        for layer in layers:
            assert vectors[layer][-1].size == 0
            for found, text in zip(vectors[layer], tokens, strict=False):
                right = expected(model, text, how)[layer]
                np.testing.assert_allclose(found, right.astype(np.float16), atol=0.01, rtol=1e-3)
                assert found.dtype == np.float16 and found.shape == right.shape


def test_pooling_is_exact_in_float32() -> None:
    states = torch.randn(2, 3, 4)
    last = pool(states, [3, 1], "last")
    np.testing.assert_array_equal(last[0], states[0, 2].half().numpy())
    np.testing.assert_array_equal(last[1], states[1, 0].half().numpy())
    mean = pool(states, [2, 3], "mean")
    np.testing.assert_array_equal(mean[0], states[0, :2].mean(0).half().numpy())
    every = pool(states, [2, 3], "none")
    assert [v.shape for v in every] == [(2, 4), (3, 4)]


def test_the_last_layer_is_after_the_final_norm_and_the_one_before_is_not(tmp_path: Path) -> None:
    model = make_model(tmp_path, "llama")
    llm = load_llm(str(tmp_path), [LAYERS - 1, LAYERS])
    ids = padded(llm.tokenize(PROMPTS[:1], True), llm.pad_id)
    states = llm.states(ids, [ids.shape[1]], [LAYERS - 1, LAYERS])
    with torch.inference_mode():
        inner = model.model
        position = torch.arange(ids.shape[1])[None]
        rope = inner.rotary_emb(states[LAYERS - 1], position)
        mask = torch.full((ids.shape[1],) * 2, float("-inf")).triu(1)[None, None]
        out = inner.layers[-1](
            states[LAYERS - 1], attention_mask=mask, position_embeddings=rope, position_ids=position
        )
        out = out[0] if isinstance(out, tuple) else out
        torch.testing.assert_close(states[LAYERS], inner.norm(out), atol=1e-4, rtol=0)


def test_an_architecture_without_a_list_of_blocks_is_computed_whole_with_a_notice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = make_model(tmp_path, "gpt2")
    monkeypatch.setattr("surd.models.llm._name_of_blocks", lambda model: None)
    with caplog.at_level(logging.WARNING, "surd"):
        llm = load_llm(str(tmp_path), [2])
    assert "computing all of it" in caplog.text
    tokens = llm.tokenize(PROMPTS[:1], True)
    assert_states(llm.states(padded(tokens, llm.pad_id), lengths(tokens), [2]), model, tokens)


def test_memory_that_runs_out_halves_the_batch_and_goes_on(tmp_path: Path) -> None:
    make_model(tmp_path, "llama")
    llm = load_llm(str(tmp_path), [2])
    tokens = llm.tokenize(PROMPTS * 4, True)
    right = Embedder(llm, [2], "last", 1000).vectors(tokens)[2]
    sizes: list[int] = []

    def scarce(ids: torch.Tensor, lengths: Any, layers: Any) -> Any:
        sizes.append(ids.numel())
        if ids.numel() > 60:
            raise torch.OutOfMemoryError("no more")
        return llm.states(ids, lengths, layers)

    small = replace(llm, states=scarce)
    embedder = Embedder(small, [2], "last", 1000)
    found = embedder.vectors(tokens)[2]
    for one, other in zip(found, right, strict=True):
        np.testing.assert_allclose(one, other, atol=0.01, rtol=1e-3)
    assert max(sizes) > 60
    sizes.clear()
    embedder.vectors(tokens)
    assert max(sizes) <= 60  # it has learnt

    def never(ids: torch.Tensor, lengths: Any, layers: Any) -> Any:
        raise torch.OutOfMemoryError("no more")

    hopeless = replace(llm, states=never)
    with pytest.raises(ModelError, match="one prompt of 11 tokens does not fit"):
        Embedder(hopeless, [2], "last", 1000).vectors(tokens)


def test_batches_hold_every_text_once_and_stay_within_the_budget() -> None:
    rng = np.random.default_rng(0)
    lengths = [int(n) for n in rng.integers(0, 50, 300)]
    batches = list(by_length(lengths, 200))
    assert sorted(i for batch in batches for i in batch) == [i for i, n in enumerate(lengths) if n]
    assert all(len(b) * max(lengths[i] for i in b) <= 200 for b in batches)
    assert list(by_length([500, 3], 100)) == [[0], [1]]
    assert list(by_length([], 100)) == []


@pytest.mark.parametrize(("layer", "number"), [(0, 0), (4, 4), (-1, 4), (-5, 0)])
def test_layers_count_from_the_embeddings_and_from_the_end(layer: int, number: int) -> None:
    assert LlmShape(4, 32, None).layer_number(layer) == number


@pytest.mark.parametrize("layer", [5, -6])
def test_a_layer_that_is_not_there_is_one_line(layer: int) -> None:
    with pytest.raises(ModelError, match=rf"layer {layer}: the model has layers 0 .* to 4"):
        LlmShape(4, 32, None).layer_number(layer)


def test_a_model_that_cannot_be_loaded_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"language model .* cannot be loaded") as caught:
        load_llm(str(tmp_path), [1])
    assert "\n" not in str(caught.value)


def test_weights_that_are_missing_are_said_and_not_made_up(tmp_path: Path) -> None:
    make_model(tmp_path, "llama")
    weights = load_file(tmp_path / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks weights: layers\.1\.mlp\.up_proj"):
        load_llm(str(tmp_path), [3])
    load_llm(str(tmp_path), [1])
