"""Pictures laid out on one sheet, below lines of text."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

LINE_PX = 20
_FONT_PX = 13

Title = tuple[str, str]
"""A column's title and its colour."""


def contact_sheet(
    rows: Sequence[Sequence[Image.Image | None]],
    titles: Sequence[Title] = (),
    *,
    heading: Sequence[str] = (),
    margin_px: int = 0,
) -> Image.Image:
    """The pictures in rows and columns, RGB, the heading's lines above all and a title above each
    column.

    Every cell is as large as the largest picture and the margin around it. None stays white.
    """
    pictures = [picture for row in rows for picture in row if picture is not None]
    width = max(picture.width for picture in pictures) + 2 * margin_px
    height = max(picture.height for picture in pictures) + 2 * margin_px
    top = LINE_PX * (len(heading) + bool(titles))
    columns = max(map(len, rows))
    sheet = Image.new("RGB", (width * columns, top + height * len(rows)), "white")
    for down, row in enumerate(rows):
        for across, picture in enumerate(row):
            if picture is not None:
                corner = (across * width + margin_px, top + down * height + margin_px)
                sheet.paste(picture, corner)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(_FONT_PX)
    for number, line in enumerate(heading):
        pen.text((margin_px, 2 + number * LINE_PX), line, "black", font)
    for across, (title, colour) in enumerate(titles):
        pen.text((across * width + margin_px, 2 + top - LINE_PX), title, colour, font)
    return sheet
