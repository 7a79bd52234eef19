"""A small workspace to look at, and the viewer on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import io
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from aiohttp import web
from PIL import Image
from support_publish import make_workspace, sample

from surd.demo.painter import paint
from surd.demo.scenes import Scene
from surd.demo.sentences import simple_sentence
from surd.demo.tags import complex_prompt
from surd.store.workspace import Workspace
from surd.view.serve import listen, make_runner
from surd.view.state import View

SCENES = [
    Scene(3, "red", "circle", "row", "falling"),
    Scene(1, "blue", "star", "single", "still"),
    Scene(2, "green", "square", "column", "spinning"),
    Scene(4, "yellow", "heart", "ring", "bouncing"),
    Scene(3, "red", "circle", "row", "falling"),
]
"""The last is drawn otherwise than the first."""
HOSTILE = "<script>document.title='owned'</script>\"><img src=x onerror=\"document.title='owned'\">"
RECIPE: dict[str, Any] = {
    "name": "tiny",
    "description": "A tiny dataset",
    "sources": [{"kind": "folder", "path": "pictures"}],
    "score": {"clip": "demo:clip", "nsfw": "none"},
    "filter": {"clip_threshold": 0.2, "min_side": 16},
}
BAD = 3
"""Its simple prompt does not fit, by its cosine."""
FOREIGN = 5
"""Hostile text, no image; from another source."""


def id_of(number: int) -> str:
    return str(sample(number)["id"])


def painted(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(paint(SCENES[number], seed=number, size_px=128)).save(buffer, "PNG")
    return buffer.getvalue()


def axis(*directions: int) -> list[float]:
    """A unit vector between some axes of four."""
    vector = np.zeros(4)
    vector[list(directions)] = 1
    return list(vector / np.linalg.norm(vector))


def rows(embeddings: Sequence[Sequence[float]]) -> list[dict[str, Any]]:
    """Five pictures with their embeddings, and one sample that is hostile and has none."""
    found = [
        sample(number)
        | {
            "bytes": painted(number),
            "mime": "image/png",
            "prompt": complex_prompt(scene, seed=number),
            "complex_prompt": complex_prompt(scene, seed=number),
            "simple_prompt": simple_sentence(scene, seed=number, manner="plain"),
            "candidates": [
                {
                    "text": simple_sentence(scene, seed=number, manner="plain"),
                    "raw": "x",
                    "how": "beam",
                }
            ],
            "candidate_scores": [0.3],
            "width": 128,
            "height": 128,
            "cos_simple": 0.1 if number == BAD else 0.3 + number / 100,
            "image_embedding": list(embeddings[number]),
        }
        for number, scene in enumerate(SCENES)
    ]
    hostile = sample(FOREIGN) | {
        "source": "folder",
        "prompt": HOSTILE,
        "complex_prompt": HOSTILE,
        "simple_prompt": HOSTILE,
        "dense_caption": HOSTILE,
        "tags": HOSTILE,
        "author": HOSTILE,
        "page_url": "javascript:alert(1)",
        "status": "truncated",
        "detail": HOSTILE,
        "bytes": None,
        "cos_simple": None,
    }
    return [*found, hostile]


AXES = [axis(0), axis(1), axis(2), axis(3), axis(0, 1)]


def workspace_with(
    where: Path | str,
    embeddings: Sequence[Sequence[float]] = AXES,
    changes: Mapping[int, Mapping[str, Any]] | None = None,
    **options: Any,
) -> Workspace:
    """Six samples in two parts, judged by the filter unless groups are left out."""
    some = [row | dict((changes or {}).get(n, {})) for n, row in enumerate(rows(embeddings))]
    workspace = make_workspace(where, [some[:4], some[4:]], recipe=RECIPE, **options)
    if not options.get("without"):
        View(workspace).apply()
    return workspace


@contextlib.contextmanager
def viewing(workspace: Workspace) -> Iterator[str]:
    """The viewer in a thread; its address, without a slash at the end."""
    loop = asyncio.new_event_loop()
    runner = make_runner(View(workspace))
    found = listen(0)

    async def start() -> None:
        await runner.setup()
        await web.SockSite(runner, found).start()

    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(start(), loop).result(240)
        yield f"http://127.0.0.1:{found.getsockname()[1]}"
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(240)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
        found.close()
