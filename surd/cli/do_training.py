"""Language model vectors, and what is trained on them."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from surd.build.needs import need_read
from surd.cli.do_build import run as build
from surd.cli.printing import print_json, say, warn
from surd.errors import SurdError, command


def embed_llm(
    folder: str,
    overrides: Sequence[str],
    flags: Mapping[str, Any],
    *,
    as_json: bool,
    **options: Any,
) -> None:
    """``surd embed-llm``."""
    from surd.build.run import open_recipe
    from surd.llm.part import READS
    from surd.llm.run import look
    from surd.recipe.recipe import override_recipe, replace_keys
    from surd.store.workspace import Workspace

    workspace = Workspace(folder)
    workspace.read_manifest()
    need_read(workspace, READS)
    given = {key: value for key, value in flags.items() if value is not None}
    if "model" in given:  # what belongs to another model does not stay
        given = {"gguf_file": None, "revision": None, **given}
    recipe = override_recipe(replace_keys(open_recipe(workspace), "embed_llm", given), overrides)
    look(recipe.embed_llm)  # before the workspace remembers what cannot be
    then = command("train-adapter", folder)
    build(folder, recipe, None, as_json, only="embed_llm", then=then, **options)


def import_prompt2vec(
    folder: str, path: str, model: str | None, layer: int | None, *, as_json: bool
) -> None:
    """``surd import prompt2vec``."""
    from surd.llm.prompt2vec import import_prompt2vec as bring
    from surd.store.workspace import Workspace

    name, number = _told(command("import", "prompt2vec", path, "-o", folder), model, layer)
    workspace = Workspace(folder)
    workspace.read_manifest()
    need_read(workspace, ["clip"])
    with workspace.locked():
        matched = bring(workspace, path, name, number)
    if as_json:
        print_json({"workspace": folder, "samples": matched})
    else:
        say(f"{folder}: {matched:,} samples have a vector of {name}, layer {number}")


def export_prompt2vec(
    folder: str, path: str, model: str | None, layer: int | None, *, as_json: bool
) -> None:
    """``surd export DIR prompt2vec``."""
    from surd.llm.prompt2vec import export_prompt2vec as write
    from surd.store.workspace import Workspace

    name, number = _told(command("export", folder, "prompt2vec", "-o", path), model, layer)
    workspace = Workspace(folder)
    workspace.read_manifest()
    prompts = write(workspace, path, name, number)
    if as_json:
        print_json({"file": path, "prompts": prompts})
    else:
        say(f"{path}: {prompts:,} prompts")


def _told(run: str, model: str | None, layer: int | None) -> tuple[str, int]:
    if model is None or layer is None:
        raise SurdError(f"say whose vectors these are: {run} --model NAME --layer N")
    return model, layer


def train_adapter(
    folder: str,
    output: str,
    overrides: Sequence[str],
    flags: Mapping[str, Any],
    *,
    resume: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """``surd train-adapter``."""
    from surd.build.run import open_recipe
    from surd.recipe.recipe import override_recipe, replace_keys
    from surd.store.storage import local_path
    from surd.store.workspace import Workspace
    from surd.training.run import run

    local_path(folder)
    given = {key: value for key, value in flags.items() if value is not None}
    recipe = replace_keys(open_recipe(Workspace(folder)), "train_adapter", given)
    params = override_recipe(recipe, overrides).train_adapter
    try:
        done = run(folder, params, output, resume=resume, quiet=quiet)
    except KeyboardInterrupt:
        warn("stopped; run the same command to go on from the newest checkpoint")
        sys.exit(130)
    if not done.main:
        return
    if as_json:
        print_json({"run": output, "samples": done.samples, "steps": done.steps, "new": done.new})
        return
    if done.new:
        say(f"{output}: {done.steps:,} steps on {done.samples:,} samples")
    else:
        say(f"{output}: is trained already, with these settings")
    is_demo = params.diffusion.startswith("demo:")  # other judges do not know its pictures
    judged = ("--prompts", "demo:simple", "--clip", "demo:clip") if is_demo else ()
    say(f"next: {command('evaluate', output, *judged)}")


def generate(
    prompts: Sequence[str],
    run: str,
    output: str,
    as_json: bool,
    *,
    diffusion: str | None,
    **how: Any,
) -> None:
    """``surd generate``."""
    from surd.adapter.generate import Wish, draw

    written = draw(run, Wish(prompts=prompts, **how), output, diffusion=diffusion)
    if as_json:
        print_json({"pictures": [str(path) for path in written]})
        return
    for path in written:
        say(str(path))
