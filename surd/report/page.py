"""One self-contained HTML page: sections, charts and data, with nothing fetched and nothing run
but our own scripts.

Text of strangers reaches the page in two ways, both escaped: through Jinja templates with
autoescape on, and as JSON in ``<script type="application/json">``, which scripts show by
``textContent``. Behind that stands a Content-Security-Policy that lets run only the inlined
scripts, by their hashes, and forbids every request (https://www.w3.org/TR/CSP3/).
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup
from PIL import Image

from surd.files.images import ImageProblem, decode, read_header
from surd.pages import text
from surd.pages.templates import STYLE, as_json, templates_in

if TYPE_CHECKING:
    from jinja2 import Environment

_HERE = Path(__file__).parent
_SCRIPTS = ("charts.js", "samples.js", "funnel.js", "scores.js", "triples.js", "training.js")
THUMBNAIL_PX = 192
THUMBNAIL_BYTES = 5_500
"""Of one picture before base64; what is larger is compressed harder."""
_MAX_PIXELS = 100_000_000
_QUALITIES = (68, 45, 22)
_CONTROL_PX = 40
"""Of a list to choose from, below a plot."""


@dataclass(frozen=True)
class Chart:
    """A plot, drawn in the reader's browser."""

    id: str
    """Unique on the page; letters, digits and hyphens."""
    spec: Mapping[str, Any]
    """A Vega-Lite specification with its data inline, as ``altair.Chart.to_dict()`` gives it.
    Leave colours, fonts and width alone where you can: the page's theme sets them, for light
    and dark (``width: "container"`` fills the column). ``height`` includes title, axes and
    legend."""
    label: str = ""
    """What the plot shows, in one sentence: its caption, and its name for screen readers."""

    @property
    def height_px(self) -> int:
        """What is kept free for it, so that nothing moves when it is drawn late."""
        is_bound = any("bind" in param for param in self.spec.get("params", ()))
        return int(self.spec.get("height", 0)) + (_CONTROL_PX if is_bound else 0)


@dataclass(frozen=True)
class Section:
    """A chapter of the page, with an entry in the table of contents."""

    id: str
    """Unique on the page: the anchor."""
    title: str
    body: Markup
    """Safe HTML, see :func:`body`. A chart appears where the body calls ``place``; charts that
    it does not place follow it."""
    charts: tuple[Chart, ...] = ()


def render(
    title: str,
    sections: Sequence[Section],
    *,
    subtitle: str = "",
    data: Mapping[str, Any] | None = None,
) -> str:
    """The whole page.

    ``data``: name -> JSON value, found by scripts as the text of ``#data-NAME``.
    """
    scripts = [_bundle(), *((_HERE / "assets" / name).read_text("utf-8") for name in _SCRIPTS)]
    content = environment().get_template("page.html.j2")
    return content.render(
        title=title,
        subtitle=subtitle,
        sections=sections,
        loose={section.id: _not_placed(section) for section in sections},
        specs=[chart for section in sections for chart in section.charts],
        data=data or {},
        style=Markup(STYLE.read_text("utf-8")),  # noqa: S704  (our own file)
        scripts=[Markup(script) for script in scripts],  # noqa: S704  (our own files, and Vega's)
        policy=_policy(scripts),
    )


def body(template: str, **values: Any) -> Markup:
    """A section's body from ``templates/TEMPLATE``; values are escaped unless they are Markup."""
    return Markup(environment().get_template(template).render(values))  # noqa: S704  (autoescaped)


def place(chart: Chart) -> Markup:
    """Where a chart is to appear in a body."""
    return body("chart.html.j2", chart=chart)


@cache
def environment() -> Environment:
    """The report's templates.

    Filters: ``number`` (1,234; 0.1234), ``share`` (12.3%), ``bytes`` (1.2 MB), ``duration``
    (2 min 5 s), ``json``. ``place`` is a function.
    """
    found = templates_in(_HERE / "templates")
    found.filters.update(
        number=text.number,
        share=text.share,
        bytes=text.bytes_,
        duration=text.duration,
        json=as_json,
    )
    found.globals["place"] = place
    return found


def _not_placed(section: Section) -> list[Chart]:
    return [chart for chart in section.charts if f'data-chart="{chart.id}"' not in section.body]


@cache
def _bundle() -> str:
    """Vega, Vega-Lite and vega-embed, which set ``window.vegaEmbed``."""
    import vl_convert

    bundle: str = vl_convert.javascript_bundle()  # type: ignore[call-arg]  # optional, whatever the stub says
    if "</script" in bundle.lower() or "<!--" in bundle:
        raise ValueError("vl-convert's bundle cannot stand within an HTML script element")
    return bundle


def _policy(scripts: Sequence[str]) -> str:
    hashes = (base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def thumbnail(
    data: bytes | None, side_px: int = THUMBNAIL_PX, max_bytes: int = THUMBNAIL_BYTES
) -> str | None:
    """A data URI (RFC 2397) of the picture; None where it does not decode.

    It is WebP of at most ``side_px`` pixels a side; ``max_bytes`` is kept to as far as
    compression goes. Smaller pictures are not enlarged.
    """
    try:
        read_header(data or b"", max_pixels=_MAX_PIXELS)
        pixels = decode(data or b"", min_side_px=side_px)
    except ImageProblem:
        return None
    image = Image.fromarray(pixels)
    image.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
    for quality in _QUALITIES:
        buffer = io.BytesIO()
        image.save(buffer, "WEBP", quality=quality, method=4)
        if buffer.tell() <= max_bytes:
            break
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
