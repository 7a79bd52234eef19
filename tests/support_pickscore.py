"""A CLIP as transformers saves it, tiny, with its processor: what PickScore is."""

from __future__ import annotations

from pathlib import Path

import torch
import transformers
from support_vlm import tokenizer
from tokenizers.processors import TemplateProcessing

SIDE = 32


def saved(where: Path) -> Path:
    """In that folder."""
    words = tokenizer(["<start>", "<end>", "<unk>"], bos_token="<start>", eos_token="<end>")
    words.pad_token = "<end>"
    words.backend_tokenizer.post_processor = TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", 0), ("<end>", 1)]
    )
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    small |= {"num_attention_heads": 2, "projection_dim": 8}
    config = transformers.CLIPConfig(
        text_config={
            **small, "vocab_size": len(words), "max_position_embeddings": 12,
            "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1,
        },
        vision_config={**small, "image_size": SIDE, "patch_size": 8},
        projection_dim=8,
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.CLIPModel(config).save_pretrained(where)
    images = transformers.CLIPImageProcessor(
        size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}
    )
    transformers.CLIPProcessor(images, words).save_pretrained(where)
    return where
