"""Computing the vectors that are missing or stale: part by part, all layers in one pass."""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pyarrow as pa
import torch

from surd.engine.parts import PartResult, count_statuses
from surd.engine.plan import PartState, plan
from surd.engine.select import Engine
from surd.engine.work import Jobs, finished
from surd.engine.work import Work as Computes
from surd.llm.batches import Embedder, Live, Vectors, silent
from surd.llm.layout import check_model, group, place_of, schema, short_name
from surd.llm.part import Rows, Tokenized, entries_of, read_rows, reads_of, table_of, tokenize
from surd.llm.share import (
    Entry,
    Known,
    Reusable,
    Wanted,
    divide,
    entries_in,
    find_known,
    read_entries,
)
from surd.models.devices import device_named, dtype_of
from surd.models.gguf import gguf_path, is_gguf
from surd.models.llm import MAP, Llm, LlmShape, load_llm, shape_of
from surd.models.names import identity
from surd.progress import Tick
from surd.recipe.embed_llm import EmbedLlmParams
from surd.stages.base import Stage, part_fingerprint, settings_fingerprint
from surd.store import journal
from surd.store.workspace import DamagedPartError, Workspace

log = logging.getLogger("surd")

_ROW_GROUP_ROWS = 1000
_SETTINGS = b"settings"
"""In the metadata of the journal's tables: what their vectors were made with."""
CPU_BATCH_TOKENS, GPU_BATCH_TOKENS = 1024, 8192


@dataclass(frozen=True)
class Job:
    """A part, and for each layer that is due its state."""

    part: int
    states: dict[int, PartState]

    @property
    def rows(self) -> int:
        """Samples in the part."""
        return next(iter(self.states.values())).rows


@dataclass(frozen=True)
class Work:
    """What is to be done, and how the parts are to be marked."""

    params: EmbedLlmParams
    model: str
    """Short name, a folder."""
    width: int
    stages: dict[int, Stage]
    """By layer number, which is never negative."""
    jobs: list[Job]
    fresh: int
    """Parts of any layer that need nothing."""
    waiting: dict[int, str]
    """Part -> what it lacks."""

    def settings(self, layer: int) -> str:
        """The fingerprint of what a layer's vectors depend on, beside the prompts."""
        return settings_fingerprint(self.stages[layer], _of_layer(self.params, layer))


def plan_work(workspace: Workspace, params: EmbedLlmParams) -> Work:
    """Look at the model's configuration and at what is there. Raises ModelError."""
    shape, numbers = look(params)
    params = params.model_copy(update={"revision": shape.revision or params.revision})
    model = short_name(params.model, params.gguf_file)
    stages = {n: _stage(model, n, shape.width, params) for n in numbers}
    for stage in stages.values():
        check_model(workspace, stage.group, params.model, content_of(params))
    due: dict[int, dict[int, PartState]] = {}
    waiting: dict[int, str] = {}
    fresh = 0
    for number, stage in stages.items():
        for state in plan(workspace, stage, _of_layer(params, number)):
            if state.state == "waiting":
                waiting[state.part] = state.why
            elif state.state == "fresh":
                fresh += 1
            else:
                due.setdefault(state.part, {})[number] = state
    jobs = [Job(part, states) for part, states in sorted(due.items())]
    return Work(params, model, shape.width, stages, jobs, fresh, waiting)


def look(params: EmbedLlmParams) -> tuple[LlmShape, list[int]]:
    """The model's shape, and the numbers of the layers asked for. Raises ModelError, also for a
    device that is not there."""
    devices_of(params.device)
    shape = shape_of(params.model, gguf_file=params.gguf_file, revision=params.revision)
    return shape, sorted({shape.layer_number(layer) for layer in params.layers})


def _stage(model: str, layer: int, width: int, params: EmbedLlmParams) -> Stage:
    return Stage(
        name="embed_llm",
        group=group(model, layer),
        version=1,
        reads=reads_of(params.texts),
        schema=schema(width, params.pool, params.texts),
        params=EmbedLlmParams,
        open=_never_opened,
        models=_files,
        workers="one",
        places=_a_device_each,
        batch_rows=_ROW_GROUP_ROWS,
    )


def _never_opened(_: EmbedLlmParams) -> Any:
    """A stage of one layer is planned and never opened: run() computes all layers in one pass."""
    raise AssertionError("the stage of a layer was opened")


def _a_device_each(params: EmbedLlmParams) -> Sequence[EmbedLlmParams]:
    return [params.model_copy(update={"device": name}) for name in devices_of(params.device)]


