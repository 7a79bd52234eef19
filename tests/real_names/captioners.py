"""Models that speak about pictures, in the files their makers published."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tokenizers import processors as post
from transformers import (
    AutoModelForImageTextToText,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipForImageTextRetrieval,
    BlipForQuestionAnswering,
)

from real_names import tokens
from real_names.languages import CHATML, opt_tokenizer, qwen_tokenizer, write_model
from real_names.weights import as_bin, seeded, write_json

_CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]
_IMAGENET_MEAN = [0.485, 0.456, 0.406]
_IMAGENET_STD = [0.229, 0.224, 0.225]
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
    _blip_pictures(folder, 384, "BlipProcessor")
    tokens.bert_tokenizer(folder, processor_class="BlipProcessor", model_input_names=[
        "input_ids", "attention_mask"
    ])  # fmt: skip


def _blip_pictures(folder: Path, side: int, processor: str) -> None:
    write_json(folder / "preprocessor_config.json", {
        "do_normalize": True, "do_pad": True, "do_rescale": True, "do_resize": True,
        "image_mean": _CLIP_MEAN, "image_processor_type": "BlipImageProcessor",
        "image_std": _CLIP_STD, "processor_class": processor, "resample": 3,
        "rescale_factor": 0.00392156862745098, "size": {"height": side, "width": side},
        "size_divisor": 32,
    })  # fmt: skip


@torch.no_grad()
def _speak(head: Any, words: list[str], end: int) -> None:
    """Have a decoder of random weights say words, and come to an end."""
    bias = torch.full_like(head.bias, -30.0)
    known = [number for number, word in enumerate(words) if word in tokens.WORDS]
    bias[known] = 0.0
    bias[end] = 1.0
    head.bias.copy_(bias)
    if getattr(head.decoder, "bias", None) is not None:
        head.decoder.bias.copy_(bias)


def _blip2(folder: Path) -> None:
    """32 questions between an image tower and an OPT, whose token 50265 stands for each."""
    text = {
        "model_type": "opt", "hidden_size": 64, "word_embed_proj_dim": 64, "ffn_dim": 128,
        "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 2048,
        "vocab_size": 50304, "do_layer_norm_before": True, "bos_token_id": 2, "eos_token_id": 50118,
        "pad_token_id": 1, "prefix": "</s>", "activation_function": "relu", "dropout": 0.0,
    }  # fmt: skip
    write_model(folder, AutoModelForImageTextToText, {
        "model_type": "blip-2", "image_token_index": 50265, "num_query_tokens": 32,
        "image_text_hidden_size": 256, "use_decoder_only_language_model": True,
        "initializer_range": 0.02, "tie_word_embeddings": False,
        "vision_config": {
            "model_type": "blip_2_vision_model", "hidden_size": 48, "intermediate_size": 96,
            "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 224, "patch_size": 14,
            "hidden_act": "gelu", "layer_norm_eps": 1e-6, "qkv_bias": True,
            "initializer_range": 0.02,
        },
        "qformer_config": {
            "model_type": "blip_2_qformer", "hidden_size": 48, "intermediate_size": 96,
            "num_hidden_layers": 2, "num_attention_heads": 4, "encoder_hidden_size": 48,
            "cross_attention_frequency": 2, "vocab_size": 30522,
        },
        "text_config": text,
    }, shard="4MB")  # fmt: skip
    _blip_pictures(folder, 224, "Blip2Processor")
    write_json(folder / "processor_config.json", {
        "processor_class": "Blip2Processor", "num_query_tokens": 32,
    })  # fmt: skip
    opt_tokenizer(folder, ("<image>",), processor_class="Blip2Processor")


def _florence2(folder: Path) -> None:
    """A DaViT and a BART; tasks are words such as <CAPTION>, places are tokens."""
    write_model(folder, AutoModelForImageTextToText, {
        "model_type": "florence2", "image_token_id": 51289, "is_encoder_decoder": True,
        "tie_word_embeddings": True, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1,
        "vision_config": {
            "model_type": "florence_vision", "embed_dim": [16, 32, 32, 64],
            "depths": [1, 1, 1, 1], "num_heads": [2, 2, 2, 4], "num_groups": [2, 2, 2, 4],
            "patch_size": [7, 3, 3, 3], "patch_stride": [4, 2, 2, 2],
            "patch_padding": [3, 1, 1, 1], "patch_prenorm": [False, True, True, True],
            "window_size": 12, "projection_dim": 64, "max_temporal_embeddings": 100,
            "max_position_embeddings": 50, "mlp_ratio": 4.0, "qkv_bias": True,
        },
        "text_config": {
            "model_type": "bart", "d_model": 64, "encoder_layers": 2, "decoder_layers": 2,
            "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 128,
            "decoder_ffn_dim": 128, "max_position_embeddings": 4096, "vocab_size": 51290,
            "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1, "decoder_start_token_id": 2,
            "forced_eos_token_id": 2, "forced_bos_token_id": 0, "scale_embedding": False,
            "activation_function": "gelu", "tie_word_embeddings": True, "dropout": 0.1,
        },
    })  # fmt: skip
    write_json(folder / "generation_config.json", {
        "bos_token_id": 0, "decoder_start_token_id": 2, "early_stopping": True, "eos_token_id": 2,
        "forced_bos_token_id": 0, "forced_eos_token_id": 2, "no_repeat_ngram_size": 3,
        "num_beams": 3, "pad_token_id": 1,
    })  # fmt: skip
    write_json(folder / "preprocessor_config.json", {
        "crop_size": {"height": 768, "width": 768}, "do_center_crop": False, "do_convert_rgb": None,
        "do_normalize": True, "do_rescale": True, "do_resize": True, "image_mean": _IMAGENET_MEAN,
        "image_processor_type": "CLIPImageProcessor", "image_seq_length": 577,
        "image_std": _IMAGENET_STD, "processor_class": "Florence2Processor", "resample": 3,
        "rescale_factor": 0.00392156862745098, "size": {"height": 768, "width": 768},
    })  # fmt: skip
    write_json(folder / "processor_config.json", {
        "processor_class": "Florence2Processor", "num_additional_image_tokens": 0,
    })  # fmt: skip
    places = tuple(f"<loc_{n}>" for n in range(1000))
    tasks = ("<od>", "</od>", "<ocr>", "</ocr>", *places, "<cap>", "</cap>", "<ncap>", "</ncap>",
             "<dcap>", "</dcap>", "<grounding>", "</grounding>", "<seg>", "</seg>", "<sep>",
             "<region_cap>", "</region_cap>", "<poly>", "</poly>", "<and>")  # fmt: skip
    first = ("<s>", "<pad>", "</s>", "<unk>")
    tokenizer = tokens.byte_level((*tasks, "<image>"), first, special_from=51289 - len(tasks))
    tokenizer.post_processor = post.RobertaProcessing(("</s>", 2), ("<s>", 0))
    tokens.save_fast(
        folder, tokenizer, beside=True, bos_token="<s>", cls_token="<s>", eos_token="</s>",
        sep_token="</s>", pad_token="<pad>", unk_token="<unk>", mask_token=None,
        add_prefix_space=False, model_max_length=1024, tokenizer_class="BartTokenizer",
        processor_class="Florence2Processor", image_token="<image>",
        extra_special_tokens={"image_token": "<image>"},
    )  # fmt: skip


def _qwen25vl(folder: Path) -> None:
    """Pictures of any size, patches in windows, positions in three directions, a chat."""
    write_model(folder, AutoModelForImageTextToText, {
        "model_type": "qwen2_5_vl", "image_token_id": 151655, "video_token_id": 151656,
        "vision_start_token_id": 151652, "vision_end_token_id": 151653,
        "vision_token_id": 151654, "bos_token_id": 151643, "eos_token_id": 151645,
        "hidden_act": "silu", "hidden_size": 64, "intermediate_size": 128,
        "initializer_range": 0.02, "max_position_embeddings": 128000, "max_window_layers": 70,
        "num_attention_heads": 4, "num_hidden_layers": 4, "num_key_value_heads": 2,
        "rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "sliding_window": 32768,
        "tie_word_embeddings": True, "torch_dtype": "bfloat16", "use_sliding_window": False,
        "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]}, "vocab_size": 151936,
        "vision_config": {
            "depth": 4, "hidden_act": "silu", "hidden_size": 32, "intermediate_size": 64,
            "num_heads": 4, "in_chans": 3, "out_hidden_size": 64, "patch_size": 14,
            "spatial_merge_size": 2, "spatial_patch_size": 14, "window_size": 112,
            "fullatt_block_indexes": [1, 3], "tokens_per_second": 2, "temporal_patch_size": 2,
        },
    }, shard="16MB")  # fmt: skip
    write_json(folder / "generation_config.json", {
        "bos_token_id": 151643, "pad_token_id": 151643, "do_sample": True,
        "eos_token_id": [151645, 151643], "repetition_penalty": 1.05, "temperature": 0.000001,
    })  # fmt: skip
    write_json(folder / "preprocessor_config.json", {
        "min_pixels": 3136, "max_pixels": 12845056, "patch_size": 14, "temporal_patch_size": 2,
        "merge_size": 2, "image_mean": _CLIP_MEAN, "image_std": _CLIP_STD,
        "image_processor_type": "Qwen2VLImageProcessor", "processor_class": "Qwen2_5_VLProcessor",
    })  # fmt: skip
    write_json(folder / "chat_template.json", {"chat_template": CHATML})
    qwen_tokenizer(folder)


MODELS: dict[str, Callable[[Path], None]] = {
    "Salesforce/blip-image-captioning-large": partial(
        _blip, kind=BlipForConditionalGeneration, large=True
    ),
    "Salesforce/blip-image-captioning-base": partial(_blip, kind=BlipForConditionalGeneration),
    "Salesforce/blip-vqa-base": partial(_blip, kind=BlipForQuestionAnswering),
    "Salesforce/blip-itm-base-coco": partial(_blip, kind=BlipForImageTextRetrieval),
    "Salesforce/blip2-opt-2.7b": _blip2,
    "florence-community/Florence-2-base": _florence2,
    "Qwen/Qwen2.5-VL-3B-Instruct": _qwen25vl,
}
