"""Tiny image-text-to-text models with random weights, of the ways they are built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForImageTextToText

WORDS = ["a", "red", "blue", "cat", "dog", "fox", "house", "tree", "sits", "runs", "under", "near"]
QUESTION = "Describe this picture in one short sentence."
ASKED = ["What", "does", "the", "image", "describe", "?", ".", "user", *QUESTION[:-1].split()]
SEEN = "<|vision_start|><|image_pad|><|vision_end|>"
TURN = f"<|im_start|>user {SEEN}{{}}<|im_end|><|im_start|>assistant "
CHAT_TEMPLATE = """{% for m in messages %}<|im_start|>{{ m.role }} {% for c in m.content %}
{%- if c.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ c.text }}
{%- endif %}{% endfor %}<|im_end|>{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant {% endif %}"""
SQUARE = {"height": 32, "width": 32}
LAYERS = {"num_hidden_layers": 2, "num_attention_heads": 4}
SIZE = {"hidden_size": 32, "intermediate_size": 64, **LAYERS}


def tokenizer(special: list[str], start: str | None = None, **names: Any) -> Any:
    """One token a word; the special ones have the first ids, in their order."""
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys([*special, *WORDS, *ASKED]))}
    bare = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    bare.pre_tokenizer = Whitespace()
    if start:
        pair = (start, vocabulary[start])
        bare.post_processor = TemplateProcessing(single=f"{start} $A", special_tokens=[pair])
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=bare, unk_token="<unk>", **names)
    fast.add_special_tokens({"additional_special_tokens": special})
    return fast


def blip_2() -> tuple[Any, Any]:
    special = ["<pad>", "</s>", "<unk>", "<image>"]
    words = tokenizer(special, "</s>", eos_token="</s>", pad_token="<pad>")
    text = {"model_type": "opt", "hidden_size": 32, "ffn_dim": 64, "word_embed_proj_dim": 32}
    text |= {"vocab_size": len(words), "max_position_embeddings": 64, **LAYERS}
    config = transformers.Blip2Config(
        vision_config={**SIZE, "image_size": 32, "patch_size": 8},
        qformer_config={**SIZE, "encoder_hidden_size": 32, "vocab_size": len(words)},
        text_config={**text, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1},
        num_query_tokens=4,
        image_token_index=3,
    )
    images = transformers.BlipImageProcessor(size=SQUARE)
    return config, transformers.Blip2Processor(images, words, num_query_tokens=4)


def qwen() -> tuple[Any, Any]:
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"]
    special += ["<|image_pad|>", "<|video_pad|>", "<unk>"]
    words = tokenizer(special, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    ids = {"vision_start_token_id": 3, "vision_end_token_id": 4}
    vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2}
    vision |= {"patch_size": 4, "window_size": 16, "out_hidden_size": 32}
    turns = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}
    text = {**SIZE, "num_key_value_heads": 2, "vocab_size": len(words), "rope_parameters": turns}
    config = transformers.Qwen2_5_VLConfig(
        vision_config={**vision, "fullatt_block_indexes": [1]},
        text_config={**text, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 0},
        **{**ids, "image_token_id": 5, "video_token_id": 6},
    )
    pixels = {"patch_size": 4, "merge_size": 2, "min_pixels": 256, "max_pixels": 1024}
    images = transformers.Qwen2VLImageProcessor(**pixels)
    videos = transformers.Qwen2VLVideoProcessor(**pixels)
    chat = {"chat_template": CHAT_TEMPLATE}
    return config, transformers.Qwen2_5_VLProcessor(images, words, videos, **chat)


def florence() -> tuple[Any, Any]:
    names = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>"}
    names |= {"extra_special_tokens": {"image_token": "<image>"}}
    words = tokenizer(["<s>", "<pad>", "</s>", "<unk>", "<image>"], **names)
    vision = {"depths": (1, 1), "patch_size": (7, 3), "patch_stride": (4, 2), "window_size": 2}
    vision |= {"patch_padding": (3, 1), "patch_prenorm": (False, True), "embed_dim": (16, 32)}
    vision |= {"num_heads": (2, 2), "num_groups": (2, 2), "projection_dim": 32}
    text = {"model_type": "bart", "d_model": 32, "vocab_size": len(words)}
    for side in ("encoder", "decoder"):
        text |= {f"{side}_layers": 1, f"{side}_attention_heads": 2, f"{side}_ffn_dim": 32}
    text |= {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2}
    text |= {"max_position_embeddings": 128, "forced_eos_token_id": None}
    towers = {"vision_config": vision, "text_config": text}
    config = transformers.Florence2Config(image_token_id=4, **towers)
    images = transformers.CLIPImageProcessor(size=SQUARE, crop_size=SQUARE, image_seq_length=17)
    return config, transformers.Florence2Processor(images, words)


def llava() -> tuple[Any, Any]:
    """As JoyCaption is: SigLIP and a Llama."""
    special = ["<|begin_of_text|>", "<|eot_id|>", "<unk>", "<image>"]
    names = {"eos_token": "<|eot_id|>", "extra_special_tokens": {"image_token": "<image>"}}
    words = tokenizer(special, "<|begin_of_text|>", bos_token="<|begin_of_text|>", **names)
    text = {"model_type": "llama", **SIZE, "num_key_value_heads": 2, "vocab_size": len(words)}
    vision = {"model_type": "siglip_vision_model", **SIZE, "image_size": 32, "patch_size": 8}
    config = transformers.LlavaConfig(
        vision_config=vision,
        text_config={**text, "bos_token_id": 0, "eos_token_id": 1},
        image_token_index=3,
        image_seq_length=16,
        vision_feature_select_strategy="full",
    )
    images = transformers.SiglipImageProcessor(size=SQUARE)
    template = CHAT_TEMPLATE.replace(SEEN, "<image>").replace("<|im_end|>", "<|eot_id|>")
    pictures = {"patch_size": 8, "vision_feature_select_strategy": "full"}
    return config, transformers.LlavaProcessor(
        images, words, **pictures, num_additional_image_tokens=0, chat_template=template
    )


def internvl() -> tuple[Any, Any]:
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<unk>", "<IMG_CONTEXT>", "<img>"]
    tokens = {"start_image_token": "<img>", "end_image_token": "</img>", "video_token": "<video>"}
    names = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    names |= {"extra_special_tokens": {**tokens, "context_image_token": "<IMG_CONTEXT>"}}
    words = tokenizer([*special, "</img>", "<video>"], **names)
    text = {"model_type": "qwen2", **SIZE, "num_key_value_heads": 2, "vocab_size": len(words)}
    config = transformers.InternVLConfig(
        vision_config={**SIZE, "image_size": [32, 32], "patch_size": [8, 8]},
        text_config={**text, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 0},
        image_token_id=4,
        image_seq_length=4,
        downsample_ratio=0.5,
    )
    images = transformers.GotOcr2ImageProcessor(size=SQUARE, crop_to_patches=True, max_patches=3)
    videos = transformers.InternVLVideoProcessor(size=SQUARE)
    template = CHAT_TEMPLATE.replace(SEEN, "<IMG_CONTEXT>")
    return config, transformers.InternVLProcessor(
        images, words, videos, image_seq_length=4, chat_template=template
    )


KINDS = {
    "blip-2": (blip_2, 3),
    "qwen2.5-vl": (qwen, 2),
    "florence-2": (florence, 2),
    "llava": (llava, 2),
    "internvl": (internvl, 2),
}
"""Each with a seed whose captions differ between pictures."""


def saved(folder: Path, kind: str) -> Path:
    """A model of that kind, in a folder."""
    make, seed = KINDS[kind]
    config, processor = make()
    model = AutoModelForImageTextToText.from_config(config)
    random = torch.Generator().manual_seed(seed)
    for name, values in model.named_parameters():
        scales = values.ndim == 1 and name.endswith("weight")
        values.data = 0.3 * torch.randn(values.shape, generator=random) + scales
    head = model.get_output_embeddings().weight.data
    head[config.image_token_id] = head[model.generation_config.eos_token_id]  # never chosen
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
