"""Diffusion models, through diffusers."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import torch

from surd.errors import ModelError, need_extra
from surd.models.hub import loading, telling
from surd.models.names import MODEL_FILES, resolve
from surd.models.pipeline_check import check_class, check_pipeline
from surd.models.quiet import hush, muted
from surd.models.single_file import look, shapes_of
from surd.models.weights import why_damaged

log = logging.getLogger("surd")

_ENCODERS = ("text_encoder", "text_encoder_2")
_PARTS = ("unet", "vae", *_ENCODERS)
"""Folders that hold weights."""
_CHECKER = "safety_checker"
_WITHOUT_CHECKER = {_CHECKER: None, "requires_safety_checker": False}
_WEIGHTS = re.compile(
    r"(diffusion_pytorch_|pytorch_)?model(-\d+-of-\d+)?(\.(?P<variant>\w+?))?(-\d+-of-\d+)?"
    r"\.(?P<kind>safetensors|bin)"
)
"""Such as ``model.safetensors``, or of a variant ``model.fp16.safetensors``."""


def load_pipeline(name: str, *, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Any:
    """The text-to-image pipeline that `name` means, without a safety checker.

    It is a hub id, a folder, a file with all of Stable Diffusion's weights, or ``demo:diffusion``.
    Raises ModelError in one line, also for what surd would draw with or train on wrongly;
    SurdError where diffusers is not installed.
    """
    need_extra("drawing pictures", "train", "diffusers")
    file = Path(resolve(name, MODEL_FILES))
    pipeline = _from_file(name, file, dtype) if file.is_file() else _from_folder(name, dtype)
    check_pipeline(name, pipeline)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def _from_folder(name: str, dtype: torch.dtype) -> Any:
    with loading("diffusion model", name) as found:
        from diffusers import DiffusionPipeline  # which takes seconds

        hush()
        index = DiffusionPipeline.load_config(_folder(found))
        check_class(name, str(index.get("_class_name")))
        parts = [part for part in _PARTS if index.get(part, [None])[0] is not None]
        variant = _variant(parts, _names(found))
        how: dict[str, Any] = {"dtype": dtype, "variant": variant}
        if index.get(_CHECKER, [None])[0] is not None:
            how |= _WITHOUT_CHECKER
            _tell_unchecked(name)
        try:
            with muted("diffusers"):
                pipeline = _whole(name, DiffusionPipeline.from_pretrained(found, **how))
        except ModelError:
            raise
        except Exception as error:
            damage = _damage(_folder(found), parts, variant)
            if damage is None and (misfit := _misfit(error)) is not None:
                damage = f"diffusion model {name!r}: {misfit}; download the model again"
            if damage is None:
                raise
            raise ModelError(damage) from error
        _check_encoders(name, pipeline, _folder(found), variant)
        return pipeline


def _from_file(name: str, path: Path, dtype: torch.dtype) -> Any:
    file = look(path)
    mend = f"put the configuration files of that pipeline into {path.with_suffix('')}/"
    with (
        loading(f"{name}: the configuration of", file.config, mend=mend) as found,
        telling("diffusion model", name),
    ):
        import diffusers

        hush()
        index = diffusers.DiffusionPipeline.load_config(_folder(found))
        check_class(name, str(index.get("_class_name")))
        how = {"feature_extractor": None, **_WITHOUT_CHECKER} if _CHECKER in index else {}
        kind = getattr(diffusers, index["_class_name"])
        try:
            with muted("diffusers"):
                pipeline = kind.from_single_file(str(path), config=found, dtype=dtype, **how)
        except NotImplementedError as error:  # of torch, about parameters that have no values
            raise ModelError(f"{path}: lacks some of the weights; download it again") from error
        except ValueError as error:
            if (misfit := _misfit(error)) is None:
                raise
            raise ModelError(f"{path}: {misfit} of {file.config}; {mend}") from error
        pipeline.register_to_config(_name_or_path=str(path))  # as diffusers does with folders
        if file.of_scheduler:
            pipeline.scheduler = diffusers.EulerDiscreteScheduler.from_config(
                pipeline.scheduler.config, **file.of_scheduler
            )
        return _whole(name, pipeline)


def _misfit(error: Exception) -> str | None:
    """What diffusers says, with advice that mends nothing, where a weight has another shape."""
    said = re.search(r"Cannot load because (\S+) expected shape", " ".join(str(error).split()))
    return f"its {said[1]} does not have the shape of the configuration" if said else None


@cache  # once in a process
def _tell_unchecked(name: str) -> None:
    log.warning("%s: loaded without its safety checker, which turns pictures black", name)


def _whole(name: str, pipeline: Any) -> Any:
    """The pipeline. Raises ModelError where weights or the words of a tokenizer are missing, which
    diffusers does without."""
    for part in _PARTS:
        module = getattr(pipeline, part, None)
        lacking = [n for n, p in module.named_parameters() if p.is_meta] if module else []
        if lacking:
            raise _lacks(name, part, lacking[0])
        tokenizer = getattr(pipeline, part.replace("text_encoder", "tokenizer"), None)
        if part in _ENCODERS and module is not None and tokenizer is not None:
            words, rows = len(tokenizer), module.config.vocab_size
            if words < rows / 2:  # without its files, it is made with none but the special ones
                raise ModelError(
                    f"diffusion model {name!r}: its tokenizer knows {words:,} of {rows:,} tokens; "
                    "download the model again"
                )
    return pipeline


def _check_encoders(name: str, pipeline: Any, folder: Path, variant: str | None) -> None:
    """Raises ModelError for weights that are in no file, which transformers makes up."""
    for part in _ENCODERS:
        module = getattr(pipeline, part, None)
        files = _files(folder, part, variant)
        if module is None or not files:
            continue
        there = {_bare(key) for path in files for key in shapes_of(path)}
        lacking = [key for key, _ in module.named_parameters() if _bare(key) not in there]
        if lacking:
            raise _lacks(name, part, lacking[0])


def _bare(key: str) -> str:
    """Releases of transformers differ in whether they name the transformer itself."""
    return key.removeprefix("text_model.")


def _lacks(name: str, part: str, weights: str) -> ModelError:
    return ModelError(
        f"diffusion model {name!r}: its {part} lacks the weights {weights}; download the model "
        "again"
    )


def _names(found: str) -> list[str]:
    """Of the files of a folder, or of a repository as far as it can be seen."""
    from huggingface_hub import constants, model_info

    if Path(found).is_dir() or constants.HF_HUB_OFFLINE:
        folder = _folder(found)
        return [path.relative_to(folder).as_posix() for path in folder.glob("*/*")]
    return [one.rfilename for one in model_info(found).siblings or ()]


def _folder(found: str) -> Path:
    """Where the files of a model are, of one on the hub those that the cache holds."""
    from huggingface_hub import hf_hub_download

    if Path(found).is_dir():
        return Path(found)
    return Path(hf_hub_download(found, "model_index.json")).parent


def _variant(parts: Iterable[str], names: Iterable[str]) -> str | None:
    """The variant to load, such as fp16: where a part has no other weights, else None."""
    found: dict[str, set[str | None]] = {part: set() for part in parts}
    for name in names:
        part, _, file = name.partition("/")
        weights = _WEIGHTS.fullmatch(file)
        if part in found and weights is not None:
            found[part].add(weights["variant"])
    only = [variants for variants in found.values() if variants and None not in variants]
    return min(filter(None, only[0])) if only else None


def _damage(folder: Path, parts: Iterable[str], variant: str | None) -> str | None:
    """Which of the files that are loaded is missing or damaged, in one line."""
    for part in parts:
        files = _files(folder, part, variant)
        if not files:
            return f"{folder / part}: holds no weights; download the model again"
        damages = filter(None, map(why_damaged, files))
        if (first := next(damages, None)) is not None:
            return first
    return None


def _files(folder: Path, part: str, variant: str | None) -> list[Path]:
    """Those that a part's weights are loaded from."""
    weights = {
        path: found
        for path in sorted(folder.glob(f"{part}/*"))
        if (found := _WEIGHTS.fullmatch(path.name)) is not None
    }
    of_variant = [path for path, found in weights.items() if found["variant"] == variant]
    of_variant = of_variant or [*weights]
    return [path for path in of_variant if path.suffix == ".safetensors"] or of_variant
