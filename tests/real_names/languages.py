"""Language models, each with the quirks of its published files."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tokenizers import normalizers
from tokenizers import processors as post
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForPreTraining,
    AutoModelForSeq2SeqLM,
)

from real_names import tokens
from real_names.weights import as_bin, stir, write_json

GATED = ("meta-llama/Llama-2-13b-hf", "google/gemma-3-1b-it", "google/embeddinggemma-300m")


def _causal(
    folder: Path, family: str, shard: str = "5GB", pickled: bool = False, **published: Any
) -> None:
    """A model by its published configuration, which is written as it is published."""
    write_model(folder, AutoModelForCausalLM, {"model_type": family, **published}, shard)
    if pickled:
        as_bin(folder)
        (folder / "model.safetensors").unlink()


def write_model(
    folder: Path, kind: Any, published: dict[str, Any], shard: str = "5GB", by: float = 0.05
) -> Any:
    torch.manual_seed(0)
    config = AutoConfig.for_model(**copy.deepcopy(published))
    model = kind.from_config(config).eval()
    stir(model, by)
    dtype = published.get("torch_dtype", "float32")
    model.to(getattr(torch, dtype)).save_pretrained(folder, max_shard_size=shard)
    write_json(folder / "config.json", {"architectures": [type(model).__name__], **published})
    return model


def _llama2(folder: Path, layers: int) -> None:
    """Gated, in shards, without a token to pad with."""
    _causal(
        folder, "llama", shard="2MB", hidden_size=64, intermediate_size=172,
        num_hidden_layers=layers, num_attention_heads=4, num_key_value_heads=4,
        max_position_embeddings=4096, rms_norm_eps=1e-5, vocab_size=32000, bos_token_id=1,
        eos_token_id=2, pretraining_tp=1, tie_word_embeddings=False, rope_scaling=None,
        hidden_act="silu", initializer_range=0.02, torch_dtype="float16",
    )  # fmt: skip
    _sentencepiece(folder)


def _sentencepiece(folder: Path, **more: Any) -> None:
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
        pad_token=None, sp_model_kwargs={}, tokenizer_class="LlamaTokenizer", **more,
    )  # fmt: skip


def _mistral(folder: Path) -> None:
    """Looks back only so far, groups its heads, pads with nothing."""
    _causal(
        folder, "mistral", shard="3MB", hidden_size=64, intermediate_size=224,
        num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=1, sliding_window=4096,
        max_position_embeddings=32768, rms_norm_eps=1e-5, rope_theta=10000.0, vocab_size=32000,
        bos_token_id=1, eos_token_id=2, tie_word_embeddings=False, hidden_act="silu",
        torch_dtype="bfloat16",
    )  # fmt: skip
    _sentencepiece(folder)


CHATML = """\
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' }}
    {%- if message.content is string %}
        {{- message.content }}
    {%- else %}
        {%- for part in message.content %}
            {%- if part.type == 'image' %}
                {{- '<|vision_start|><|image_pad|><|vision_end|>' }}
            {%- else %}
                {{- part.text }}
            {%- endif %}
        {%- endfor %}
    {%- endif %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
_QWEN_SPECIAL = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>",
    "<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>",
    "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip


def _qwen(folder: Path, family: str, **more: Any) -> None:
    """Padded with its end of text; has no token to begin with, and rows for words that it lacks."""
    _causal(folder, family, **{
        "hidden_size": 64, "intermediate_size": 160, "num_attention_heads": 4,
        "num_key_value_heads": 2, "rms_norm_eps": 1e-6, "rope_theta": 1000000.0,
        "bos_token_id": 151643, "eos_token_id": 151645, "hidden_act": "silu",
        "use_sliding_window": False, "max_window_layers": 28, "torch_dtype": "bfloat16", **more,
    })  # fmt: skip
    qwen_tokenizer(folder)


def qwen_tokenizer(folder: Path, **more: Any) -> None:
    tokenizer = tokens.byte_level(_QWEN_SPECIAL, special_from=151643)
    tokens.save_fast(folder, tokenizer, **{
        "add_bos_token": False, "add_prefix_space": False, "bos_token": None,
        "chat_template": CHATML, "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>", "errors": "replace", "model_max_length": 131072,
        "pad_token": "<|endoftext|>", "split_special_tokens": False, "unk_token": None,
        "tokenizer_class": "Qwen2Tokenizer", "beside": True, **more,
    })  # fmt: skip


def _gemma3(folder: Path, **more: Any) -> None:
    """Five layers in six look back only so far; embeddings are scaled, and shared with the head."""
    _causal(folder, "gemma3_text", **{
        "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 12,
        "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 16,
        "query_pre_attn_scalar": 16, "sliding_window": 512, "sliding_window_pattern": 6,
        "rope_theta": 1000000, "rope_local_base_freq": 10000, "rope_scaling": None,
        "max_position_embeddings": 32768, "rms_norm_eps": 1e-6, "vocab_size": 262144,
        "attn_logit_softcapping": None, "final_logit_softcapping": None, "bos_token_id": 2,
        "eos_token_id": [1, 106], "pad_token_id": 0, "hidden_activation": "gelu_pytorch_tanh",
        "attention_bias": False, "torch_dtype": "bfloat16", **more,
    })  # fmt: skip
    tokenizer = tokens.metaspace_bpe(("<pad>", "<eos>", "<bos>", "<unk>"), bytes_from=4)
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.post_processor = post.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A <bos>:1 $B:1", special_tokens=[("<bos>", 2)]
    )
    tokens.save_fast(
        folder, tokenizer, add_bos_token=True, add_eos_token=False, bos_token="<bos>",
        eos_token="<eos>", pad_token="<pad>", unk_token="<unk>", model_max_length=10**30,
        clean_up_tokenization_spaces=False, tokenizer_class="GemmaTokenizer",
    )  # fmt: skip


