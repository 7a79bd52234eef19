"""Models that answer questions about pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from PIL import Image

from surd.errors import ModelError
from surd.models.hub import loading
from surd.models.quiet import hush

Answer = Callable[[Sequence[Image.Image], Sequence[str]], list[str]]
"""RGB pictures and a question about each to short answers."""

_SHORTLY = "Answer with one word or number."
_MAX_NEW_TOKENS = 10


def load_vqa(name: str, *, device: torch.device, dtype: torch.dtype) -> Answer:
    """The model that `name` means, a hub id or a folder.

    BLIP generates its answer (Li et al. 2022, arXiv:2201.12086, section 5.4); models that choose
    one of their answers (ViLT) choose; any other image-text-to-text model with a chat template is
    asked as a user would, for one word. Raises ModelError in one line.
    """
    from transformers import AutoConfig

    with loading("VQA model", name) as found:
        hush()
        config = AutoConfig.from_pretrained(found)
        if config.model_type in ("blip", "vilt"):
            return _answering(found, name, config.model_type, device, dtype)
        return _chatting(found, name, device, dtype)


def _answering(
    found: str, name: str, kind: str, device: torch.device, dtype: torch.dtype
) -> Answer:
    from transformers import AutoModelForVisualQuestionAnswering, AutoProcessor

    processor = AutoProcessor.from_pretrained(found)
    model, loaded = AutoModelForVisualQuestionAnswering.from_pretrained(
        found, dtype=dtype, output_loading_info=True
    )
    if loaded["missing_keys"]:  # transformers makes up what is not there
        absent = sorted(loaded["missing_keys"])[0]
        raise ModelError(f"VQA model {name!r} cannot answer questions: it has no {absent}")
    model.to(device).eval().requires_grad_(False)

    @torch.inference_mode()
    def answer(images: Sequence[Image.Image], questions: Sequence[str]) -> list[str]:
        inputs = processor(
            images=list(images), text=list(questions), padding=True, return_tensors="pt"
        ).to(device)
        inputs["pixel_values"] = inputs["pixel_values"].to(dtype)
        if kind == "vilt":
            chosen = model(**inputs).logits.argmax(dim=-1)  # [b]
            return [model.config.id2label[int(number)] for number in chosen]
        ids = model.generate(**inputs, max_new_tokens=_MAX_NEW_TOKENS)
        return [t.strip() for t in processor.batch_decode(ids, skip_special_tokens=True)]

    return answer


def _chatting(found: str, name: str, device: torch.device, dtype: torch.dtype) -> Answer:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    from surd.models.image_text import after

    processor: Any = AutoProcessor.from_pretrained(found)
    if not getattr(processor, "chat_template", None):
        raise ModelError(f"VQA model {name!r} has no chat template; use a BLIP-VQA model")
    model = AutoModelForImageTextToText.from_pretrained(found, dtype=dtype)
    model.to(device).eval().requires_grad_(False)

    @torch.inference_mode()
    def one(image: Image.Image, question: str) -> str:
        content = [{"type": "image"}, {"type": "text", "text": f"{question} {_SHORTLY}"}]
        turn = [{"role": "user", "content": content}]
        text = str(processor.apply_chat_template(turn, add_generation_prompt=True))
        inputs = processor(images=[image], text=[text], return_tensors="pt").to(device)
        inputs["pixel_values"] = inputs["pixel_values"].to(dtype)
        ids = model.generate(**inputs, max_new_tokens=_MAX_NEW_TOKENS, do_sample=False)
        words: str = processor.batch_decode(
            after(inputs["input_ids"], ids), skip_special_tokens=True
        )[0]
        return words.strip()

    return lambda images, questions: [
        one(image, question) for image, question in zip(images, questions, strict=True)
    ]
