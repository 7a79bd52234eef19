"""Tiny BLIPs with random weights."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import (
    BlipConfig,
    BlipForImageTextRetrieval,
    BlipImageProcessor,
    BlipProcessor,
    PreTrainedTokenizerFast,
)

WINDOW = 12
SPECIAL = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
WORDS = ["a", "red", "blue", "old", "cat", "dog", "house", "tree", "runs", "sits", "under", "near"]


def processor(model_max_length: int | None) -> BlipProcessor:
    vocabulary = {word: i for i, word in enumerate(SPECIAL + WORDS)}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    names = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", model_max_length=model_max_length, **names
    )
    return BlipProcessor(BlipImageProcessor(size={"height": 32, "width": 32}), fast)


def saved(
    folder: Path,
    kind: type = BlipForImageTextRetrieval,
    max_length: int | None = None,
    window: int = WINDOW,
) -> Path:
    """A small BLIP of a kind whose scores differ between pictures and between texts."""
    layers = {"num_hidden_layers": 2, "num_attention_heads": 4}
    size = {"hidden_size": 32, "intermediate_size": 64, **layers}
    ids = {"pad_token_id": 0, "bos_token_id": 1, "sep_token_id": 2, "eos_token_id": 2}
    words = {"vocab_size": len(SPECIAL + WORDS), "max_position_embeddings": window}
    text = {"encoder_hidden_size": 32, **words, **ids}
    vision = {**size, "image_size": 32, "patch_size": 8}
    model = kind(BlipConfig(vision_config=vision, text_config={**size, **text}))
    random = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        scales = name.lower().endswith(("norm.weight", "norm1.weight", "norm2.weight"))
        with torch.no_grad():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=random) + scales)
    model.save_pretrained(folder)
    processor(max_length).save_pretrained(folder)
    return folder
