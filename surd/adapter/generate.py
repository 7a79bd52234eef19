"""``surd generate``: pictures of prompts, with an adapter and, to compare, without."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from surd import __version__
from surd.adapter.encoding import check_seed, check_text, cut_short, generate
from surd.adapter.files import WEIGHTS_FILE, load, read_config
from surd.errors import SurdError
from surd.files.contact_sheet import contact_sheet
from surd.models.devices import device_named, dtype_of
from surd.models.diffusion import load_pipeline
from surd.models.names import public_name
from surd.progress import Tick
from surd.store.storage import Storage, local_path
from surd.text.generation import infotext

log = logging.getLogger("surd")

_STEM_CHARS, _STEM_BYTES = 60, 120
"""Of a prompt in a file's name, which systems limit to 255 bytes."""
_MARK = ("Software", "surd")
"""Text within each PNG, by which a later run knows it for one that may be drawn anew."""


@dataclass(frozen=True)
class Wish:
    """What to draw, and how."""

    prompts: Sequence[str]
    seeds: Sequence[int]
    """Each prompt is drawn with each of them."""
    negative_prompt: str = ""
    steps: int = 30
    guidance: float = 7.5
    compare: bool = False


def draw(
    run: str | Path,
    wish: Wish,
    folder: str | Path,
    *,
    diffusion: str | None = None,
    llm: str | None = None,
    device: str = "auto",
    tick: Tick = lambda counts: None,
) -> list[Path]:
    """Write one PNG for each prompt and seed, which says how it was drawn; to compare, the base
    model's is to its left, and a line above says which is which.

    The diffusion model is the one the adapter was trained with, unless another is named; `llm` is
    another place of the language model that it reads. Raises
    SurdError, also where a file is in the way that surd did not draw.
    """
    folder = local_path(folder)
    if not wish.prompts:
        raise SurdError('say what to draw: surd generate --adapter RUN "two red cups on a table"')
    for text in (*wish.prompts, wish.negative_prompt):
        check_text(text)
    for seed in wish.seeds:
        check_seed(seed)
    paths = {
        (prompt, seed): folder / f"{_stem(prompt)}-{seed}.png"
        for prompt in wish.prompts
        for seed in wish.seeds
    }
    for path in paths.values():
        _check_free(path)
    config = read_config(run)
    name = diffusion or config.get("training", {}).get("diffusion")
    if not name:
        raise SurdError(f"{run}: does not name its diffusion model; pass --diffusion")
    place = device_named(device)
    pipeline = load_pipeline(name, device=str(place), dtype=dtype_of("auto", place))
    adapter = load(run, device=place, llm=llm)
    for prompt in cut_short(pipeline, [*wish.prompts, wish.negative_prompt]):
        read = pipeline.tokenizer.model_max_length
        log.warning("%.40s…: too long; the text encoder reads the first %d tokens", prompt, read)
    how = {"num_inference_steps": wish.steps, "guidance_scale": wish.guidance}
    storage = Storage(str(folder))
    sides = (None, adapter) if wish.compare else (adapter,)
    titles = (("without", "black"), ("with", "black")) if wish.compare else ()
    negative = [wish.negative_prompt]
    about = {"Model": public_name(name), **_about_adapter(run, llm)}
    for (prompt, seed), path in paths.items():
        pictures = [
            generate(pipeline, side, [prompt], [seed], negative_prompts=negative, **how)[0]
            for side in sides
        ]
        told = {
            "Steps": wish.steps,
            "Sampler": type(pipeline.scheduler).__name__.removesuffix("Scheduler"),
            "CFG scale": wish.guidance,
            "Seed": seed,
            "Size": f"{pictures[0].width}x{pictures[0].height}",
            **about,
            **({"Left": "without adapter", "Right": "with adapter"} if wish.compare else {}),
            "Version": f"surd {__version__}",
        }
        info = PngInfo()
        info.add_text(*_MARK)
        info.add_text("parameters", infotext.write(prompt, wish.negative_prompt, told))
        with storage.writing(path.name) as temporary:
            contact_sheet([pictures], titles).save(temporary, "PNG", pnginfo=info)
        tick({"ok": 1})
    return [*paths.values()]


def _about_adapter(run: str | Path, llm: str | None) -> dict[str, Any]:
    """Its name without the folders it lies in, ten digits of its weights' SHA-256, and the
    language model that it reads."""
    folder = local_path(run)
    with (folder / WEIGHTS_FILE).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    about = {"Adapter": folder.absolute().name, "Adapter hash": digest[:10]}
    language = read_config(run).get("language_model")
    if language is not None:
        about["Language model"] = public_name(llm or language["name"])
    return about


def _check_free(path: Path) -> None:
    """Raises SurdError where a file is in the way that surd did not draw."""
    key, value = _MARK
    try:
        with Image.open(path) as there:
            ours = there.info.get(key) == value
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, UnidentifiedImageError):
        ours = False
    if not ours:
        raise SurdError(
            f"{path}: already exists, and surd did not draw it; choose another --output"
        )


def _stem(prompt: str) -> str:
    """Its words, and a hash where they are not the whole of it: other prompts have the same."""
    words = re.sub(r"[^\w]+", "-", prompt.lower()).strip("-")[:_STEM_CHARS]
    stem = words.encode()[:_STEM_BYTES].decode(errors="ignore") or "prompt"
    if stem.replace("-", " ") == prompt:
        return stem
    return f"{stem}.{hashlib.sha256(prompt.encode(errors='backslashreplace')).hexdigest()[:8]}"
