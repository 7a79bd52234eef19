"""``surd evaluate``: what an adapter changes, on the same prompts and the same noise."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from surd.adapter.drawing import drawn_at_once
from surd.adapter.encoding import check_width, side_px, text_width
from surd.adapter.files import WEIGHTS_FILE, load, read_config
from surd.errors import SurdError
from surd.evaluate.judges import Judge, exact_judge, vqa_judge
from surd.evaluate.measures import SIDES, Outcomes, by_kind, clip_score, quality_row
from surd.evaluate.pictures import Drawing, How, draw
from surd.evaluate.prompt import Prompt, limited, texts_of
from surd.evaluate.prompt_sets import DEMO, load_prompts
from surd.evaluate.quality import load_quality
from surd.evaluate.results import Row, table_of
from surd.models.clip import load_clip
from surd.models.devices import device_named, dtype_of
from surd.models.diffusion import load_pipeline
from surd.models.hub import identity_of
from surd.progress import track
from surd.store.storage import Storage, local_path

NOBODY = "none"
"""In place of a model's name."""
JUDGE = "ViT-B-32/laion2b_s34b_b79k"
"""Another CLIP than the one that chooses captions, whose choices it would find good."""


@dataclass(frozen=True)
class Options:
    """What is drawn, and who judges it."""

    prompts: Sequence[str] = ("paper",)
    """Names of prompt sets, or files."""
    seeds: int = 4
    """Pictures of each prompt."""
    first_seed: int = 0
    """Of the noise; the others follow."""
    limit: int | None = None
    """Of prompts in a set."""
    steps: int = 30
    guidance: float = 7.5
    negative_prompt: str = ""
    diffusion: str | None = None
    """Another model than the adapter was trained with."""
    vqa: str = "Salesforce/blip-vqa-base"
    clip: str = JUDGE
    """``none``: no CLIP score."""
    quality: Sequence[str] = ()
    """Metrics of pyiqa."""
    device: str = "auto"

    @property
    def noise(self) -> range:
        """Its seeds."""
        return range(self.first_seed, self.first_seed + self.seeds)


def evaluate(
    run: str | Path, options: Options, *, pictures: Path | None = None, quiet: bool = False
) -> list[Row]:
    """Draw with and without the adapter in folder `run`, judge, and write the result there.

    Leaves ``evaluation.json``, ``evaluation.md`` and, picture by picture,
    ``evaluation.parquet``. `pictures` is where drawn ones are kept, ``run/pictures`` by default.
    Raises SurdError.
    """
    run = local_path(run)
    config = read_config(run)
    name = options.diffusion or config.get("training", {}).get("diffusion")
    if not name:
        raise SurdError(f"{run}: does not name its diffusion model; pass --diffusion")
    check_noise(options)
    sets = {one: limited(load_prompts(one), options.limit) for one in options.prompts}
    device = device_named(options.device)
    dtype = dtype_of("auto", device)
    judges = _judges(sets, options, device, dtype)
    metrics = {metric: load_quality(metric, device) for metric in options.quality}
    clip = load_clip(options.clip, device=device) if options.clip != NOBODY else None
    drawings = _draw(run, name, sets, options, device, dtype, pictures or run / "pictures", quiet)
    seeds = options.noise
    rows: list[Row] = []
    outcomes = Outcomes()
    for one, prompts in sets.items():
        rows += by_kind(one, prompts, seeds, drawings, judges[one], outcomes)
        if clip is not None:
            rows.append(clip_score(one, prompts, seeds, drawings, clip))
        for metric, quality in metrics.items():
            rows.append(quality_row(one, metric, prompts, seeds, drawings, quality))
    _write(run, name, options, rows, outcomes)
    return rows


def check_noise(options: Options) -> None:
    """Raises SurdError for seeds beyond 64 bits, as which tables keep them."""
    if options.noise.stop > 2**63:
        raise SurdError(f"--first-seed {options.first_seed}: too large; choose a smaller one")


def _judges(
    names: Iterable[str], options: Options, device: torch.device, dtype: torch.dtype
) -> dict[str, Judge]:
    """For each set who judges it; a model is loaded once."""
    kinds = {name: name.startswith(DEMO) for name in names}
    exact = exact_judge()
    asked = exact
    if not all(kinds.values()):
        if options.vqa == NOBODY:
            raise SurdError("evaluate: a model must judge these prompts; name one with --vqa")
        asked = vqa_judge(options.vqa, device, dtype)
    return {name: exact if of_demo else asked for name, of_demo in kinds.items()}


def _draw(
    run: Path,
    name: str,
    sets: Mapping[str, Sequence[Prompt]],
    options: Options,
    device: torch.device,
    dtype: torch.dtype,
    root: Path,
    quiet: bool,
) -> dict[str, Drawing]:
    pipeline = load_pipeline(name, device=str(device), dtype=dtype)
    adapter = load(run, device=device)
    check_width(adapter, text_width(pipeline))
    digest = hashlib.sha256((run / WEIGHTS_FILE).read_bytes()).hexdigest()
    how = How(identity_of(name), options.steps, options.guidance, options.negative_prompt)
    texts = texts_of(prompt for prompts in sets.values() for prompt in prompts)
    batch = drawn_at_once(side_px(pipeline), device)
    seeds = options.noise
    total = 2 * len(texts) * len(seeds)
    with track("draw", total, quiet=quiet) as tick:
        return {
            side: draw(pipeline, used, digest, texts, seeds, how, root, batch=batch, tick=tick)
            for side, used in zip(SIDES, (None, adapter), strict=True)
        }


def _write(
    run: Path, diffusion: str, options: Options, rows: Sequence[Row], outcomes: Outcomes
) -> None:
    store = Storage(str(run))
    told = asdict(options) | {"diffusion": diffusion, "prompts": list(options.prompts)}
    whole = {"format": "surd-evaluation-1", **told, "rows": [asdict(row) for row in rows]}
    with store.writing("evaluation.parquet") as temporary:
        pq.write_table(pa.table(outcomes.columns), temporary)
    store.write_bytes("evaluation.md", table_of(rows).encode())
    store.write_bytes("evaluation.json", (json.dumps(whole, indent=2) + "\n").encode())
