"""``surd evaluate``: what an adapter changes, on the same prompts and the same noise."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch

from surd.adapter.drawing import drawn_at_once
from surd.adapter.encoding import check_made_for, cut_short, side_px
from surd.adapter.files import WEIGHTS_FILE, load, read_config
from surd.adapter.lora import AnyAdapter
from surd.dataset.atomic_folder import DESCRIPTION
from surd.errors import SurdError
from surd.evaluate.earlier import keep_earlier
from surd.evaluate.judges import Judge, exact_judge, vqa_judge
from surd.evaluate.measures import (
    SIDES,
    Measured,
    by_kind,
    clip_score,
    pick_score,
    quality_of,
    row_of,
)
from surd.evaluate.outcomes import Outcomes
from surd.evaluate.pictures import Drawing, How, Instead, Pictures, draw
from surd.evaluate.prompt import Prompt, limited, texts_of
from surd.evaluate.prompt_sets import DEMO, load_prompts
from surd.evaluate.quality import load_quality
from surd.evaluate.results import Row, table_of
from surd.evaluate.rewriting import examples_of, rewriter, rewritten
from surd.models.clip import load_clip
from surd.models.devices import device_named, dtype_of
from surd.models.diffusion import load_pipeline
from surd.models.hub import identity_of
from surd.models.names import server_of
from surd.models.pickscore import load_pickscore
from surd.params import without_address
from surd.progress import track
from surd.store.storage import Storage, local_path

log = logging.getLogger("surd")

REWRITE = "rewrite"
"""The baseline whose prompts a language model has rewritten."""
CLIP_SCORE, PICK_SCORE = "clip_score", "pick_score"
"""What they are called in ``evaluation.parquet``; other metrics have their own names."""
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
    llm: str | None = None
    """Another place of the language model that the adapter reads."""
    vqa: str = "Salesforce/blip-vqa-base"
    clip: str = JUDGE
    """``none``: no CLIP score."""
    pickscore: str = NOBODY
    """A PickScore model."""
    quality: Sequence[str] = ()
    """``clip-iqa``, or metrics of pyiqa."""
    baselines: Sequence[str] = ()
    """What else is drawn: ``rewrite``, prompts that a language model has rewritten."""
    rewriter: str | None = None
    """Another language model for that than the adapter's."""
    dataset: str | None = None
    """Workspace or dataset that shows it how; None: the one the run lies in."""
    device: str = "auto"

    @property
    def noise(self) -> range:
        """Its seeds."""
        return range(self.first_seed, self.first_seed + self.seeds)

    def as_json(self) -> dict[str, Any]:
        """What is written beside results: JSON values, without addresses of servers."""
        told = asdict(self) | {"vqa": without_address(self.vqa)}
        if self.rewriter is not None:
            told["rewriter"] = without_address(self.rewriter)
        return told


@dataclass(frozen=True)
class Evaluated:
    """What was measured, picture by picture and in sum."""

    measured: list[Measured]
    rows: list[Row]


def evaluate(
    run: str | Path, options: Options, *, pictures: Path | None = None, quiet: bool = False
) -> list[Row]:
    """The rows of :func:`measure`."""
    return measure(run, options, pictures=pictures, quiet=quiet).rows


def measure(
    run: str | Path, options: Options, *, pictures: Path | None = None, quiet: bool = False
) -> Evaluated:
    """Draw with and without the adapter in folder `run`, judge, and write the result there.

    Leaves ``evaluation.json``, ``evaluation.md`` and, picture by picture, ``evaluation.parquet``;
    earlier ones of other settings are kept under a number, which is told. `pictures` is where drawn
    ones are kept, ``run/pictures`` by default. Raises SurdError.
    """
    run = local_path(run)
    config = read_config(run)
    name = options.diffusion or config.get("training", {}).get("diffusion")
    if not name:
        raise SurdError(f"{run}: does not name its diffusion model; pass --diffusion")
    sets = check_options(options)
    device = device_named(options.device)
    dtype = dtype_of("auto", device)
    judges = _judges(sets, options, device, dtype)
    metrics = {metric: load_quality(metric, device) for metric in options.quality}
    clip = load_clip(options.clip, device=device) if options.clip != NOBODY else None
    liked = None
    if options.pickscore != NOBODY:
        liked = load_pickscore(options.pickscore, device=device, dtype=dtype)
    root = pictures or run / "pictures"
    texts = texts_of(prompt for prompts in sets.values() for prompt in prompts)
    instead = {}
    if options.baselines:
        instead = _rewritten(run, config, texts, options, root.parent, quiet)
    drawings = _draw(run, name, texts, instead, options, root, quiet)
    seeds = options.noise
    found: list[Measured] = []
    outcomes = Outcomes()
    for one, prompts in sets.items():
        found += by_kind(one, prompts, seeds, drawings, judges[one], outcomes)
        scored = {}
        if clip is not None:
            scored[CLIP_SCORE] = clip_score(one, prompts, seeds, drawings, clip)
        if liked is not None:
            scored[PICK_SCORE] = pick_score(one, prompts, seeds, drawings, liked)
        for metric, quality in metrics.items():
            scored[metric] = quality_of(one, metric, prompts, seeds, drawings, quality)
        for column, measured in scored.items():
            outcomes.score(
                *(column, one, texts_of(prompts), seeds, measured.values),
                lower_is_better=measured.lower_is_better,
            )
        found += scored.values()
    rows = [row_of(one) for one in found]
    _write(run, name, options, sets, rows, outcomes)
    return Evaluated(found, rows)


