"""How good pictures look, by metrics that need no reference: pyiqa's, where it is installed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from surd.errors import SurdError

_TRIAL_PX = 256


@dataclass(frozen=True)
class Quality:
    """A metric of one picture."""

    measure: Callable[[Image.Image], float]
    """An RGB picture to a number."""
    lower_is_better: bool


def load_quality(name: str, device: torch.device) -> Quality:
    """A metric of pyiqa by its name: ``brisque``, ``clipiqa``, ``musiq``, ...

    It is tried on a picture of noise. Raises SurdError, also for a metric that needs more than one
    picture; so does measuring a picture that it does not take.
    Source: the paper's section 5.2; https://github.com/chaofengc/IQA-PyTorch.
    """
    try:
        import pyiqa
    except ImportError as error:
        raise SurdError(
            f"--quality {name} needs pyiqa ({error}); install it with: pip install pyiqa"
        ) from error
    try:
        metric = pyiqa.create_metric(name, device=device)
    except Exception as error:  # unknown names and failed downloads raise many kinds
        reason = " ".join(str(error).split())[:200]
        raise SurdError(f"--quality {name}: pyiqa cannot create this metric: {reason}") from error

    @torch.inference_mode()
    def measure(image: Image.Image) -> float:
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255
        try:
            return float(metric(pixels.to(device)))  # of [1, 3, h, w] in 0..1
        except Exception as error:  # of whatever library the metric is from
            reason = " ".join(str(error).split())[:200]
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
    noise = np.random.default_rng(0).integers(0, 256, (_TRIAL_PX, _TRIAL_PX, 3), np.uint8)
    measure(Image.fromarray(noise))
    return Quality(measure, bool(metric.lower_better))