def _files(params: EmbedLlmParams) -> Sequence[str]:
    if is_gguf(params.model, params.gguf_file):
        return [str(gguf_path(params.model, params.gguf_file, params.revision))]
    return [params.model]


def content_of(params: EmbedLlmParams) -> str:
    """The model's identity: of a GGUF file, its file's."""
    (found,) = map(identity, _files(params))
    return found


def _of_layer(params: EmbedLlmParams, layer: int) -> EmbedLlmParams:
    """What the part of one layer depends on: not on the others."""
    return params.model_copy(update={"layers": (layer,)})


def run(engine: Engine, workspace: Workspace, work: Work, tick: Tick) -> Iterator[PartResult]:
    """Compute and write; yields a result a part. Raises SurdError when nothing can go on.

    A worker takes some parts at a time, and looks for equal prompts in those and in what was there
    before.
    """

    def give_up(job: Job, why: str) -> PartResult:
        for layer in job.states:
            workspace.record_failure(work.stages[layer].group, job.part, why)
        return PartResult(job.part, {}, why)

    stages = list(work.stages.values())
    open_ = partial(open_embedder, workspace, replace(work, jobs=[]), reusable(workspace, work))
    jobs = Jobs(work.jobs)
    yield from finished(engine.map(workspace, stages[0], work.params, jobs, open_, give_up, tick))
    for stage in stages:
        workspace.storage.remove_leftovers(stage.group)  # of workers that died


def open_embedder(
    workspace: Workspace, work: Work, there: Reusable, params: EmbedLlmParams
) -> Computes:
    """Load the model and the prompts that need not be computed again; return what computes and
    writes jobs. Raises ModelError."""
    device, work = devices_of(params.device)[0], replace(work, params=params)
    llm = _load(work, device)
    known = known_of(workspace, work, there)

    def embed(jobs: Iterable[Job], tick: Tick) -> Iterator[PartResult]:
        for result in compute(workspace, work, llm, list(jobs), known, device, lambda: tick({})):
            tick(result.counts)
            yield result

    return embed


