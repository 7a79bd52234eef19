"""A workspace that has everything a report shows: reasons, scores, duplicates, failures, and
prompts that would like to be markup."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from support_publish import make_workspace, sample

from surd.store.workspace import Workspace

HOSTILE = (
    "<script>window.hacked = 1</script>",
    '"><img src=x onerror="window.hacked = 2">',
    "</script><script>window.hacked = 3</script>",
    "right \u202e to left \u2066 override",
    "<!-- & ' {{ 7 * 7 }} javascript:window.hacked=4",
)
RECIPE = {
    "name": "shown",
    "description": "A <b>dataset</b> to look at",
    "sources": [{"kind": "folder", "path": "/home/someone/secret"}],
    "filter": {"clip_threshold": 0.25, "complex_threshold": None, "min_side": 16},
}


def rows(count: int) -> list[dict[str, Any]]:
    """Samples of every kind; they depend on ``count`` alone."""
    random = np.random.default_rng(0)
    made = []
    for number in range(count):
        row = sample(number) | {"id": random.bytes(16).hex()}
        row |= {"cluster": row["id"], "keep": None, "reasons": None}
        row["cos_simple"] = float(np.float32(random.normal(0.28, 0.03)))
        row["cos_complex"] = float(np.float32(random.normal(0.27, 0.03)))
        text = HOSTILE[number % len(HOSTILE)] if number % 3 == 0 else "a red cup"
        row |= {"simple_prompt": f"{text} {number}", "complex_prompt": f"art, best {text} {number}"}
        row |= {"dense_caption": f"{text}, in detail", "tags": f"{text}, {number}"}
        row |= {"author": text, "licence": text, "source": text[:20], "model": text}
        row["page_url"] = "javascript:window.hacked=5" if number % 2 else row["page_url"]
        if number % 10 == 1:
            host = ("<b>evil</b>.example", "images.example")[number % 20 == 1]
            row |= {"status": "http_error", "http_status": 404, "bytes": None, "width": None}
            row |= {"url": f"https://{host}/{number}", "height": None, "mime": None}
            row |= {"cos_simple": None, "cos_complex": None, "simple_prompt": None}
            row |= {"sha256": None, "aesthetic": None, "nsfw": None}
        elif number % 10 == 2:
            row["nsfw_level"] = "x"
        elif number % 10 == 4:
            first = made[number - 1]
            row |= {"cluster": first["cluster"], "cluster_size": 2, "kind": "exact"}
            row["similarity"] = 1.0
            first["cluster_size"] = 2
        made.append(row)
    return made


def shown_workspace(folder: Path, count: int, without: tuple[str, ...] = ()) -> Workspace:
    """In two parts, judged by nothing yet."""
    made = rows(count)
    half = count // 2
    missing = ("verdicts", *without)
    return make_workspace(folder, [made[:half], made[half:]], without=missing, recipe=RECIPE)


def judged_workspace(folder: Path, count: int, *overrides: str) -> Workspace:
    """The same with verdicts of the filter."""
    from surd.cli.running import run_stage

    workspace = shown_workspace(folder, count)
    run_stage(str(folder), "filter", overrides, None, quiet=True)
    return workspace
