"""JSON objects that name their fields plainly: a table of generators, and one of names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from surd.text.generation import found
from surd.text.generation.found import Generation

GENERATORS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("RuinedFooocus", ("Prompt", "Negative", "base_model_name")),
    ("RuinedFooocus", ("Prompt", "Negative", "software")),
    ("Fooocus", ("prompt", "metadata_scheme")),
    ("Fooocus", ("prompt", "full_prompt")),
    ("Fooocus", ("prompt", "base_model", "performance")),
    ("Fooocus", ("Prompt", "Fooocus V2 Expansion")),
    ("Fooocus", ("Prompt", "Performance", "Styles")),
    ("Draw Things", ("c", "uc")),
    ("Draw Things", ("c", "sampler")),
    ("Draw Things", ("c", "scale")),
    ("Easy Diffusion", ("prompt", "use_stable_diffusion_model")),
    ("Easy Diffusion", ("prompt", "num_inference_steps", "guidance_scale")),
    ("Easy Diffusion", ("Prompt", "Stable Diffusion model")),
    ("Tensor.Art", ("prompt", "baseModel", "samplerName")),
    ("Tensor.Art", ("prompt", "baseModel", "models")),
)
"""Names that make a generator known, the first row that fits."""

PROMPTS = (
    *("prompt", "Prompt", "positive_prompt", "positivePrompt", "positive", "Positive prompt"),
    *("Positive Prompt", "PROMPT", "c", "text_prompts", "full_prompt", "complex_prompt"),
)
NEGATIVE_PROMPTS = (
    *("negative_prompt", "negativePrompt", "Negative prompt", "Negative Prompt", "negative"),
    *("Negative", "negative_prompts", "negativeprompt", "uc", "neg_prompt"),
)
MODELS = (
    *(
        "use_stable_diffusion_model",
        "base_model_name",
        "base_model",
        "Base Model",
        "model",
        "Model",
    ),
    *("Stable Diffusion model", "model_name", "checkpoint", "baseModel", "model_hash", "ckpt"),
)
SEPARATE = frozenset(
    """
    negative_prompt, seed, steps, num_inference_steps, guidance_scale, cfg_scale, width, height,
    sampler, sampler_name, use_stable_diffusion_model, stable_diffusion_model, use_vae_model,
    use_lora_model, lora_alpha, clip_skip, prompt_strength, hypernetwork_strength, model
    """.replace("\n    ", " ")
    .strip()
    .split(", ")
)
"""Names of places beside ``prompt``, of generators that give each field a place of its own."""
_INNER = (
    *("meta", "metadata", "image_metadata", "generation_data", "generationData", "generation"),
    *("params", "image_params", "v2"),
)


def read(fields: Mapping[str, Any], *, depth: int = 3) -> Generation | None:
    """Read any object with a field that is named as prompts are, itself or under ``meta``."""
    if found.first(fields, PROMPTS) is None:
        for name in _INNER if depth else ():
            inner = found.as_object(fields.get(name))
            if inner and (generation := read(inner, depth=depth - 1)) is not None:
                return generation
        return None
    generator = next(
        (name for name, known in GENERATORS if all(some in fields for some in known)), "unknown"
    )
    models = [found.model_name(fields.get(name)) for name in MODELS]
    used = (*PROMPTS, *NEGATIVE_PROMPTS)
    return Generation(
        generator=generator,
        prompt=found.first(fields, PROMPTS),
        negative_prompt=found.first(fields, NEGATIVE_PROMPTS) or None,
        model=next(filter(None, models), None),
        settings=found.settings(fields, [k for k in used if isinstance(fields.get(k), str)]),
    )