def devices_of(asked: str) -> list[str]:
    """The devices a parameter names; auto is every GPU, else the CPU. Raises ModelError."""
    if asked == MAP:
        device_named("cuda")
        return [MAP]
    if asked == "auto" and torch.cuda.device_count() > 1:
        return [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    return [str(device_named(name.strip())) for name in asked.split(",")]


def _load(work: Work, device: str) -> Llm:
    params = work.params
    return load_llm(
        params.model,
        work.stages,
        gguf_file=params.gguf_file,
        revision=params.revision,
        device=device,
        dtype=_dtype(params, device),
        quantize=params.quantize,
    )


def _dtype(params: EmbedLlmParams, device: str) -> torch.dtype:
    return dtype_of(params.dtype, torch.device("cuda" if device == MAP else device))


def compute(
    workspace: Workspace,
    work: Work,
    llm: Llm,
    jobs: Sequence[Job],
    known: Known,
    device: str,
    live: Live = silent,
) -> Iterator[PartResult]:
    """One part is tokenized while the one before is computed and the last is written.

    Vectors are kept batch by batch until their part is written. A run that was cut off left those
    of whole batches, so the next one makes the same batches of what is left.
    """
    params = work.params
    budget = params.batch_tokens or (CPU_BATCH_TOKENS if device == "cpu" else GPU_BATCH_TOKENS)
    threads = torch.get_num_threads() if device == "cpu" else 1
    rows = {job.part: read_rows(workspace, job.part, params.texts) for job in jobs}
    wanted = {j.part: Wanted(j.part, rows[j.part].wanted, list(j.states)) for j in jobs}
    share = divide(workspace, list(wanted.values()), known, _left(workspace, work, jobs))
    with ThreadPoolExecutor(1, "surd-read") as reader, ThreadPoolExecutor(1, "surd-write") as pen:

        def ahead(job: Job) -> Future[Tokenized]:
            return reader.submit(tokenize, share.new[job.part], params, llm)

        texts = [ahead(job) for job in jobs[:2]]
        writing: Future[PartResult] | None = None
        for number, job in enumerate(jobs):
            some = texts.pop(0).result()
            if number + 2 < len(jobs):
                texts.append(ahead(jobs[number + 2]))
            embedder = Embedder(llm, list(job.states), params.pool, budget, threads)
            kept = {
                layer: journal.Journal(workspace.storage, work.stages[layer].group, job.part)
                for layer in job.states
            }
            with entered(kept):
                vectors = embedder.vectors(some.tokens, partial(_keep, work, kept, some, live))
            tables = {}
            for layer in job.states:
                entries = entries_of(some, vectors[layer])
                _warn(entries, layer)
                share.hold(layer, entries)
                others = share.given(wanted[job.part], layer)
                if job.part in known.parts[layer]:
                    others |= read_entries(workspace, known.groups[layer], job.part)
                tables[layer] = table_of(rows[job.part], others | entries, work.width, params)
            share.release(wanted[job.part])
            del rows[job.part]
            if writing is not None:
                yield writing.result()
            writing = pen.submit(_write, workspace, work, job, tables, kept)
        if writing is not None:
            yield writing.result()


Kept = Mapping[int, journal.Journal]
"""By layer."""


@contextlib.contextmanager
def entered(kept: Kept) -> Iterator[None]:
    """All of them."""
    with contextlib.ExitStack() as stack:
        for one in kept.values():
            stack.enter_context(one)
        yield


def _keep(
    work: Work, kept: Kept, texts: Tokenized, live: Live, rows: Sequence[int], vectors: Vectors
) -> None:
    """Take down what came of a batch."""
    live()
    some = texts.take(rows)
    count = len(rows)
    batch = Rows([""] * count, list(some.prompts), [True] * count, [[] for _ in rows])
    for layer, found in vectors.items():
        table = table_of(batch, entries_of(some, found), work.width, work.params)
        kept[layer].append(table.replace_schema_metadata({_SETTINGS: work.settings(layer)}))


def _left(workspace: Workspace, work: Work, jobs: Sequence[Job]) -> dict[int, dict[str, Entry]]:
    """Layer -> what a run that was cut off had of the parts."""
    parts = {job.part for job in jobs}
    found: dict[int, dict[str, Entry]] = {layer: {} for layer in work.stages}
    for layer, stage in work.stages.items():
        settings = work.settings(layer).encode()
        for table in journal.read(workspace.storage, stage.group, parts):
            same = (table.schema.metadata or {}).get(_SETTINGS) == settings
            if same and table.schema.equals(stage.schema):
                found[layer] |= entries_in(table)
    return found


def known_of(workspace: Workspace, work: Work, there: Reusable) -> Known:
    """What is there, with all of its prompts."""
    groups = {layer: stage.group for layer, stage in work.stages.items()}
    return find_known(workspace, groups, there)


def reusable(workspace: Workspace, work: Work) -> Reusable:
    """What is there and need not be computed again."""
    found: dict[int, list[int]] = {layer: [] for layer in work.stages}
    for layer, stage in work.stages.items():
        settings = work.settings(layer)
        damage = workspace.damage(stage.group)
        look = workspace.part_infos(stage.group)
        for part in workspace.parts(stage.group):
            if part in damage:
                continue
            with contextlib.suppress(DamagedPartError):
                info = look(stage.group, part)
                if info is not None and info.settings == settings:
                    found[layer].append(part)
    return found


def _warn(entries: Mapping[str, Entry], layer: int) -> None:
    bad = [prompt for prompt, entry in entries.items() if entry.status == "not_finite"]
    if bad:
        log.warning(
            "layer %d: NaN or infinity for %d prompts, which get no vector: %s; fp16 "
            "overflows easily, and bf16 does not: --dtype bf16",
            layer,
            len(bad),
            "; ".join(bad[:5]),
        )


def _write(
    workspace: Workspace, work: Work, job: Job, tables: Mapping[int, pa.Table], kept: Kept
) -> PartResult:
    counts: Counter[str] = Counter()
    for layer, state in job.states.items():
        stage, table = work.stages[layer], tables[layer]
        settings = work.settings(layer)
        inputs = dict(state.inputs or {})
        counts = Counter(count_statuses(table))
        with (
            kept[layer],
            workspace.writing_part(stage.group, job.part, stage.schema, stage.batch_rows) as part,
        ):
            part.write(table)
            part.describe(
                fingerprint=part_fingerprint(settings, inputs),
                settings=settings,
                inputs=inputs,
                extra={"counts": dict(sorted(counts.items())), "llm": _about(work, layer)},
            )
        kept[layer].delete()
    return PartResult(job.part, counts)


def _about(work: Work, layer: int) -> dict[str, Any]:
    """What the footer of a part says of its vectors."""
    chosen = _of_layer(work.params, layer).model_dump(mode="json", exclude={"device", "layers"})
    found = {"identity": content_of(work.params), "place": place_of(work.params.model)}
    return {**chosen, **found, "layer": layer, "width": work.width, "padding": "right"}
