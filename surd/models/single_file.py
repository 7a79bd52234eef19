"""Diffusion models in a single file, as on Civitai: Stable Diffusion's original layout.

Such a file holds weights only. What else a pipeline needs comes from the model it descends from, or
from a folder beside the file.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from surd.errors import ModelError
from surd.models.names import config_beside
from surd.models.pipeline_check import SUPPORTED
from surd.models.weights import is_zip, why_damaged

Shapes = Mapping[str, tuple[int, ...]]

_UNET = "model.diffusion_model."
_FIRST_LAYER = f"{_UNET}input_blocks.0.0.weight"
_LATENT_CHANNELS = 4
_AUTOENCODER = ("first_stage_model.", "vae.")
_CONFIGS = {
    "conditioner.embedders.1.model.": "stabilityai/stable-diffusion-xl-base-1.0",
    "cond_stage_model.transformer.": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "cond_stage_model.model.": None,
}
"""How the names of the text encoder begin -> the pipeline whose other parts fit. Of Stable
Diffusion 2, there are several that do."""
_OTHERS = (
    (("lora_", ".lora", "lokr_", "hada_"), "a LoRA"),
    (("control_model.", "controlnet_"), "a ControlNet"),
    (("string_to_param", "emb_params", "clip_l", "clip_g"), "an embedding (textual inversion)"),
    (("encoder.conv_in.",), "an autoencoder (VAE)"),
    (("down_blocks.", "text_model."), "one part of a model"),
)
"""What names in a file hold -> what it is."""


@dataclass(frozen=True)
class SingleFile:
    """A file that holds a whole model."""

    path: Path
    config: str
    """Hub id, or folder, of a pipeline with the same parts, whose weights are not used."""
    of_scheduler: Mapping[str, Any]
    """What the file itself says of the noise schedule."""


def look(path: Path) -> SingleFile:
    """What is in a file, by names and shapes alone.

    Raises ModelError where that is not a whole Stable Diffusion model, or is damaged.
    """
    shapes = shapes_of(path)
    encoder = _encoder_of(path, shapes)
    beside = config_beside(path)
    config = str(beside) if beside is not None else _CONFIGS[encoder]
    if config is None:
        raise ModelError(
            f"{path}: a Stable Diffusion 2 model, and such a file does not say whether it predicts "
            "epsilon or v; put the configuration files of its pipeline into "
            f"{path.with_suffix('')}/"
        )
    said: dict[str, Any] = {}  # by tensors without content, which other programs look for too
    if "v_pred" in shapes:
        said["prediction_type"] = "v_prediction"
    if "ztsnr" in shapes:
        said["rescale_betas_zero_snr"] = True
    return SingleFile(path, config, said)


def _encoder_of(path: Path, shapes: Shapes) -> str:
    """The key of _CONFIGS. Raises ModelError where a part is missing, or another model's."""

    def begins(*starts: str) -> bool:
        return any(name.startswith(starts) for name in shapes)

    if not begins(_UNET):
        found = [what for parts, what in _OTHERS if any(p in n for n in shapes for p in parts)]
        told = f"{found[0]}, not a whole model" if found else "no Stable Diffusion model"
        raise ModelError(f"{path}: holds {told}; name the file or folder of a whole model")
    channels = shapes.get(_FIRST_LAYER, (0, 0))[1]
    encoder = next((start for start in _CONFIGS if begins(start)), None)
    refiner = encoder is None and begins("conditioner.")
    wrong = {
        "another architecture": not channels,
        "an SDXL refiner": refiner,
        "an EDM model": begins("edm_"),
        f"a UNet of {channels} input channels": channels != _LATENT_CHANNELS,
    }
    for told, is_so in wrong.items():
        if is_so:
            raise ModelError(f"{path}: holds {told}; {SUPPORTED}")
    missing = [] if encoder else ["text encoder"]
    missing += [] if begins(*_AUTOENCODER) else ["autoencoder (VAE)"]
    if encoder is None or missing:
        raise ModelError(
            f"{path}: holds no {' and no '.join(missing)}; name the file of a whole model"
        )
    return encoder


def shapes_of(path: Path) -> Shapes:
    """Of the tensors in a file. Raises ModelError where it is damaged, or holds code."""
    from safetensors import safe_open

    damage = why_damaged(path)
    if damage is not None:
        raise ModelError(damage)
    if path.suffix == ".safetensors":
        with safe_open(path, "pt") as file:
            names = file.keys()
            return {name: tuple(file.get_slice(name).get_shape()) for name in names}
    try:
        state = torch.load(path, map_location="meta", weights_only=True, mmap=is_zip(path))
        state = state.get("state_dict", state)
        return {str(name): tuple(one.shape) for name, one in state.items() if torch.is_tensor(one)}
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path}: holds code besides weights, which surd does not run; convert it to "
            ".safetensors, or download that"
        ) from error
    except Exception as error:  # unpickling raises whatever the file makes it
        raise ModelError(
            f"{path}: is cut short, or no model's weights by name; download it again"
        ) from error
