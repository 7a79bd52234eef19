"""From a recipe to a filled workspace: collect, then every stage up to the one asked for."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from typing import Any

from surd.build import filter_history
from surd.build.needs import not_publishable, not_scored
from surd.engine import select
from surd.engine.overlap import Step, overlap
from surd.engine.parts import failures
from surd.engine.plan import PartState, plan
from surd.engine.select import Engine, EngineName
from surd.engine.stages import compute_jobs
from surd.engine.work import Results
from surd.errors import ModelError, RecipeError, SurdError, WorkspaceError, command
from surd.params import Params
from surd.progress import track, tracks
from surd.recipe.keys import Recipe
from surd.recipe.load import stored_recipe
from surd.recipe.pipeline import (
    STYLES,
    params_of,
    stage_named,
    stage_names,
    stages_of,
    styles_of,
)
from surd.sources.record import Seen
from surd.stages import inventory
from surd.stages.base import Stage, StageParams, settings_fingerprint
from surd.stages.collect import SourceResult, collect
from surd.stages.collected import collected
from surd.stages.refresh import refresh
from surd.store import journal
from surd.store.prefetch import FOOTERS, ahead
from surd.store.workspace import MANIFEST, DamagedPartError, Manifest, StageRun, Workspace

_LIBRARIES = ("surd", "pyarrow", "aiohttp", "pillow", "simplejpeg")


@dataclass(frozen=True)
class StageSummary:
    """What a run did for one stage."""

    stage: str
    rows: int
    counts: dict[str, int]
    computed: int
    fresh: int
    failed: dict[int, str]
    seconds: float
    problems: list[str] = field(default_factory=list)
    """One line each, from sources that could not be read to their end."""
    unanswered: int = 0
    """Rows that a model was asked about in vain."""
    reasons: dict[str, int] = field(default_factory=dict)
    """Why, as far as they say -> rows, most frequent first."""
    found: dict[str, Any] | None = None
    """Of a collection: what there is in all, and what was passed over."""
    asked: bool = True
    """Of a collection: whether any source was; not where all had been read to their end before."""


@dataclass(frozen=True)
class Options:
    """How to run, as far as it does not change the result."""

    until: str | None = None
    only: str | None = None
    retry_failed: bool = False
    look_again: bool = False
    refresh: bool = False
    workers: int | None = None
    engine: EngineName = "local"
    ray_address: str | None = None
    quiet: bool = False


def open_recipe(workspace: Workspace) -> Recipe:
    """The recipe a workspace was made with. Raises WorkspaceError or RecipeError."""
    manifest = workspace.read_manifest()
    try:
        return stored_recipe(manifest.recipe, f"{workspace.location}/surd.json: recipe")
    except RecipeError as error:
        anew = command("build", "RECIPE", "-o", workspace.location, "--replace")
        raise RecipeError(
            f"{error}\nfix that in the file, or use another recipe: {anew}"
        ) from error


def build(workspace: Workspace, recipe: Recipe, options: Options) -> Iterator[StageSummary]:
    """Bring the workspace up to date; yields a summary after each stage.

    A first build that collects nothing leaves nothing behind. Raises SurdError when nothing can be
    done, or nothing any more (a full disk).
    """
    with workspace.locked():
        workspace.storage.remove_leftovers(".")  # of a manifest that a kill kept from its name
        manifest = workspace.read_manifest() if workspace.has_manifest() else None
        with (
            _nothing_left(workspace) if manifest is None else contextlib.nullcontext(),
            _demo_site(recipe, options),
            select.opened(options.engine, options.ray_address) as engine,
        ):
            before = manifest
            manifest = _begin(workspace, manifest, recipe)
            for summary in _summaries(workspace, manifest, before, recipe, options, engine):
                _record(workspace, manifest, recipe, summary)
                yield summary


def _summaries(
    workspace: Workspace,
    manifest: Manifest,
    before: Manifest | None,
    recipe: Recipe,
    options: Options,
    engine: Engine,
) -> Iterator[StageSummary]:
    """Run what is to be run; each stage once it is done, in order."""
    names = _chosen(recipe, options)
    if "collect" in names:
        look_again = options.look_again or options.refresh
        inventory.begin(workspace, manifest, recipe.sources, look_again=look_again)
        if "download" in names:
            threading.Thread(target=_import_downloader, name="surd-import").start()
        summary = _collect(workspace, recipe, options)
        inventory.end(workspace, manifest)
        yield summary
    if "embed_llm" in names:
        made = partial(_vectors_of, workspace, recipe)
        with _forgetting(workspace, manifest, before, "embed_llm", made):
            summary = _embed_llm(workspace, recipe, options, engine)
        yield summary
    stages = [stage for stage in stages_of(recipe) if stage.name in names]
    yield from _run_stages(workspace, manifest, before, recipe, stages, options, engine)
    if "publish" in names:
        yield _publish(workspace, recipe, options)


def _import_downloader() -> None:
    """While sources are waited for; aiohttp reads certificates at its import."""
    with contextlib.suppress(ImportError):  # which the stage tells of
        import surd.stages.download.downloader  # noqa: F401


@contextlib.contextmanager
def _forgetting(
    workspace: Workspace,
    manifest: Manifest,
    before: Manifest | None,
    name: str,
    made: Callable[[], Iterable[tuple[str, str]]],
) -> Iterator[None]:
    """After a ModelError go back to the settings a stage had before, where today's never computed
    a part: `made` gives its groups, each with the fingerprint of today's settings."""
    try:
        yield
    except ModelError:
        changed = _changed(name, before.recipe, manifest.recipe) if before is not None else {}
        if changed:
            infos = (
                (workspace.part_info(group, part), settings)
                for group, settings in made()
                for part in workspace.parts(group)
            )
            if not any(info is not None and info.settings == settings for info, settings in infos):
                manifest.recipe |= changed
                workspace.write_manifest(manifest)
        raise