def _phi2(folder: Path) -> None:
    """Rotates two fifths of a head; attention and feed-forward stand side by side."""
    _causal(
        folder, "phi", hidden_size=64, intermediate_size=256, num_hidden_layers=4,
        num_attention_heads=4, num_key_value_heads=4, partial_rotary_factor=0.5,
        qk_layernorm=False, layer_norm_eps=1e-5, max_position_embeddings=2048,
        rope_theta=10000.0, vocab_size=51200, bos_token_id=50256, eos_token_id=50256,
        tie_word_embeddings=False, hidden_act="gelu_new", torch_dtype="float16",
    )  # fmt: skip
    _gpt2_tokenizer(folder, model_max_length=2048, tokenizer_class="CodeGenTokenizer")


def _gpt2(folder: Path) -> None:
    """A window of 1,024 positions that it has learnt; the oldest names of keys."""
    _causal(
        folder, "gpt2", n_layer=4, n_embd=64, n_head=4, n_ctx=1024, n_positions=1024,
        vocab_size=50257, bos_token_id=50256, eos_token_id=50256, layer_norm_epsilon=1e-5,
        activation_function="gelu_new", resid_pdrop=0.1, embd_pdrop=0.1, attn_pdrop=0.1,
        initializer_range=0.02, summary_type="cls_index", summary_use_proj=True,
    )  # fmt: skip
    as_bin(folder)
    _gpt2_tokenizer(folder, model_max_length=1024, tokenizer_class="GPT2Tokenizer")


def _gpt2_tokenizer(folder: Path, **more: Any) -> None:
    end = "<|endoftext|>"
    tokens.save_fast(
        folder, tokens.byte_level((end,), special_from=50256), beside=True, bos_token=end,
        eos_token=end, unk_token=end, add_prefix_space=False, **more,
    )  # fmt: skip


def _opt350m(folder: Path) -> None:
    """Half as wide outside as between its blocks, norms after them, and only pickled weights."""
    _causal(
        folder, "opt", pickled=True, hidden_size=64, word_embed_proj_dim=32, ffn_dim=256,
        num_hidden_layers=4, num_attention_heads=4, do_layer_norm_before=False,
        max_position_embeddings=2048, vocab_size=50272, bos_token_id=2, eos_token_id=2,
        pad_token_id=1, prefix="</s>", activation_function="relu", dropout=0.1,
        torch_dtype="float16",
    )  # fmt: skip
    opt_tokenizer(folder)


def opt_tokenizer(folder: Path, special: tuple[str, ...] = (), **more: Any) -> None:
    first = ("<s>", "<pad>", "</s>", "<unk>")
    tokenizer = tokens.byte_level(special, first, special_from=50265)
    tokenizer.post_processor = post.TemplateProcessing(
        single="</s> $A", pair="</s> $A </s>:1 $B:1", special_tokens=[("</s>", 2)]
    )
    tokens.save_fast(folder, tokenizer, **{
        "beside": True, "add_bos_token": True, "add_prefix_space": False, "bos_token": "</s>",
        "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "</s>", "errors": "replace",
        "model_max_length": 10**30, "tokenizer_class": "GPT2Tokenizer", **more,
    })  # fmt: skip


def _t5(folder: Path) -> None:
    """Has an encoder too, and is none that goes on with a text."""
    write_model(folder, AutoModelForSeq2SeqLM, {
        "model_type": "t5", "d_model": 64, "d_ff": 128, "d_kv": 16, "num_heads": 4,
        "num_layers": 2, "num_decoder_layers": 2, "vocab_size": 32128, "pad_token_id": 0,
        "eos_token_id": 1, "decoder_start_token_id": 0, "is_encoder_decoder": True,
        "relative_attention_num_buckets": 32, "feed_forward_proj": "relu", "n_positions": 512,
    })  # fmt: skip
    tokens.t5_tokenizer(folder, extra_ids=100)


def _bert(folder: Path) -> None:
    """Sees both ways."""
    write_model(folder, AutoModelForPreTraining, {
        "model_type": "bert", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4, "vocab_size": 30522, "max_position_embeddings": 512,
        "type_vocab_size": 2, "pad_token_id": 0, "hidden_act": "gelu", "layer_norm_eps": 1e-12,
    })  # fmt: skip
    tokens.bert_tokenizer(folder)


MODELS: dict[str, Callable[[Path], None]] = {
    "meta-llama/Llama-2-13b-hf": partial(_llama2, layers=40),
    "mistralai/Mistral-7B-v0.1": _mistral,
    "Qwen/Qwen2.5-7B-Instruct": partial(
        _qwen, family="qwen2", num_hidden_layers=28, vocab_size=152064, sliding_window=131072,
        max_position_embeddings=32768, tie_word_embeddings=False,
    ),
    "Qwen/Qwen3-0.6B": partial(
        _qwen, family="qwen3", num_hidden_layers=4, vocab_size=151936, sliding_window=None,
        max_position_embeddings=40960, tie_word_embeddings=True, head_dim=32,
        attention_bias=False,
    ),
    "google/gemma-3-1b-it": _gemma3,
    "google/embeddinggemma-300m": partial(_gemma3, use_bidirectional_attention=True),
    "microsoft/phi-2": _phi2,
    "openai-community/gpt2": _gpt2,
    "facebook/opt-350m": _opt350m,
    "google-t5/t5-small": _t5,
    "google-bert/bert-base-uncased": _bert,
}  # fmt: skip
