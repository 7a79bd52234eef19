"""Tag models as https://huggingface.co/SmilingWolf publishes them (WD14): ONNX with a table."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from surd.errors import ModelError
from surd.models.hub import loading

MODEL, TABLE = "model.onnx", "selected_tags.csv"
_CATEGORIES = {0: "general", 4: "character", 9: "rating"}
"""Danbooru's numbers (https://danbooru.donmai.us/wiki_pages/help:tags), and one for ratings."""
_MAX_CHARS = 200
"""Of a tag's name."""
_MAX_SIDE_PX = 2_048
_MAX_BATCH_PIXELS = 1 << 26
"""What a model may ask for at once: 800 MB of numbers. WD14's models take 448 pixels a side."""
_MAX_SQUARE_PX = 10_000
"""A longer picture is scaled before it is laid on a square."""
_WORD = re.compile(r"[^\W\d_]{2}")
"""A tag without two letters in a row is a face, as ``^_^`` and ``(o)_(o)``: it has no spaces."""
Pixels = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Tag:
    """One column of the model's output."""

    name: str
    category: str
    """``general``, ``character``, ``rating``; ``other`` for the rest of Danbooru's."""


@dataclass(frozen=True)
class Tagger:
    """A loaded tag model."""

    tags: Sequence[Tag]
    side_px: int
    prepare: Callable[[Image.Image], Pixels]
    """An RGB picture to ``[side, side, 3]``, BGR, 0 to 255; runs in threads."""
    score: Callable[[Sequence[Pixels]], npt.NDArray[np.float32]]
    """Prepared pictures to probabilities ``[b, tags]``."""


def load_tagger(name: str, *, device: str = "cpu") -> Tagger:
    """The tagger in a folder or of a hub id. Raises ModelError in one line."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ModelError(
            'tag models need onnxruntime; run: pip install "surd[tags]", or take tags out of '
            "caption.styles"
        ) from error
    with loading("tag model", name, mend=f"name a folder with {MODEL} and {TABLE}") as found:
        tags = _read_table(_file(found, TABLE))
        session = onnxruntime.InferenceSession(
            str(_file(found, MODEL)), providers=_providers(onnxruntime, device)
        )
        given, outputs = session.get_inputs(), session.get_outputs()
        shape, columns = given[0].shape, outputs[0].shape[-1]
        side = shape[1] if len(shape) == 4 else None
        if len(given) > 1 or not isinstance(side, int) or shape[1:] != [side, side, 3]:
            raise ModelError(f"tag model {name!r} takes {shape}, not pictures [b, side, side, 3]")
        batch = shape[0] if isinstance(shape[0], int) else None
        pixels = side**2 * (1 if batch is None else batch)
        if not (0 < side <= _MAX_SIDE_PX and 0 < pixels <= _MAX_BATCH_PIXELS):
            raise ModelError(
                f"tag model {name!r} takes {shape}, but may take at most {_MAX_SIDE_PX:,} pixels "
                f"a side and {_MAX_BATCH_PIXELS:,} at once; name another one"
            )
        if given[0].type != "tensor(float)":
            raise ModelError(f"tag model {name!r} takes {given[0].type}, not tensor(float)")
        if isinstance(columns, int) and columns != len(tags):
            raise ModelError(
                f"tag model {name!r} has {columns} outputs, but its {TABLE} has {len(tags)} tags"
            )

    def score(pictures: Sequence[Pixels]) -> npt.NDArray[np.float32]:
        found = [np.empty((0, len(tags)), np.float32)]
        step = batch or max(1, len(pictures))
        for first in range(0, len(pictures), step):
            some = np.stack(pictures[first : first + step])
            missing = (batch or len(some)) - len(some)
            padded = np.pad(some, [(0, missing), (0, 0), (0, 0), (0, 0)])
            scores = session.run(None, {given[0].name: padded})[0]
            if scores.shape != (len(padded), len(tags)):
                raise ModelError(
                    f"tag model {name!r} made scores {list(scores.shape)} of {len(padded)} "
                    f"pictures, not one for each of {len(tags)} tags"
                )
            found.append(scores[: len(some)])
        return np.concatenate(found)

    return Tagger(tags, side, lambda image: _prepared(image, side), score)


def _file(found: str, name: str) -> Path:
    """A file of the folder or of the repository on the hub."""
    if Path(found).is_dir():
        path = Path(found, name)
        if not path.is_file():
            raise ModelError(f"tag model {found!r} has no {name}")
        return path
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(found, name))


def _read_table(path: Path) -> list[Tag]:
    """The rows of ``selected_tags.csv``: tag_id, name, category, count. Raises ModelError."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    tags = []
    for number, row in enumerate(rows, start=2):
        name, category = row.get("name") or "", row.get("category") or ""
        is_tag = 0 < len(name) <= _MAX_CHARS and name.isprintable()
        if not is_tag or not re.fullmatch("[0-9]{1,9}", category.strip()):
            raise ModelError(f"{path.name}: line {number}: no name and category of a tag")
        tags.append(Tag(_in_words(name), _CATEGORIES.get(int(category), "other")))
    if not tags:
        raise ModelError(f"{path.name}: has no tags")
    return tags


def _in_words(name: str) -> str:
    return name.replace("_", " ") if _WORD.search(name) else name


def _providers(onnxruntime: Any, device: str) -> list[str]:
    there = onnxruntime.get_available_providers()
    wanted = [] if device == "cpu" else ["CUDAExecutionProvider"]
    return [name for name in (*wanted, "CPUExecutionProvider") if name in there]


def _prepared(image: Image.Image, side: int) -> Pixels:
    """On a white square, as the models were trained
    (https://huggingface.co/spaces/SmilingWolf/wd-tagger)."""
    longer = max(image.size)
    if longer > _MAX_SQUARE_PX:  # its square would take gigabytes
        width, height = (max(1, side * length // longer) for length in image.size)
        image = image.resize((width, height), Image.Resampling.BICUBIC)
        longer = side
    square = Image.new("RGB", (longer, longer), "white")
    square.paste(image, ((longer - image.width) // 2, (longer - image.height) // 2))
    small = square.resize((side, side), Image.Resampling.BICUBIC)
    return np.ascontiguousarray(np.asarray(small, np.float32)[:, :, ::-1])