def _changed(name: str, before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """What a stage's key of the recipe was before; empty where it is the same. Of a style, only
    that it is asked for, and how."""
    if name not in STYLES:
        return {name: before.get(name)} if before.get(name) != now.get(name) else {}
    was, caption = before.get("caption") or {}, now["caption"]
    own = {key: was[key] for key in ("styles", name) if key in was and was[key] != caption[key]}
    if name in caption["styles"] and name not in was.get("styles", ["simple"]):
        own["styles"] = [style for style in caption["styles"] if style != name]
    return {"caption": {**caption, **own}} if own else {}


def _parts_of(stage: Stage, recipe: Recipe) -> list[tuple[str, str]]:
    """The group that a stage fills, with the fingerprint of its settings."""
    try:
        return [(stage.group, settings_fingerprint(stage, params_of(recipe, stage)))]
    except ModelError:
        return []


def _vectors_of(workspace: Workspace, recipe: Recipe) -> list[tuple[str, str]]:
    """The groups that embed-llm fills, with the fingerprints of its settings."""
    from surd.llm.run import plan_work

    try:
        work = plan_work(workspace, recipe.embed_llm)
    except ModelError:
        return []
    return [(stage.group, work.settings(layer)) for layer, stage in work.stages.items()]


@contextlib.contextmanager
def _nothing_left(workspace: Workspace) -> Iterator[None]:
    """After an error, have no manifest where there are no samples either."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(WorkspaceError):  # what there was to tell is being told
            if not workspace.parts("samples"):
                workspace.storage.delete(MANIFEST)
        raise


def _chosen(recipe: Recipe, options: Options) -> list[str]:
    names = stage_names()
    if options.only:
        names = [options.only]
    elif until := options.until or recipe.until:
        names = names[: names.index(until) + 1]
    styles = [stage.name for stage in styles_of(recipe)]
    found = [[name, *styles] if name == "caption" else [name] for name in names]
    return [name for some in found for name in some]


def _begin(workspace: Workspace, manifest: Manifest | None, recipe: Recipe) -> Manifest:
    effective = recipe.model_dump(mode="json")
    versions = {name: version(name) for name in _LIBRARIES}
    begun = Manifest(
        recipe=effective,
        versions=versions,
        stages=manifest.stages if manifest else {},
        collected=manifest.collected if manifest else None,
    )
    if begun != manifest:
        if manifest is not None:
            filter_history.remember(workspace, manifest.recipe.get("filter", {}), recipe.filter)
        workspace.write_manifest(begun)
    return begun


def _record(
    workspace: Workspace, manifest: Manifest, recipe: Recipe, summary: StageSummary
) -> None:
    settings: dict[str, Any] = {}
    if summary.stage in STYLES:
        settings = params_of(recipe, stage_named(summary.stage)).model_dump(mode="json")
    elif summary.stage != "collect":
        settings = getattr(recipe, summary.stage).model_dump(mode="json")
    unchanged = summary.computed == 0 and not summary.failed
    if unchanged and summary.stage in manifest.stages:
        return
    manifest.stages[summary.stage] = StageRun(
        parts=summary.computed + summary.fresh,
        rows=summary.rows,
        counts=summary.counts,
        failed_parts=sorted(summary.failed),
        seconds=round(summary.seconds, 3),
        finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
        settings=settings,
    )
    workspace.write_manifest(manifest)


@contextlib.contextmanager
def _demo_site(recipe: Recipe, options: Options) -> Iterator[None]:
    """Serve the demo world while the block runs, where the recipe asks for it."""
    needed = {"collect", "download"} & set(_chosen(recipe, options))
    if recipe.demo_site is None or not needed:
        yield
        return
    from surd.demo.serve import demo_site

    with demo_site(recipe.demo_site.port, recipe.demo_site.pictures, recipe.demo_site.seed):
        yield


def _collect(workspace: Workspace, recipe: Recipe, options: Options) -> StageSummary:
    started = time.monotonic()
    limits = [source.limit for source in recipe.sources]
    total = None if None in limits else sum(limit or 0 for limit in limits)
    counts = {}
    with track("collect", total, quiet=options.quiet) as tick:
        if options.refresh:
            results, found = refresh(workspace, recipe.sources, recipe.part_size, tick=tick)
            counts = asdict(found)
        else:
            results = collect(
                workspace,
                recipe.sources,
                recipe.part_size,
                look_again=options.look_again,
                tick=tick,
            )
    parts = workspace.parts("samples")
    new, known = (sum(getattr(result, name) for result in results) for name in ("new", "known"))
    did_something = new or any(counts.values())
    problems = [result.problem for result in results if result.problem]
    in_vain = options.only == "collect" and problems and not (did_something or known)
    if in_vain or not parts:  # a build goes on with the samples there are
        raise SurdError(_nothing_collected(results))
    look = workspace.part_infos("samples")
    infos = list(ahead(workspace.storage, parts, lambda part: look("samples", part), FOOTERS))
    return StageSummary(
        "collect",
        rows=sum(info.rows for info in infos if info),
        counts={"new": new, "known": known} | counts,
        computed=1 if did_something else 0,
        fresh=len(parts) - (1 if did_something else 0),
        failed={},
        seconds=time.monotonic() - started,
        problems=problems,
        found=collected(workspace).as_json(),
        asked=not all(result.fresh for result in results),
    )


def _nothing_collected(results: Sequence[SourceResult]) -> str:
    problems = [result.problem for result in results if result.problem]
    if problems:
        return "nothing was collected: " + "; ".join(problems)
    passed = Seen()
    for result in results:
        passed.add(result.seen)
    if passed.passed:
        what = (f"{n:,} {why} ({first})" for why, (n, first) in passed.passed.items())
        return f"nothing was collected: there are no images; passed over: {', '.join(what)}"
    return "nothing was collected: the sources have no records; check path, query and limit"


def _publish(workspace: Workspace, recipe: Recipe, options: Options) -> StageSummary:
    from surd.dataset.publish.run import publish

    started = time.monotonic()
    why = not_publishable(workspace, recipe)
    if why is not None:
        raise SurdError(why)
    _, rows = _totals(workspace, stage_named("filter"))
    with track("publish", rows, quiet=options.quiet) as tick:
        groups = [stage.group for stage in styles_of(recipe)]
        done = publish(workspace, recipe.publish, tick, styles=groups)
    return StageSummary(
        "publish",
        rows=sum(done.splits.values()),
        counts=done.splits,
        computed=done.files if done.state == "written" else 0,
        fresh=0 if done.state == "written" else done.files,
        failed={},
        seconds=time.monotonic() - started,
    )


def _need_scored(workspace: Workspace, recipe: Recipe) -> None:
    """Raise SurdError where simple prompts are newer than their scores: what follows would not have
    them."""
    why = not_scored(workspace, recipe)
    if why is not None:
        raise SurdError(why)


def _embed_llm(
    workspace: Workspace, recipe: Recipe, options: Options, engine: Engine
) -> StageSummary:
    from surd.llm.run import plan_work, run

    started = time.monotonic()
    _need_scored(workspace, recipe)
    work = plan_work(workspace, recipe.embed_llm)
    for stage in work.stages.values():
        workspace.storage.remove_leftovers(stage.group)
    failed = dict(work.waiting)
    with track("embed-llm", sum(job.rows for job in work.jobs), quiet=options.quiet) as tick:
        for result in run(engine, workspace, work, tick) if work.jobs else ():
            if result.error is not None:
                failed[result.part] = result.error
    counts: Counter[str] = Counter()
    rows = 0
    for stage in work.stages.values():
        journal.tidy(workspace.storage, stage.group, _all_but(workspace, failed))
        found, rows = _totals(workspace, stage)
        counts.update(found)
    return StageSummary(
        "embed_llm",
        rows=rows,
        counts={status: n // len(work.stages) for status, n in counts.most_common()},
        computed=sum(len(job.states) for job in work.jobs if job.part not in failed),
        fresh=work.fresh,
        failed=failed,
        seconds=time.monotonic() - started,
    )


def _run_stages(
    workspace: Workspace,
    manifest: Manifest,
    before: Manifest | None,
    recipe: Recipe,
    stages: Sequence[Stage],
    options: Options,
    engine: Engine,
) -> Iterator[StageSummary]:
    """Side by side, as far as one does not wait for another."""

    def forgetting(stage: Stage) -> contextlib.AbstractContextManager[None]:
        made = partial(_parts_of, stage, recipe)
        return _forgetting(workspace, manifest, before, stage.name, made)

    chosen = []
    for stage in stages:
        with forgetting(stage):
            chosen.append((stage, params_of(recipe, stage)))
        workspace.storage.remove_leftovers(stage.group)
    is_checked = options.engine == "ray"  # there each machine may have its own servers
    with tracks(quiet=options.quiet) as begin:

        def compute(step: Step, beside: Sequence[StageParams]) -> Results:
            nonlocal is_checked
            if step.stage.check is not None and not is_checked:
                is_checked = True
                for stage, params in ((step.stage, step.params), *beside):
                    with forgetting(stage):
                        _check_server(workspace, stage, params, options)
            return compute_jobs(
                engine,
                workspace,
                step.stage,
                step.params,
                step.jobs,
                begin(step.stage.name, step.jobs.rows),
                workers=options.workers,
                beside=beside,
            )

        is_due = partial(_is_due, options)
        for step in overlap(workspace, chosen, is_due, compute, forgetting):
            if step.stage.row_inputs is not None:
                journal.tidy(workspace.storage, step.stage.group, _all_but(workspace, step.failed))
            counts, rows = _totals(workspace, step.stage)
            summary = StageSummary(
                step.stage.name,
                rows=rows,
                counts=counts,
                computed=step.computed,
                fresh=step.fresh,
                failed=step.failed,
                seconds=step.seconds,
                unanswered=sum(counts.get(status, 0) for status in step.stage.unanswered),
                reasons=_reasons(workspace, step.stage),
            )
            yield summary
            _need_answers(workspace, summary)


def _check_server(workspace: Workspace, stage: Stage, params: Params, options: Options) -> None:
    """Raise SurdError where the stage will need a server that does not answer. Parts whose inputs
    alone have changed may need none: their rows may be known."""
    if stage.check is None:
        return
    settings = settings_fingerprint(stage, params)
    for state in plan(workspace, stage, params):
        is_new = state.info is None or state.info.settings != settings
        if _is_due(options, state, stage) if state.state == "fresh" else is_new:
            stage.check(params)
            return


def _reasons(workspace: Workspace, stage: Stage) -> dict[str, int]:
    """Why rows of a group have no answer -> rows, most frequent first; reads such parts alone."""
    reasons: Counter[str] = Counter()
    if not stage.unanswered:
        return {}
    look = workspace.part_infos(stage.group)
    for part in workspace.parts(stage.group):
        with contextlib.suppress(DamagedPartError):
            info = look(stage.group, part)
            if info and info.extra.get("counts", {}).keys() & set(stage.unanswered):
                reasons += failures(stage, workspace.read(stage.group, part, ["status", "detail"]))
    return dict(reasons.most_common())


def _need_answers(workspace: Workspace, summary: StageSummary) -> None:
    """Raise SurdError where no row has an answer: what follows would be of no use."""
    if summary.unanswered and not summary.counts.get("ok"):
        why = f" ({next(iter(summary.reasons))})" if summary.reasons else ""
        raise SurdError(
            f"{workspace.location}: {summary.stage}: none of {summary.unanswered:,} pictures got "
            f"an answer{why}; once this is mended, ask again: "
            + command("build", "-o", workspace.location, "--retry-failed")
        )


def _all_but(workspace: Workspace, failed: Collection[int]) -> set[int]:
    """The parts that are finished."""
    return set(workspace.parts("samples")) - set(failed)


def _is_due(options: Options, state: PartState, stage: Stage) -> bool:
    if state.state == "waiting":
        return False
    if state.state == "fresh":
        counts = state.info.extra.get("counts", {}) if state.info else {}
        passing = set(counts) - {"ok"} if stage.reuses_rows else set(counts) & set(stage.passing)
        return options.retry_failed and bool(passing)
    return True


def _totals(workspace: Workspace, stage: Stage) -> tuple[dict[str, int], int]:
    counts: Counter[str] = Counter()
    rows = 0
    parts, look = workspace.parts(stage.group), workspace.part_infos(stage.group)
    infos = ahead(workspace.storage, parts, lambda part: look(stage.group, part), FOOTERS)
    for info in infos:
        if info is not None:
            counts.update(info.extra.get("counts", {}))
            rows += info.rows
    return dict(counts.most_common()), rows
