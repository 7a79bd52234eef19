"""Captions from any image-text-to-text model of transformers, by its own ``generate``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from surd.models.captions import QUESTION, Captioner, Proposal, Wanted

_SIDE_PX = 768
_NUCLEUS = {"do_sample": True, "num_beams": 1, "temperature": 1.0, "top_k": 50}
"""Said in full: where nothing is said, the model's own generation_config.json decides. Qwen-VL's
draws the likeliest word every time, Florence-2's searches three beams."""


def load_image_text(
    found: str, device: torch.device, dtype: torch.dtype, prompt: str | None
) -> Captioner:
    """BLIP-2, Florence-2, Qwen-VL and their like.

    A model with a chat template is asked `prompt` (or for one short sentence) as a user would;
    Florence-2 gets its task word; any other gets `prompt` as it stands, nothing by default.
    Raises OSError or ValueError where the model cannot be loaded.
    """
    processor = AutoProcessor.from_pretrained(found)
    model = AutoModelForImageTextToText.from_pretrained(found, dtype=dtype)
    model.to(device).eval().requires_grad_(False)
    text = _asked(processor, model.config.model_type, prompt)

    @torch.inference_mode()
    def generate(image: Image.Image, **how: Any) -> list[str]:
        inputs = processor(images=[image], text=[text], return_tensors="pt").to(device)
        inputs["pixel_values"] = inputs["pixel_values"].to(dtype)
        ids = model.generate(**inputs, **how)
        if not model.config.is_encoder_decoder:
            ids = after(inputs["input_ids"], ids)
        return [t.strip() for t in processor.batch_decode(ids, skip_special_tokens=True)]

    def propose(
        pictures: Sequence[Image.Image], wanted: Wanted, seeds: Sequence[int]
    ) -> list[list[Proposal]]:
        found: list[list[Proposal]] = []
        for image, seed in zip(pictures, seeds, strict=True):
            words = {"max_new_tokens": wanted.max_new_tokens}
            beam = generate(image, num_beams=wanted.num_beams, do_sample=False, **words)
            proposals = [Proposal(beam[0], "beam")]
            if wanted.samples:
                with torch.random.fork_rng([device] if device.type == "cuda" else []):
                    torch.manual_seed(seed)
                    drawn = generate(
                        image,
                        **_NUCLEUS,
                        top_p=wanted.top_p,
                        num_return_sequences=wanted.samples,
                        **words,
                    )
                proposals += [Proposal(t, "nucleus") for t in drawn]
            found.append(proposals)
        return found

    return Captioner(lambda image: image, propose, _SIDE_PX)


def after(prompt: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """What was generated; most decoders give the prompt back before it, some do not."""
    words = prompt.shape[1]
    given_back = torch.equal(ids[:, :words], prompt.expand(len(ids), -1))
    return ids[:, words:] if given_back else ids


def _asked(processor: Any, kind: str, prompt: str | None) -> str:
    if getattr(processor, "chat_template", None):
        content = [{"type": "image"}, {"type": "text", "text": prompt or QUESTION}]
        turn = [{"role": "user", "content": content}]
        return str(processor.apply_chat_template(turn, add_generation_prompt=True))
    if kind.startswith("florence"):
        return prompt or "<CAPTION>"
    return prompt or ""
