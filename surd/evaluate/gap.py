"""``surd evaluate --gap``: whether there is anything to gain, before an adapter is trained.

An adapter moves plain sentences towards what the model makes of complex prompts. Where the model
draws a dataset's plain sentences as well as their complex prompts, there is nothing to move to.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from surd.adapter.drawing import drawn_at_once
from surd.adapter.encoding import side_px
from surd.dataset.published import batches, open_published
from surd.errors import SurdError
from surd.evaluate.earlier import keep_earlier
from surd.evaluate.judges import vqa_judge
from surd.evaluate.measures import SIDES, Measured, by_kind, clip_score, row_of
from surd.evaluate.outcomes import Outcomes
from surd.evaluate.pictures import How, Instead, Pictures, draw
from surd.evaluate.prompt import Prompt
from surd.evaluate.results import Row, interval, table_of
from surd.evaluate.run import NOBODY, Options, check_noise
from surd.models.clip import load_clip
from surd.models.devices import device_named, dtype_of
from surd.models.diffusion import load_pipeline
from surd.models.hub import identity_of
from surd.progress import track
from surd.store.storage import Storage, local_path

SAMPLES = 100
NAMES = ("simple", "complex")
"""What the two sides are called."""
_LEARNED = ("train", "validation")
"""The splits that samples are taken from; test sets are for results."""


def gap(location: str, diffusion: str, options: Options, *, quiet: bool = False) -> list[Row]:
    """Draw samples' simple and complex prompts with the bare model, and judge both by the simple.

    In each row ``base`` is of pictures of simple prompts, ``adapter`` of complex ones. Leaves
    ``gap.json`` and ``gap.md`` in ``DIR/adapter/gap``, the pictures below. Raises SurdError.
    """
    folder = local_path(location) / "adapter" / "gap"
    check_noise(options)
    pairs = _pairs(location, options.limit or SAMPLES)
    if options.vqa == NOBODY and options.clip == NOBODY:
        raise SurdError("evaluate --gap: nobody judges, since --vqa and --clip are none; name one")
    device = device_named(options.device)
    dtype = dtype_of("auto", device)
    judge = None if options.vqa == NOBODY else vqa_judge(options.vqa, device, dtype)
    clip = None if options.clip == NOBODY else load_clip(options.clip, device=device)
    drawings = _drawings(pairs, diffusion, options, folder / "pictures", quiet)
    prompts = [Prompt(simple, "shows the simple prompt", about=simple) for simple in pairs]
    measured: list[Measured] = []
    if judge is not None:
        measured += by_kind("dataset", prompts, options.noise, drawings, judge, Outcomes())
    if clip is not None:
        measured.append(clip_score("dataset", prompts, options.noise, drawings, clip))
    rows = [row_of(one) for one in measured]
    _write(folder, diffusion, options, pairs, rows)
    return rows


def verdict(rows: list[Row]) -> str:
    """What the first measure allows to say."""
    first = rows[0]
    found = f"{first.label}: {interval(first.difference, first.is_share)} from simple to complex"
    if first.verdict == "better":
        return f"{found}: there is a gap for an adapter to close"
    low = first.difference.low
    if low is None or low > 0:
        return f"{found}: too few prompts to tell whether there is a gap; raise --limit"
    return (
        f"{found}: no gap is seen, so do not expect an adapter to gain anything on this dataset "
        "with this model; more prompts (--limit) or seeds narrow the interval"
    )


def _pairs(location: str, count: int) -> dict[str, str]:
    """Simple prompt -> complex prompt of some samples, always the same ones. Raises SurdError."""
    dataset = open_published(location)
    found: dict[str, str] = {}
    for split in _LEARNED:
        for table in batches(dataset, split, ["simple_prompt", "complex_prompt"]):
            for row in table.to_pylist():
                if all(row.values()):  # captions alone make a dataset too
                    found.setdefault(row["simple_prompt"], row["complex_prompt"])
    if not found:
        raise SurdError(
            f"{location}: its dataset has no samples with both prompts outside the test split"
        )
    chosen = random.Random(0).sample(sorted(found), min(count, len(found)))
    return {simple: found[simple] for simple in chosen}


def _drawings(
    pairs: Mapping[str, str], diffusion: str, options: Options, root: Path, quiet: bool
) -> dict[str, Pictures]:
    device = device_named(options.device)
    pipeline = load_pipeline(diffusion, device=str(device), dtype=dtype_of("auto", device))
    how = How(identity_of(diffusion), options.steps, options.guidance, options.negative_prompt)
    texts = list(dict.fromkeys([*pairs, *pairs.values()]))
    batch = drawn_at_once(side_px(pipeline), device)
    with track("draw", len(texts) * options.seeds, quiet=quiet) as tick:
        drawing = draw(
            pipeline, None, "", texts, options.noise, how, root, batch=batch, tick=tick
        )  # fmt: skip
    return dict(zip(SIDES, (drawing, Instead(drawing, pairs)), strict=True))


def _digest(pairs: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(pairs, sort_keys=True).encode()).hexdigest()


def _write(
    folder: Path, diffusion: str, options: Options, pairs: Mapping[str, str], rows: list[Row]
) -> None:
    store = Storage(str(folder))
    told = options.as_json() | {"diffusion": diffusion, "pairs": _digest(pairs)}
    told["format"] = "surd-gap-1"
    keep_earlier(folder, "gap", told)
    whole = {**told, "rows": [asdict(row) for row in rows]}
    store.write_bytes("gap.md", f"{table_of(rows, NAMES)}\n{verdict(rows)}\n".encode())
    store.write_bytes("gap.json", (json.dumps(whole, indent=2) + "\n").encode())
