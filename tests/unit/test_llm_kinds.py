"""Language models of kinds that people name: bidirectional, of two stacks, short of positions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from support_llm import LAYERS, WORDS, make_model, make_tokenizer, states_alone
from support_rounding import assert_only_rounded, rounding
from transformers import AutoConfig, AutoModel

from surd.errors import ModelError
from surd.llm.batches import padded
from surd.llm.part import tokenize
from surd.models.llm import load_llm, shape_of
from surd.recipe.embed_llm import EmbedLlmParams

pytestmark = pytest.mark.usefixtures("one_thread")
_SIZE: dict[str, Any] = {
    "vocab_size": len(WORDS),
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "pad_token_id": 0,
}
_GEMMA = _SIZE | {"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 8}
BIDIRECTIONAL: dict[str, tuple[str, dict[str, Any]]] = {
    "EmbeddingGemma": ("gemma3_text", _GEMMA | {"use_bidirectional_attention": True}),
    "BERT": ("bert", _SIZE),
    "ModernBERT": ("modernbert", _SIZE),
}


def make(folder: Path, kind: str, **settings: Any) -> Any:
    """A bare model with random weights that make a difference, and its tokenizer, saved."""
    torch.manual_seed(0)
    model = AutoModel.from_config(AutoConfig.for_model(kind, **settings)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    model.save_pretrained(folder)
    saved = folder / "config.json"  # some versions save a window as they halved it when loading
    saved.write_text(json.dumps(json.loads(saved.read_text()) | settings))
    make_tokenizer().save_pretrained(folder)
    return model


@pytest.mark.parametrize("name", BIDIRECTIONAL)
def test_a_model_that_looks_both_ways_does_not_see_the_padding(name: str, tmp_path: Path) -> None:
    kind, settings = BIDIRECTIONAL[name]
    model = make(tmp_path, kind, **settings)
    layers = list(range(LAYERS + 1))
    llm = load_llm(str(tmp_path), layers)
    tokens = llm.tokenize(["a cat", "a dog runs through the long grass in the rain"], True)
    lengths = [len(text) for text in tokens]
    states = llm.states(padded(tokens, llm.pad_id), lengths, layers)
    exact, alone = (states_alone(model, tokens, t) for t in (torch.float64, torch.float32))
    for layer, found in states.items():
        error = max(rounding(a[layer], e[layer]) for a, e in zip(alone, exact, strict=True))
        for row, right in zip(found, exact, strict=True):
            assert_only_rounded(row[: len(right[layer])], right[layer], error)


def test_a_model_that_sees_padding_even_with_a_mask_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, settings = BIDIRECTIONAL["BERT"]
    make(tmp_path, kind, **settings)
    monkeypatch.setattr(
        "transformers.BertModel._create_attention_masks", lambda *_, **__: (None, None)
    )
    with pytest.raises(ModelError, match=r"other states where padding follows it .* with a mask"):
        load_llm(str(tmp_path), [LAYERS])


def test_an_encoder_with_a_decoder_is_refused_before_its_weights_are_read(tmp_path: Path) -> None:
    size = {"vocab_size": len(WORDS), "d_model": 32, "d_ff": 48, "num_layers": 2, "num_heads": 4}
    make(tmp_path, "t5", **size)
    (tmp_path / "model.safetensors").unlink()
    for look in (shape_of, lambda name: load_llm(name, [1])):
        with pytest.raises(ModelError, match=r"\(t5\) has an encoder and a decoder; surd embeds"):
            look(str(tmp_path))


def test_a_layer_of_another_width_is_refused_and_the_others_are_not(tmp_path: Path) -> None:
    make(
        tmp_path, "opt", **_SIZE, ffn_dim=48, word_embed_proj_dim=16, max_position_embeddings=64,
        do_layer_norm_before=False,
    )  # fmt: skip
    with pytest.raises(ModelError, match=f"layer {LAYERS} is 16 wide and the others 32; use one"):
        load_llm(str(tmp_path), [LAYERS])
    assert load_llm(str(tmp_path), [0, LAYERS - 1]).width == 32


@pytest.mark.parametrize("tower", [LAYERS, 2 * LAYERS])
def test_the_blocks_of_a_vision_language_model_are_those_that_read_text(
    tower: int, tmp_path: Path
) -> None:
    text = _SIZE | {
        "num_key_value_heads": 2,
        "rope_parameters": {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 1e4},
    }
    vision = {"depth": tower, "hidden_size": 16, "num_heads": 2, "intermediate_size": 16,
              "out_hidden_size": 32, "fullatt_block_indexes": [0]}  # fmt: skip
    ids = {"image_token_id": 3, "video_token_id": 4, "vision_start_token_id": 5}
    make(tmp_path, "qwen2_5_vl", text_config=text, vision_config=vision, **ids)
    llm = load_llm(str(tmp_path), [2])
    tokens = llm.tokenize(["the rain"], True)
    assert llm.states(padded(tokens, 0), [len(tokens[0])], [2])[2].shape == (1, 3, 32)


def test_prompts_are_cut_at_the_positions_a_model_has(tmp_path: Path) -> None:
    make_model(tmp_path, "gpt2")
    llm = load_llm(str(tmp_path), [LAYERS])
    assert llm.window == 64
    found = tokenize(["cat " * 100, "a cat"], EmbedLlmParams(), llm)
    assert found.statuses == ["cut", "ok"] and len(found.tokens[0]) == 64
    llm.states(padded(found.tokens, llm.pad_id), [64, 3], [LAYERS])


@pytest.mark.parametrize("window", [4, 5])
def test_a_tiny_window_is_no_error(tmp_path: Path, window: int) -> None:
    make(tmp_path, "gpt2", n_layer=LAYERS, n_embd=32, n_head=4, n_positions=window)
    assert load_llm(str(tmp_path), [LAYERS]).window == window


def test_a_token_without_an_embedding_costs_its_prompt_and_no_other(tmp_path: Path) -> None:
    make_model(tmp_path, "llama")
    tokenizer = make_tokenizer()
    tokenizer.add_tokens(["lapis"])
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.save_pretrained(tmp_path)
    llm = load_llm(str(tmp_path), [LAYERS])
    assert llm.pad_id == 0
    found = tokenize(["a lapis cat", "a cat", ""], EmbedLlmParams(special_tokens=False), llm)
    assert found.statuses == ["unknown_token", "ok", "no_tokens"]
    assert [len(text) for text in found.tokens] == [0, 2, 0]


def test_weights_that_git_left_as_pointers_and_those_cut_short_are_named(tmp_path: Path) -> None:
    make_model(tmp_path, "llama")
    weights = tmp_path / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-100])
    with pytest.raises(ModelError, match=r"model\.safetensors: is cut short.*download it again"):
        load_llm(str(tmp_path), [1])
    weights.write_bytes(whole[:6])
    with pytest.raises(ModelError, match=r"model\.safetensors: is cut short.*download it again"):
        load_llm(str(tmp_path), [1])
    digest = "0" * 64
    weights.write_text(
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {len(whole)}\n"
    )
    with pytest.raises(ModelError, match=r"model\.safetensors: is a Git LFS pointer.*git lfs pull"):
        load_llm(str(tmp_path), [1])
    weights.write_bytes(whole)
    words = tmp_path / "tokenizer.json"
    known = words.read_text()
    words.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n")
    with pytest.raises(ModelError, match=r"tokenizer\.json: is a Git LFS pointer.*git lfs pull"):
        load_llm(str(tmp_path), [1])
    words.write_text(known)
    weights.unlink()
    torch.save({}, tmp_path / "pytorch_model.bin")
    cut = tmp_path / "pytorch_model.bin"
    cut.write_bytes(cut.read_bytes()[:-30])
    with pytest.raises(ModelError, match=r"pytorch_model\.bin: is cut short"):
        load_llm(str(tmp_path), [1])
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "llama"
