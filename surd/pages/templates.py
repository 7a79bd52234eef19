"""Templates that escape what strangers wrote, and the style that all pages share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

if TYPE_CHECKING:
    from jinja2 import Environment

STYLE = Path(__file__).parent / "assets" / "style.css"


def templates_in(folder: Path) -> Environment:
    """The templates of a folder, with autoescape on; a name that nobody gives is an error."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def as_json(value: Any) -> Markup:
    """JSON that cannot end the script element it stands in; NaN raises ValueError."""
    written = json.dumps(
        value, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=dict
    )
    for char in "<>&\u2028\u2029":
        written = written.replace(char, f"\\u{ord(char):04x}")
    return Markup(written)  # noqa: S704  (escaped above)
