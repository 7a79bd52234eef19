"""What a trained adapter's folder tells its reader: README.md, loss curves, validation pictures."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from surd.adapter.drawing import open_rgb
from surd.adapter.files import read_config
from surd.files.contact_sheet import contact_sheet
from surd.models.names import public_name
from surd.pages.markdown import inline
from surd.store.storage import Storage
from surd.training.logs import (
    LOG_FILE,
    LOSS,
    SCORES_FILE,
    finite,
    names_in,
    pictures_over_time,
    read_log,
)
from surd.training.loss_plots import loss_svg

log = logging.getLogger("surd")

CARD = "README.md"
CURVES = "loss.svg"
PICTURES = "validation.png"
_SEAL = b"<!-- surd: "
_ROWS, _COLUMNS, _CELL_PX = 8, 8, 256
_ADAPTER = (
    "sur-adapter",
    "A SUR-adapter",
    "The method is that of Zhong et al. 2023 ([arXiv 2305.05189]"
    "(https://arxiv.org/abs/2305.05189)).",
)
"""Tag, title and method."""
_LORA = (
    "lora",
    "A text-encoder LoRA",
    "It updates the text encoders only ([LoRA](https://arxiv.org/abs/2106.09685)). In diffusers:\n"
    '`pipeline.load_lora_weights(".", weight_name="adapter_model.safetensors")`.',
)


def write_card(folder: Path, settings: Mapping[str, Any], samples: int) -> None:
    """README.md with the model hub's front matter; the losses' curves and pictures beside it.

    One that somebody has edited stays as it is.
    """
    storage = Storage(str(folder))
    storage.write_bytes(CURVES, loss_svg(read_log(folder / LOG_FILE)).encode())
    base, llm = public_name(settings["diffusion"]), public_name(settings["llm"])
    learnt = f", and on\nvectors of {llm}" if settings["llm_weight"] else ""
    hub = f"base_model: {base}\n" if "/" in base else ""
    told = {**settings, "diffusion": base, "llm": llm}
    tag, title, method = _LORA if settings["network"] == "lora" else _ADAPTER
    rows = "\n".join(f"| `{key}` | `{json.dumps(value)}` |" for key, value in told.items())
    text = f"""---
library_name: surd
tags: [{tag}, text-to-image]
{hub}---

# {title} for {base}

It moves the text embeddings of plain sentences towards those of the prompts that {base}
draws well. It was trained on {samples:,} images, each with a simple and a complex prompt{learnt}.
{method}

{_reading(folder)}{_held_out(folder)}```sh
surd generate --adapter . "two red cups on a table" --compare
```

```python
from surd.adapter import load
from surd.adapter.encoding import generate

pictures = generate(pipeline, load("."), ["two red cups on a table"], seeds=[0])
```

![The losses at each step]({CURVES})

{_validation(folder, storage)}| setting | value |
|---|---|
{rows}
"""
    if is_edited(folder):
        log.warning(
            "%s: kept, since it was edited; remove it and rerun the command to have it written "
            "anew",
            folder / CARD,
        )
        return
    storage.write_bytes(CARD, text.encode() + _seal(text.encode()))


def is_edited(folder: Path) -> bool:
    """Whether there is a card that is not as surd left it; one of an earlier version says nothing
    of that, and counts as edited."""
    try:
        there = (folder / CARD).read_bytes()
    except FileNotFoundError:
        return False
    text, start, _ = there.rpartition(_SEAL)
    return there != text + _seal(text) if start else True


def _seal(text: bytes) -> bytes:
    """The last line, which a page does not show: by it an edited text is known."""
    return _SEAL + hashlib.sha256(text).hexdigest()[:16].encode() + b" -->\n"


def _reading(folder: Path) -> str:
    """The language model that has to be there when it is used; nothing where there is none."""
    model = read_config(folder).get("language_model")
    if model is None:
        return ""
    return (
        f"It reads {public_name(model['name'])}, layer {model['layer']}, beside the text encoder: "
        "that language\nmodel is loaded with the adapter, and runs once for each prompt.\n\n"
    )


def _held_out(folder: Path) -> str:
    """The loss on unseen samples that the adapter ended with; nothing where there was none."""
    log = dict(finite(read_log(folder / LOG_FILE), LOSS))
    step = read_config(folder).get("step")
    if not isinstance(step, int) or step not in log:
        return ""
    return (
        "On samples of the validation split, which it did not learn from, its loss is "
        f"{log[step]:.0%} of\nthat without an adapter.\n\n"
    )


def _validation(folder: Path, storage: Storage) -> str:
    """What was drawn while training, as Markdown; nothing where nothing was."""
    steps, pictures = pictures_over_time(folder, _ROWS, _COLUMNS)
    if not pictures:
        return ""
    cells = [[_cell(path) if path else None for path in paths] for _, paths in pictures]
    with storage.writing(PICTURES) as temporary:
        contact_sheet(cells, [(step, "black") for step in steps]).save(temporary, "PNG")
    lines = read_log(folder / SCORES_FILE)
    names = ["step", *names_in(lines)]
    rows = ["| " + " | ".join(names) + " |", "|--:" * len(names) + "|"]
    rows += [
        "| " + " | ".join(f"{line[name]:.4g}" if name in line else "" for name in names) + " |"
        for line in lines
    ]
    told = "".join(f"{number}. {inline(text)}\n" for number, (text, _) in enumerate(pictures, 1))
    table = "\n".join(rows)
    return (
        "![One row per prompt, one column per step; the first column shows the base model]"
        f"({PICTURES})\n\n{told}\n{table}\n\n"
    )


def _cell(path: Path) -> Image.Image:
    picture = open_rgb(path)
    picture.thumbnail((_CELL_PX, _CELL_PX))
    return picture
