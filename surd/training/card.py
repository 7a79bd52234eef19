"""What a trained adapter's folder tells its reader: README.md, loss curves, validation pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from surd.models.names import public_name
from surd.pages.markdown import inline
from surd.store.storage import Storage
from surd.training.contact_sheet import validation_grid
from surd.training.validation import read_log

CARD = "README.md"
CURVES = "loss.svg"
PICTURES = "validation.png"
_TERMS = {"denoising": "#1f6feb", "attention": "#9a6700", "llm": "#bf3989", "prompt": "#1a7f37"}
_WIDTH, _HEIGHT, _MARGIN = 640, 150, 40
_POINTS = 200


def write_card(folder: Path, settings: Mapping[str, Any], samples: int) -> None:
    """README.md with the model hub's front matter; the losses' curves and pictures beside it."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    storage = Storage(str(folder))
    storage.write_bytes(CURVES, curves(lines).encode())
    base, llm = public_name(settings["diffusion"]), public_name(settings["llm"])
    hub = f"base_model: {base}\n" if "/" in base else ""
    told = {**settings, "diffusion": base, "llm": llm}
    rows = "\n".join(f"| `{key}` | `{json.dumps(value)}` |" for key, value in told.items())
    text = f"""---
library_name: surd
tags: [sur-adapter, text-to-image]
{hub}---

# A SUR-adapter for {base}

Moves the text embeddings of plain sentences towards those of the prompts that {base} draws well;
taught by {samples:,} pairs of a simple and a complex prompt with their image, and by vectors of
{llm}. The method is that of Zhong et al. 2023
([arXiv 2305.05189](https://arxiv.org/abs/2305.05189)).

```sh
surd generate --adapter . "two red cups on a table" --compare
```

```python
from surd.adapter import load
from surd.adapter.encoding import generate

pictures = generate(pipeline, load("."), ["two red cups on a table"], seeds=[0])
```

![What each loss was, step by step]({CURVES})

{_validation(folder, storage)}| setting | value |
|---|---|
{rows}
"""
    storage.write_bytes(CARD, text.encode())


def _validation(folder: Path, storage: Storage) -> str:
    """What was drawn while training, as Markdown; nothing where nothing was."""
    found = validation_grid(folder)
    if found is None:
        return ""
    grid, prompts = found
    with storage.writing(PICTURES) as temporary:
        grid.save(temporary, "PNG")
    lines = read_log(folder)
    names = list(dict.fromkeys(name for line in lines for name in line))
    rows = ["| " + " | ".join(names) + " |", "|--:" * len(names) + "|"]
    rows += [
        "| " + " | ".join(f"{line[name]:.4g}" if name in line else "" for name in names) + " |"
        for line in lines
    ]
    told = "".join(f"{number}. {inline(text)}\n" for number, text in enumerate(prompts, 1))
    table = "\n".join(rows)
    return (
        f"![A row a prompt, a column a step, the base model's first]({PICTURES})\n\n"
        f"{told}\n{table}\n\n"
    )


def curves(lines: Sequence[Mapping[str, float]]) -> str:
    """An SVG with one panel a loss: the mean of each stretch of steps."""
    shown = [term for term in _TERMS if lines and term in lines[0]]
    panels = "".join(
        _panel(term, _TERMS[term], [line[term] for line in lines], number)
        for number, term in enumerate(shown)
    )
    height = len(shown) * _HEIGHT
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'font-family="sans-serif" font-size="12">'
        f'<rect width="100%" height="100%" fill="white"/>{panels}</svg>\n'
    )


def _panel(term: str, color: str, values: Sequence[float], number: int) -> str:
    size = max(1, -(-len(values) // _POINTS))
    means = [
        sum(values[i : i + size]) / len(values[i : i + size]) for i in range(0, len(values), size)
    ]
    low, high = min(means), max(means)
    span = (high - low) or 1.0
    top, bottom = number * _HEIGHT + 24, (number + 1) * _HEIGHT - 20
    step = (_WIDTH - 2 * _MARGIN) / max(1, len(means) - 1)
    points = " ".join(
        f"{_MARGIN + i * step:.1f},{bottom - (value - low) / span * (bottom - top):.1f}"
        for i, value in enumerate(means)
    )
    return (
        f'<text x="{_MARGIN}" y="{top - 8}">{term}: {means[0]:.4g} to {means[-1]:.4g}, '
        f"{len(values)} steps</text>"
        f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="1.5"/>'
    )