def check_options(options: Options) -> dict[str, list[Prompt]]:
    """The sets of prompts. Raises SurdError for what can be told to be wrong before anything is
    loaded."""
    check_noise(options)
    _check_baselines(options)
    for name in (options.vqa, options.rewriter):
        if name is not None:
            server_of(name)
    return {one: limited(load_prompts(one), options.limit) for one in options.prompts}


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


def _check_baselines(options: Options) -> None:
    for name in options.baselines:
        if name != REWRITE:
            raise SurdError(f"--baseline {name}: unknown; the only one is {REWRITE}")
    if options.rewriter is not None and not options.baselines:
        raise SurdError(f"--rewriter {options.rewriter}: give --baseline {REWRITE} too")


def _rewritten(
    run: Path,
    config: Mapping[str, Any],
    texts: Sequence[str],
    options: Options,
    place: Path,
    quiet: bool,
) -> dict[str, str]:
    """Text -> its rewritten prompt, kept below `place`."""
    name = options.rewriter or config.get("training", {}).get("llm")
    if not name:
        raise SurdError(f"{run}: does not name its language model; pass --rewriter")
    examples = examples_of(options.dataset or _dataset_of(run))
    device = device_named(options.device)
    dtype = dtype_of("auto", device)
    load = partial(rewriter, name, examples, device=device, dtype=dtype)
    return rewritten(texts, place, name, examples, load, quiet=quiet)


def _dataset_of(run: Path) -> str:
    """The dataset of the workspace that a run lies in."""
    for folder in run.resolve().parents:
        if (folder / "dataset" / DESCRIPTION).is_file():
            return str(folder)
    raise SurdError(f"{run}: lies in no workspace with a dataset; name one with --dataset")


def _draw(
    run: Path,
    name: str,
    texts: Sequence[str],
    instead: Mapping[str, str],
    options: Options,
    root: Path,
    quiet: bool,
) -> dict[str, Pictures]:
    device = device_named(options.device)
    dtype = dtype_of("auto", device)
    pipeline = load_pipeline(name, device=str(device), dtype=dtype)
    adapter = load(run, device=device, llm=options.llm)
    check_made_for(adapter, pipeline)
    _tell_of_long(pipeline, texts)
    digest = hashlib.sha256((run / WEIGHTS_FILE).read_bytes()).hexdigest()
    how = How(identity_of(name), options.steps, options.guidance, options.negative_prompt)
    batch = drawn_at_once(side_px(pipeline), device)
    seeds = options.noise
    others = dict.fromkeys(instead.values())  # several may be rewritten alike
    total = (2 * len(texts) + len(others)) * len(seeds)
    with track("draw", total, quiet=quiet) as tick:

        def drawn(used: AnyAdapter | None, prompts: Sequence[str]) -> Drawing:
            return draw(pipeline, used, digest, prompts, seeds, how, root, batch=batch, tick=tick)

        sides: dict[str, Pictures] = {
            side: drawn(used, texts) for side, used in zip(SIDES, (None, adapter), strict=True)
        }
        if instead:
            sides[REWRITE] = Instead(drawn(None, list(others)), instead)
        return sides


def _tell_of_long(pipeline: Any, texts: Sequence[str]) -> None:
    """Of the prompts that both sides draw."""
    long = cut_short(pipeline, texts)
    if long:
        log.warning(
            "%d of %d prompts are too long, such as %.40s…; the text encoder reads the first %d "
            "tokens",
            *(len(long), len(texts), long[0], pipeline.tokenizer.model_max_length),
        )


def _write(
    run: Path,
    diffusion: str,
    options: Options,
    sets: Mapping[str, Sequence[Prompt]],
    rows: Sequence[Row],
    outcomes: Outcomes,
) -> None:
    store = Storage(str(run))
    told = options.as_json() | {"diffusion": diffusion, "judge": identity_of(options.vqa)}
    told["models"] = {
        key: identity_of(name, "config.json")
        for key, name in (("clip", options.clip), ("pickscore", options.pickscore))
        if name != NOBODY
    }
    told["noise"] = list(options.noise)
    told["sets"] = {name: _digest(prompts) for name, prompts in sets.items()}
    told["format"] = "surd-evaluation-1"
    keep_earlier(run, "evaluation", told)
    whole = {**told, "rows": [asdict(row) for row in rows]}
    with store.writing("evaluation.parquet") as temporary:
        pq.write_table(outcomes.table(), temporary)
    store.write_bytes("evaluation.md", table_of(rows).encode())
    store.write_bytes("evaluation.json", (json.dumps(whole, indent=2) + "\n").encode())


def _digest(prompts: Sequence[Prompt]) -> str:
    """Of texts and questions: numbers of a set can be compared where it and the judge are one."""
    text = json.dumps([asdict(prompt) for prompt in prompts], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
