"""Models that speak about pictures, in the files their makers published."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import (
    BlipConfig,
    BlipForConditionalGeneration,
    BlipForImageTextRetrieval,
    BlipForQuestionAnswering,
)

from real_names import tokens
from real_names.weights import as_bin, seeded, write_json

_CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]
_CLIP_STD = [0.26862954, 0.26130258, 0.27577711]


def _blip(folder: Path, kind: Any, large: bool = False) -> None:
    """Salesforce's BLIPs: pictures of 384 px in patches of 16, bert-base-uncased's words and two.

    The large ones have a wider image tower than text decoder.
    """
    width = 64 if large else 48
    vision = {
        "hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": 2,
        "num_attention_heads": 4, "image_size": 384, "patch_size": 16, "hidden_act": "gelu",
        "layer_norm_eps": 1e-5, "projection_dim": 512,
    }  # fmt: skip
    text = {
        "hidden_size": 48, "intermediate_size": 192, "encoder_hidden_size": width,
        "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 512,
        "vocab_size": 30524, "projection_dim": 768, "hidden_act": "gelu", "layer_norm_eps": 1e-12,
        "pad_token_id": 0, "bos_token_id": 30522, "eos_token_id": 2, "sep_token_id": 102,
        "is_decoder": True, "use_cache": True,
    }  # fmt: skip
    config = BlipConfig(
        text_config=text, vision_config=vision, projection_dim=512, image_text_hidden_size=256,
        logit_scale_init_value=2.6592,
    )  # fmt: skip
    model = seeded(kind, config)
    decoder = getattr(model, "text_decoder", None)
    if decoder is not None:
        _speak(decoder.cls.predictions, tokens.bert_words(), end=102)
    model.save_pretrained(folder)
    as_bin(folder)
    write_json(folder / "preprocessor_config.json", {
        "do_normalize": True, "do_pad": True, "do_rescale": True, "do_resize": True,
        "image_mean": _CLIP_MEAN, "image_processor_type": "BlipImageProcessor",
        "image_std": _CLIP_STD, "processor_class": "BlipProcessor", "resample": 3,
        "rescale_factor": 0.00392156862745098, "size": {"height": 384, "width": 384},
        "size_divisor": 32,
    })  # fmt: skip
    tokens.bert_tokenizer(folder, processor_class="BlipProcessor", model_input_names=[
        "input_ids", "attention_mask"
    ])  # fmt: skip


@torch.no_grad()
def _speak(head: Any, words: list[str], end: int) -> None:
    """Have a decoder of random weights say words, and come to an end."""
    bias = torch.full_like(head.bias, -30.0)
    known = [number for number, word in enumerate(words) if word in tokens.WORDS]
    bias[known] = 0.0
    bias[end] = 2.0
    head.bias.copy_(bias)
    if getattr(head.decoder, "bias", None) is not None:
        head.decoder.bias.copy_(bias)


MODELS: dict[str, Callable[[Path], None]] = {
    "Salesforce/blip-image-captioning-large": partial(
        _blip, kind=BlipForConditionalGeneration, large=True
    ),
    "Salesforce/blip-image-captioning-base": partial(_blip, kind=BlipForConditionalGeneration),
    "Salesforce/blip-vqa-base": partial(_blip, kind=BlipForQuestionAnswering),
    "Salesforce/blip-itm-base-coco": partial(_blip, kind=BlipForImageTextRetrieval),
}
