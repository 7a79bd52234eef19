"""Before and after as one picture, for a README."""

from __future__ import annotations

import io
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from surd.errors import SurdError, command
from surd.pages.text import visible
from surd.report.runs.compare import Pair, Side, opened, picks, read_pairs

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

_SIDE, _GAP, _LINE, _FONT = 224, 8, 20, 15
_CHARS = 2 * _SIDE // 8
"""Of a line of text above two pictures."""
_MARKS = {True: ("right", "#1f7a4d"), False: ("wrong", "#b3392f")}


def sheet(
    run: str | Path, *, prompts: str | None = None, pairs: int = 6, columns: int = 3
) -> Image.Image:
    """The first `pairs` of the report's random sample, each without and with the adapter, RGB.

    `prompts` is the set they are of; the first that the run was evaluated with by default. Raises
    SurdError where the run was not evaluated, or its pictures are gone.
    """
    from PIL import Image, ImageDraw

    run = Path(run)
    judged = read_pairs(run / "evaluation.parquet")
    if not judged:
        raise SurdError(f"{run}: has no evaluation.parquet; run: {command('evaluate', run)}")
    name = prompts or judged[0].prompts
    sample = [pair for pair, sampled in picks(judged, name, 1) if sampled][:pairs]
    if not sample:
        raise SurdError(f"{run}: was not evaluated with {name}")
    width, height = 2 * _SIDE + 3 * _GAP, _SIDE + 4 * _LINE
    rows = -(-len(sample) // columns)
    whole = Image.new("RGB", (min(columns, len(sample)) * width, rows * height), "white")
    for number, pair in enumerate(sample):
        row, column = divmod(number, columns)
        cell = Image.new("RGB", (width, height), "white")
        _draw(cell, ImageDraw.Draw(cell), pair, run)
        whole.paste(cell, (column * width, row * height))
    return whole


def _draw(cell: Image.Image, pen: ImageDraw.ImageDraw, pair: Pair, run: Path) -> None:
    from PIL import ImageFont

    font = ImageFont.load_default(_FONT)
    lines = textwrap.wrap(visible(pair.prompt) or "", _CHARS, max_lines=2, placeholder=" …")
    for number, line in enumerate(lines):
        pen.text((_GAP, 2 + number * _LINE), line, "black", font)
    for left, (name, side) in enumerate((("without", pair.base), ("with", pair.adapter))):
        x = _GAP + left * (_SIDE + _GAP)
        cell.paste(_picture(side, run), (x, 2 * _LINE))
        mark, colour = _MARKS[side.right]
        pen.text((x, 2 * _LINE + _SIDE + 3), f"{name}: {mark}", colour, font)


def _picture(side: Side, run: Path) -> Image.Image:
    from PIL import Image

    data = opened(side.picture, run)
    if data is None:
        raise SurdError(
            f"{run}: {side.picture} is not here any more; run: {command('evaluate', run)}"
        )
    with Image.open(io.BytesIO(data)) as found:
        picture: Image.Image = found.convert("RGB")
    return picture.resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
