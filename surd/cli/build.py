"""Building: everything at once, or one stage at a time."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import takewhile
from typing import Annotated, Any

import typer

from surd.cli.options import (
    Engine,
    Folder,
    Json,
    MaxFailures,
    Overrides,
    Quiet,
    RayAddress,
    Replace,
    Retry,
    Workers,
)


def build(
    recipe: Annotated[
        str | None, typer.Argument(metavar="RECIPE", help="Recipe file, or name of a shipped one.")
    ] = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="DIR", help="Workspace to fill.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="STAGE", help="Stop after this stage, such as download.")
    ] = None,
    set_: Overrides = None,
    replace: Replace = False,
    plan: Annotated[
        bool,
        typer.Option(
            "--plan",
            help="Check recipe and local sources, list what each stage would do, and stop.",
        ),
    ] = False,
    retry_failed: Retry = False,
    max_failure_rate: MaxFailures = None,
    workers: Workers = None,
    engine: Engine = "local",
    ray_address: RayAddress = None,
    quiet: Quiet = False,
    json_: Json = False,
) -> None:
    """Run a recipe from its sources to the dataset; finished work is never repeated.

    Without a recipe, an existing workspace continues with its own.

    Example: surd build civitai -o my-data --set sources.0.limit=500
    """
    from surd.cli.printing import say, warn
    from surd.cli.recipes import own_or_demo, own_or_given
    from surd.cli.running import run
    from surd.errors import SurdError, command
    from surd.recipe.load import shipped_recipes

    differing = 0
    if recipe is None:
        named, output = output is not None, output or "surd-demo"
        chosen, which = own_or_demo(output, set_ or [], replace=replace, named=named)
        if not json_:
            say(f"no recipe given: {which}; others: {', '.join(shipped_recipes())}")
    elif output is None:
        raise SurdError(f"say where to build: {command('build', recipe, '-o', 'DIR')}")
    else:
        chosen, differing = own_or_given(output, recipe, set_ or [], replace=replace)
    _check_stage(until)
    if plan:
        _print_plan(output, chosen, until, json_)
        return
    run(
        output,
        chosen,
        json_,
        max_failure_rate=max_failure_rate,
        until=until,
        retry_failed=retry_failed,
        workers=workers,
        engine=engine,
        ray_address=ray_address,
        quiet=quiet,
    )
    if differing:
        warn(
            f"{differing} settings of {output} differ from the recipe {recipe}, as listed above; "
            "to use the recipe's, add --replace"
        )


def collect(
    folder: Folder,
    recipe: Annotated[
        str | None, typer.Option(metavar="RECIPE", help="Add its sources to the workspace's own.")
    ] = None,
    set_: Overrides = None,
    refresh: Annotated[
        bool,
        typer.Option(
            "--refresh",
            help="Also look again at known samples: take edited prompts and captions, and mark "
            "images that are gone.",
        ),
    ] = False,
    quiet: Quiet = False,
    json_: Json = False,
) -> None:
    """Ask the sources for new samples; nothing is added twice.

    Example: surd collect my-data
    """
    from surd.cli.running import run_stage
    from surd.errors import command

    run_stage(
        folder,
        "collect",
        set_,
        json_,
        recipe=recipe,
        quiet=quiet,
        look_again=True,
        refresh=refresh,
        then=command("build", "-o", folder),
    )


def download(
    folder: Folder,
    set_: Overrides = None,
    retry_failed: Retry = False,
    max_failure_rate: MaxFailures = None,
    engine: Engine = "local",
    ray_address: RayAddress = None,
    quiet: Quiet = False,
    json_: Json = False,
) -> None:
    """Fetch the images that are not there yet, check them and describe them.

    Example: surd download my-data --retry-failed
    """
    from surd.cli.running import run_stage

    run_stage(
        folder,
        "download",
        set_,
        json_,
        engine=engine,
        ray_address=ray_address,
        quiet=quiet,
        retry_failed=retry_failed,
        max_failure_rate=max_failure_rate,
    )


def _stage_command(stage: str, told: str, example: str) -> Callable[..., None]:
    """The command of a stage that takes no options of its own."""

    def command(
        folder: Folder,
        set_: Overrides = None,
        workers: Workers = None,
        engine: Engine = "local",
        ray_address: RayAddress = None,
        quiet: Quiet = False,
        json_: Json = False,
    ) -> None:
        from surd.cli.running import run_stage

        run_stage(
            folder,
            stage,
            set_,
            json_,
            workers=workers,
            engine=engine,
            ray_address=ray_address,
            quiet=quiet,
        )

    command.__name__ = stage
    command.__doc__ = f"{told}\n\nExample: {example}"
    return command


STAGE_COMMANDS = {
    stage: _stage_command(stage, told, example)
    for stage, told, example in (
        (
            "prompts",
            "Separate the words of prompts from LoRA tags, weights and other syntax.",
            "surd prompts my-data",
        ),
        (
            "caption",
            "Propose simple prompts for every image, with BLIP or another captioner; also dense "
            "captions and tags, where caption.styles asks for them.",
            "surd caption my-data --set caption.candidates=3",
        ),
        (
            "score",
            "Score with CLIP how well both prompts fit the image, and choose the simple one.",
            "surd score my-data --set score.clip=ViT-L-14/openai",
        ),
        (
            "dedup",
            "Find copies of the same picture, by bytes, perceptual hash and CLIP.",
            "surd dedup my-data --set dedup.min_cosine=0.97",
        ),
    )
}


def _check_stage(name: str | None) -> None:
    from surd.errors import SurdError
    from surd.recipe.pipeline import stage_names

    if name is not None and name not in stage_names():
        near = difflib.get_close_matches(name, stage_names(), n=1)
        mend = f"did you mean {near[0]}?" if near else f"stages: {', '.join(stage_names())}"
        raise SurdError(f"--until {name}: no such stage; {mend}")


def _print_plan(folder: str, recipe: Any, until: str | None, as_json: bool) -> None:
    from surd.cli.printing import print_json, say
    from surd.engine.plan import plan_all
    from surd.recipe.pipeline import params_of, stage_names, stages_of
    from surd.stages.collect import check
    from surd.store.workspace import Workspace

    workspace = Workspace(folder)
    check(workspace, recipe.sources)
    have = workspace.parts("samples")
    steps: list[dict[str, Any]] = [{"stage": "collect", "parts": len(have)}]
    stages = [(stage, params_of(recipe, stage)) for stage in stages_of(recipe)]
    for stage, found in plan_all(workspace, stages):
        states = Counter(state.state for state in found)
        steps.append({"stage": stage.name} | {str(k): n for k, n in states.items()})
    shards = [name for name in workspace.storage.names("dataset") if name.endswith(".parquet")]
    steps.append({"stage": "publish", "shards": len(shards)})
    later = stage_names()[stage_names().index(until) + 1 :] if until is not None else []
    steps = list(takewhile(lambda step: step["stage"] not in later, steps))
    if as_json:
        print_json({"recipe": recipe.model_dump(mode="json"), "steps": steps})
        return
    sources = ", ".join(source.kind for source in recipe.sources)
    say(f"the recipe is valid: {sources}")
    for step in steps:
        say(f"{step['stage']}: {_planned(step, sources)}")


def _planned(step: Mapping[str, Any], sources: str) -> str:
    """What a stage would do, from its numbers of parts."""
    counts = {str(state): n for state, n in step.items() if state != "stage"}
    told = ", ".join(f"{n:,} {state}" for state, n in counts.items())
    if step["stage"] == "collect":
        return f"read {sources}; {_counted(step['parts'], 'part')} collected so far"
    if step["stage"] == "publish":
        return f"write the dataset; {_counted(step['shards'], 'shard')} there now"
    if not counts:
        return "compute everything that is collected"
    todo = sum(counts.values()) - counts.get("fresh", 0)
    return f"compute {_counted(todo, 'part')} ({told})" if todo else f"nothing to do ({told})"


def _counted(count: int, noun: str) -> str:
    return f"{count or 'no'} {noun}{'' if count == 1 else 's'}"
