"""Tiny language models with random weights, and workspaces with nothing but simple prompts."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from support import rows_of
from support_publish import write_group
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from surd.store.workspace import Manifest, Workspace

LAYERS = 4
WORDS = [
    *("<pad>", "<s>", "two", "red", "cups", "on", "a", "table", "cat", "dog", "runs"),
    *("through", "long", "grass", "in", "the", "rain"),
]
PROMPTS = [
    "two red cups on a table",
    "a cat",
    "a dog runs through the long grass in the rain",
    "cat",
    "two cups",
]
SAMPLES = [*PROMPTS, "a cat", None, "the table"]
KEEP = [True, True, True, False, True, True, True, True]
"""Which of the samples the verdicts keep."""
_SIZE = {"num_hidden_layers": LAYERS, "hidden_size": 32, "intermediate_size": 48}
_HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {**_SIZE, **_HEADS},
    "mistral": {**_SIZE, **_HEADS, "sliding_window": 4},
    "qwen2": {**_SIZE, **_HEADS},
    "qwen3": {**_SIZE, **_HEADS, "head_dim": 8},
    "gemma": {**_SIZE, **_HEADS, "head_dim": 8},
    "gemma2": {**_SIZE, **_HEADS, "head_dim": 8, "sliding_window": 4},
    "gemma3_text": {**_SIZE, **_HEADS, "head_dim": 8, "sliding_window": 4},
    "phi": {**_SIZE, "num_attention_heads": 4},
    "phi3": {**_SIZE, **_HEADS, "pad_token_id": 0},
    "gpt2": {"n_layer": LAYERS, "n_embd": 32, "n_head": 4, "n_positions": 64},
    "gpt_neo": {
        "num_layers": LAYERS,
        "hidden_size": 32,
        "num_heads": 4,
        "attention_types": [[["global", "local"], LAYERS // 2]],
        "window_size": 3,
    },
    "gpt_neox": {**_SIZE, "num_attention_heads": 4},
    "opt": {**_SIZE, "ffn_dim": 48, "num_attention_heads": 4, "word_embed_proj_dim": 32},
    "bloom": {"n_layer": LAYERS, "hidden_size": 32, "n_head": 4},
    "mixtral": {**_SIZE, **_HEADS, "num_local_experts": 2},
}


def make_tokenizer(padding_side: str = "right") -> PreTrainedTokenizerFast:
    """Of whole words, with a beginning of sequence."""
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<pad>"))
    tokenizer.pre_tokenizer = Whitespace()
    start = ("<s>", WORDS.index("<s>"))
    tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[start])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", pad_token="<pad>", padding_side=padding_side
    )


def make_model(
    folder: Path, family: str = "llama", padding_side: str = "right", seed: int = 0
) -> Any:
    """Save a model and its tokenizer; returns the model as the library made it."""
    torch.manual_seed(seed)
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    config = AutoConfig.for_model(family, vocab_size=len(WORDS), **{**ids, **FAMILIES[family]})
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # as it is initialised, blocks change hardly anything
            parameter.add_(torch.randn_like(parameter) * 0.2)
    model.save_pretrained(folder)
    make_tokenizer(padding_side).save_pretrained(folder)
    return model


def tokens_of(prompts: Sequence[str]) -> list[list[int]]:
    """As the tokenizer gives them."""
    return [[1, *(WORDS.index(word) for word in prompt.split())] for prompt in prompts]


@torch.inference_mode()
def states_alone(
    model: Any, tokens: Sequence[Sequence[int]], dtype: torch.dtype
) -> list[list[torch.Tensor]]:
    """By the library alone: the states of each text after each block, ``[s, h]``, no padding."""
    model = copy.deepcopy(model).to(dtype)
    if hasattr(model.config, "num_local_experts"):
        model.set_experts_implementation("eager")  # the default takes no float64
    found = []
    for text in tokens:
        states = model(torch.tensor([text]), output_hidden_states=True).hidden_states
        found.append([state[0] for state in states])
    return found


def make_workspace(
    folder: Path, prompts: list[str | None], keep: list[bool], part_size: int = 4, first: int = 0
) -> Workspace:
    """Samples that have a simple prompt and a verdict; all else is null."""
    workspace = Workspace(folder)
    sources = [{"kind": "folder", "path": "."}]
    workspace.write_manifest(Manifest(recipe={"name": "prompts", "sources": sources}))
    rows = [
        {"id": f"{i:032x}", "source": "folder", "status": "ok", "simple_prompt": p, "keep": k}
        for i, (p, k) in enumerate(zip(prompts, keep, strict=True), first)
    ]
    for part, start in enumerate(range(0, len(rows), part_size)):
        for group in ("samples", "clip", "verdicts"):
            write_group(workspace, group, part, rows[start : start + part_size])
    return workspace


def vectors_of(folder: Path, layer: int, model: str = "tiny") -> list[dict[str, Any]]:
    """The rows that embed-llm wrote."""
    return rows_of(folder, f"llm/{model}/layer-{layer}")
