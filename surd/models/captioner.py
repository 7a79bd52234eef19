"""Captioning models: BLIP by surd's own decoding, any other through transformers."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from PIL import Image

from surd.errors import ModelError, one_line
from surd.models.captions import Captioner, Proposal, Style, Wanted
from surd.models.hub import loading
from surd.models.quiet import hush

log = logging.getLogger("surd")

_MOVED = (AttributeError, TypeError, KeyError, IndexError, ValueError)
"""What it raises to look for parts of a model where they no longer are."""


def load_captioner(
    name: str,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    prompt: str | None = None,
    style: Style = "simple",
) -> Captioner:
    """The captioner that `name` means: a hub id, a local folder, or ``demo:captioner``.

    BLIP is decoded by :mod:`surd.models.blip` where this transformers is built as that expects, as
    one picture shows; every other model of transformers' image-text-to-text kind (BLIP-2,
    Florence-2, Qwen-VL, ...) by its own ``generate``, asked with `prompt`, or else for a caption of
    the `style`. Raises ModelError in one line, also for models that know no such caption.
    """
    from transformers import AutoConfig

    with loading("captioner", name) as found:
        hush()
        kind = AutoConfig.from_pretrained(found).model_type
        if kind == "blip":
            if style == "dense":
                raise ModelError(
                    f"captioner {name!r} is a BLIP, which writes short captions only; set "
                    "caption.dense.model to a model that can be asked for details, such as "
                    "Qwen/Qwen3-VL-4B-Instruct"
                )
            return _blip(found, torch.device(device), dtype)
        from surd.models.image_text import load_image_text

        return load_image_text(found, torch.device(device), dtype, prompt, style)


def _blip(found: str, device: torch.device, dtype: torch.dtype) -> Captioner:
    from transformers import BlipForConditionalGeneration, BlipProcessor, __version__

    from surd.models.blip import beam_search, encode, nucleus_sample

    processor = BlipProcessor.from_pretrained(found)
    model, loaded = BlipForConditionalGeneration.from_pretrained(
        found, dtype=dtype, output_loading_info=True
    )
    if any(key.startswith("text_encoder.") for key in loaded["unexpected_keys"]):
        raise ModelError(f"captioner {found!r} is a BLIP that answers questions, not a captioner")
    if loaded["missing_keys"]:  # transformers makes up what is not there
        raise ModelError(
            f"captioner {found!r} is not a captioning BLIP: it has no "
            f"{sorted(loaded['missing_keys'])[0]}"
        )
    model.to(device).eval().requires_grad_(False)

    def prepare(image: Image.Image) -> torch.Tensor:
        pixels: torch.Tensor = processor.image_processor(image, return_tensors="pt").pixel_values[0]
        return pixels

    def texts(ids: torch.Tensor) -> list[str]:
        decoded = processor.tokenizer.batch_decode(ids, skip_special_tokens=True)
        return [text.strip() for text in decoded]

    @torch.inference_mode()
    def propose(
        pictures: Sequence[torch.Tensor], wanted: Wanted, seeds: Sequence[int]
    ) -> list[list[Proposal]]:
        context = encode(model, torch.stack(list(pictures)).to(device, dtype))
        beams = beam_search(model, context, wanted.num_beams, wanted.max_new_tokens)
        found = [[Proposal(text, "beam")] for text in texts(beams)]
        if wanted.samples:
            drawn = nucleus_sample(
                model,
                context,
                wanted.samples,
                wanted.top_p,
                seeds=seeds,
                max_new_tokens=wanted.max_new_tokens,
            )  # [b, samples, words]
            for proposals, ids in zip(found, drawn, strict=True):
                proposals += [Proposal(text, "nucleus") for text in texts(ids)]
        return found

    captioner = Captioner(prepare, propose, model.config.vision_config.image_size)
    try:
        captioner.propose([prepare(Image.new("RGB", (8, 8)))], Wanted(1, max_new_tokens=2), [0])
    except _MOVED as error:
        from surd.models.image_text import load_image_text

        log.warning(
            "captioner %s: surd's own decoding does not work with transformers %s (%s); "
            "using its generate instead, which is slower and samples other captions",
            *(found, __version__, one_line(error)),
        )
        return load_image_text(found, device, dtype, None)
    return captioner
