"""Language models, each with the quirks of its published files."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tokenizers import processors as post
from transformers import AutoConfig, AutoModelForCausalLM

from real_names import tokens
from real_names.weights import edit_json, stir

GATED = ("meta-llama/Llama-2-13b-hf",)


def _causal(folder: Path, family: str, shard: str = "5GB", **config: Any) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **config)).eval()
    stir(model)
    model.to(getattr(torch, config.get("dtype", "float32"))).save_pretrained(
        folder, max_shard_size=shard
    )


def _llama2(folder: Path, layers: int) -> None:
    """Gated, in shards, without a token to pad with."""
    _causal(
        folder, "llama", shard="2MB", hidden_size=64, intermediate_size=172,
        num_hidden_layers=layers, num_attention_heads=4, num_key_value_heads=4,
        max_position_embeddings=4096, rms_norm_eps=1e-5, vocab_size=32000, bos_token_id=1,
        eos_token_id=2, pretraining_tp=1, tie_word_embeddings=False, rope_theta=10000.0,
        hidden_act="silu", initializer_range=0.02, dtype="float16",
    )  # fmt: skip
    edit_json(folder / "config.json", architectures=["LlamaForCausalLM"], rope_scaling=None)
    tokenizer = tokens.metaspace_bpe(("<unk>", "<s>", "</s>"))
    tokenizer.post_processor = post.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)]
    )
    end = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    special = {name: {"__type": "AddedToken", "content": word, **end} for name, word in (
        ("bos_token", "<s>"), ("eos_token", "</s>"), ("unk_token", "<unk>"))}  # fmt: skip
    tokens.save_fast(
        folder, tokenizer, **special, add_bos_token=True, add_eos_token=False,
        clean_up_tokenization_spaces=False, legacy=False, model_max_length=10**30,
        pad_token=None, padding_side="right", sp_model_kwargs={},
        tokenizer_class="LlamaTokenizer",
    )  # fmt: skip


MODELS: dict[str, Callable[[Path], None]] = {
    "meta-llama/Llama-2-13b-hf": partial(_llama2, layers=40),
}
