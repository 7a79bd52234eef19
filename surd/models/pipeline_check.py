"""Which diffusion pipelines surd understands: those that it draws with and trains on correctly.

Others often load, and then fail late or teach an adapter the wrong thing.
"""

from __future__ import annotations

from typing import Any

from surd.errors import ModelError

SUPPORTED = "use a text-to-image model of Stable Diffusion 1, 2 or XL (base)"
_XL = "StableDiffusionXLPipeline"
_CLASSES = ("StableDiffusionPipeline", _XL)
_PREDICTIONS = ("epsilon", "v_prediction")
_INPUTS = ("class_embed_type", "num_class_embeds", "encoder_hid_dim_type", "time_cond_proj_dim")
"""Of a UNet that is given more than latents, time and text."""


def check_class(name: str, kind: str) -> None:
    """Raises ModelError where `kind`, which a pipeline names as its class, is not supported."""
    if kind not in _CLASSES:
        raise ModelError(f"diffusion model {name!r} is a {kind}; {SUPPORTED}")


def check_pipeline(name: str, pipeline: Any) -> None:
    """Raises ModelError where surd would draw with it or train on it wrongly."""
    check_class(name, type(pipeline).__name__)
    for problem_of in (_missing, _of_latents, _of_unet, _of_text, _of_schedule):
        problem = problem_of(pipeline)
        if problem is not None:
            raise ModelError(f"diffusion model {name!r}: {problem}; {SUPPORTED}")


def _missing(pipeline: Any) -> str | None:
    parts = ["unet", "vae", "scheduler", *_text_parts(pipeline, "tokenizer", "text_encoder")]
    missing = [part for part in parts if getattr(pipeline, part) is None]
    return f"it has no {missing[0]}" if missing else None


def _text_parts(pipeline: Any, *names: str) -> list[str]:
    twice = type(pipeline).__name__ == _XL
    return [name + end for name in names for end in (("", "_2") if twice else ("",))]


def _of_latents(pipeline: Any) -> str | None:
    kind, config = type(pipeline.vae).__name__, pipeline.vae.config
    if kind != "AutoencoderKL":
        return f"its autoencoder is an {kind}, not an AutoencoderKL"
    if config.get("latents_mean") is not None:
        return "its autoencoder scales each channel by itself (latents_mean)"
    for side in ("in_channels", "out_channels"):
        if pipeline.unet.config[side] != config.latent_channels:
            return (
                f"its UNet has {pipeline.unet.config[side]} {side}, its autoencoder "
                f"{config.latent_channels}"
            )
    return None


def _of_unet(pipeline: Any) -> str | None:
    config = pipeline.unet.config
    more = [key for key in _INPUTS if config.get(key) is not None]
    if more:
        return f"its UNet needs more than a prompt ({more[0]})"
    if not isinstance(config.sample_size, int):
        return f"its UNet has sample_size {config.sample_size}, not one number"
    return None


def _of_text(pipeline: Any) -> str | None:
    encoders = [getattr(pipeline, name) for name in _text_parts(pipeline, "text_encoder")]
    width = sum(encoder.config.hidden_size for encoder in encoders)
    wanted = pipeline.unet.config.cross_attention_dim
    if width != wanted:
        return f"its UNet reads text embeddings of width {wanted}, and its text has {width}"
    for name, encoder in zip(_text_parts(pipeline, "tokenizer"), encoders, strict=True):
        tokens, places = getattr(pipeline, name).model_max_length, _places(encoder)
        if places is not None and tokens > places:
            return f"its {name} gives {tokens} tokens, and its text encoder takes {places}"
    return None


def _places(encoder: Any) -> int | None:
    found: int | None = getattr(encoder.config, "max_position_embeddings", None)
    return found


def _of_schedule(pipeline: Any) -> str | None:
    scheduler, config = pipeline.scheduler, pipeline.scheduler.config
    kind = type(scheduler).__name__
    predicts = config.get("prediction_type", "epsilon")
    if not hasattr(scheduler, "alphas_cumprod") or config.get("use_flow_sigmas"):
        return f"its scheduler ({kind}) is none of the DDPM family"
    if predicts not in _PREDICTIONS:
        return f"its UNet predicts {predicts!r}, not {' or '.join(_PREDICTIONS)}"
    return None
