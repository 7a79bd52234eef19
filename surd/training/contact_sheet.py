"""One picture of many: how what an adapter draws changed while it learned."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from surd.evaluate.drawing import open_rgb
from surd.training.validation import BASE, FOLDER, PROMPTS_FILE

_ROWS, _COLUMNS = 8, 8
_CELL, _HEADING = 256, 20


def validation_grid(folder: Path) -> tuple[Image.Image, list[str]] | None:
    """A row for each prompt's first picture, a column for the base and each step; and the prompts.

    Of many steps the first, the last and some between are shown, of many prompts the first ones.
    None where a run's folder has no such pictures.
    """
    place = folder / FOLDER
    columns = _some(
        [path for path in (place / BASE, *sorted(place.glob("step-*"))) if path.is_dir()]
    )
    if not columns or not (place / PROMPTS_FILE).is_file():
        return None
    prompts = json.loads((place / PROMPTS_FILE).read_text(encoding="utf-8"))[:_ROWS]
    rows = [
        [_open(column / f"{row:03d}-0.png") for column in columns] for row in range(len(prompts))
    ]
    side = max((cell.width for row in rows for cell in row if cell), default=_CELL)
    sheet = Image.new("RGB", (side * len(columns), _HEADING + side * len(rows)), "white")
    pen = ImageDraw.Draw(sheet)
    for left, column in enumerate(columns):
        step = column.name.removeprefix("step-")
        pen.text((left * side + 4, 4), f"step {int(step)}" if step.isdigit() else step, "black")
        for top, row in enumerate(rows):
            cell = row[left]
            if cell is not None:
                sheet.paste(cell, (left * side, _HEADING + top * side))
    return sheet, prompts


def _some(columns: Sequence[Path]) -> list[Path]:
    if len(columns) <= _COLUMNS:
        return list(columns)
    last = len(columns) - 1
    return [columns[round(i * last / (_COLUMNS - 1))] for i in range(_COLUMNS)]


def _open(path: Path) -> Image.Image | None:
    if not path.is_file():
        return None
    cell = open_rgb(path)
    cell.thumbnail((_CELL, _CELL))
    return cell
