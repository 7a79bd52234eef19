"""How good pictures look, by metrics that need no reference: CLIP-IQA, and those of pyiqa."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from surd.errors import SurdError, need_extra, one_line
from surd.models.hub import loading, telling

CLIP_IQA = "clip-iqa"
_QUALITY = "quality"
"""The scale of CLIP-IQA that the paper is about: good photo, bad photo."""
_TOKENIZER = "openai/clip-vit-base-patch16"
_TRIAL_PX = 256


@dataclass(frozen=True)
class Quality:
    """A metric of one picture."""

    measure: Callable[[Image.Image], float]
    """An RGB picture to a number."""
    lower_is_better: bool


def load_quality(name: str, device: torch.device) -> Quality:
    """``clip-iqa``, or a metric of pyiqa by its name: ``brisque``, ``clipiqa``, ``musiq``, ...

    It is tried on a picture of noise. Raises SurdError, also for a metric that needs more than one
    picture; so does measuring a picture that it does not take.
    """
    own, _, scale = name.partition(":")
    found = _clip_iqa(name, scale, device) if own == CLIP_IQA else _of_pyiqa(name, device)
    noise = np.random.default_rng(0).integers(0, 256, (_TRIAL_PX, _TRIAL_PX, 3), np.uint8)
    found.measure(Image.fromarray(noise))
    return found


def _clip_iqa(name: str, scale: str, device: torch.device) -> Quality:
    """torchmetrics' CLIP-IQA (https://arxiv.org/abs/2207.12396): the probability of the better of
    two descriptions of a picture, by the weights of the paper, which piq has."""
    need_extra(f"--quality {name}", "measures", "torchmetrics", "piq")
    from torchmetrics.functional.multimodal.clip_iqa import _PROMPTS
    from torchmetrics.multimodal.clip_iqa import CLIPImageQualityAssessment

    if (scale or _QUALITY) not in _PROMPTS or name.endswith(":"):
        raise SurdError(f"--quality {name}: no such scale; take one of {', '.join(_PROMPTS)}")
    another = "take another metric"
    with (
        loading(f"--quality {name}: its tokenizer", _TOKENIZER, mend=another),
        telling("the weights of", name),
    ):
        metric = CLIPImageQualityAssessment(prompts=(scale or _QUALITY,)).to(device)

    @torch.inference_mode()
    def measure(image: Image.Image) -> float:
        return float(metric(_pixels(image).to(device)))

    return Quality(measure, lower_is_better=False)


def _pixels(image: Image.Image) -> torch.Tensor:
    """``[1, 3, h, w]`` in 0..1."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255


def _of_pyiqa(name: str, device: torch.device) -> Quality:
    """Source: the paper's section 5.2; https://github.com/chaofengc/IQA-PyTorch."""
    try:
        import pyiqa
    except ImportError as error:
        raise SurdError(
            f"--quality {name} needs pyiqa ({error}), whose licence allows no commercial use; "
            f"install it with: pip install pyiqa, or take --quality {CLIP_IQA}"
        ) from error
    try:
        metric = pyiqa.create_metric(name, device=device)
    except Exception as error:  # unknown names and failed downloads raise many kinds
        reason = one_line(error)
        raise SurdError(f"--quality {name}: pyiqa cannot create this metric: {reason}") from error

    @torch.inference_mode()
    def measure(image: Image.Image) -> float:
        try:
            return float(metric(_pixels(image).to(device)))
        except Exception as error:  # of whatever library the metric is from
            reason = one_line(error)
            raise SurdError(
                f"--quality {name}: does not measure a single picture of {image.width} x "
                f"{image.height} px: {reason}; use another metric, such as brisque, clipiqa or "
                "musiq"
            ) from error

    if getattr(metric, "metric_mode", "NR") != "NR":
        raise SurdError(
            f"--quality {name}: compares a picture with a reference, and there is none here; use "
            "a metric of one picture, such as brisque, clipiqa or musiq"
        )
    return Quality(measure, bool(metric.lower_better))
