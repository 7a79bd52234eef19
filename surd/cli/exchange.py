"""Importing, exporting, and sending to the Hugging Face Hub."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any

import typer

from surd.cli.options import Json, Layer, Llm, Overrides, Quiet, Replace
from surd.cli.printing import harmless, print_json, say, warn
from surd.errors import SurdError, command, listed


def import_(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            help="surd, webdataset, img2dataset, huggingface, folder, table or prompt2vec.",
        ),
    ],
    path: Annotated[str, typer.Argument(metavar="PATH", help="File, folder or glob pattern.")],
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="DIR", help="Workspace to fill.")
    ],
    name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Name of the dataset; by default that of the file or folder."
        ),
    ] = None,
    model: Llm = None,
    layer: Layer = None,
    set_: Overrides = None,
    replace: Replace = False,
    quiet: Quiet = False,
    json_: Json = False,
) -> None:
    """Import an existing dataset, or a language model's vectors, into a workspace.

    Example: surd import surd ~/SURD -o my-data
    """
    if kind == "prompt2vec":
        _import_prompt2vec(output, path, model, layer, as_json=json_)
        return
    from surd.cli.recipes import own_with_sources
    from surd.cli.running import run
    from surd.recipe.importing import import_recipe
    from surd.recipe.load import override_recipe

    if not output:
        raise SurdError("say where to build: surd import KIND PATH -o DIR")
    recipe = import_recipe(kind, path, name)
    if replace:
        recipe = override_recipe(recipe, set_ or [])
    else:
        named = [f"name={json.dumps(name)}"] if name else []
        recipe = own_with_sources(
            output, recipe, [*named, *(set_ or [])], name="the import", taking="--replace"
        )
    run(output, recipe, json_, until="prompts", quiet=quiet)


def export(
    folder: Annotated[
        str,
        typer.Argument(
            metavar="DIR",
            help="The workspace; for preferences, the folder of an evaluated adapter.",
            show_default=False,
        ),
    ],
    form: Annotated[
        str,
        typer.Argument(
            metavar="FORM",
            help="kohya, onetrainer, simpletuner, ai-toolkit, diffusers, imagefolder (also: surd), "
            "webdataset, csv or prompt2vec; of an evaluated adapter: preferences.",
        ),
    ],
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            help="New folder; for prompt2vec a file, for preferences one ending in .parquet. "
            "Missing folders above it are created.",
        ),
    ],
    text: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Text of the samples: simple (the default), complex, dense, tags or all; may be "
            "repeated.",
        ),
    ] = None,
    trigger: Annotated[
        str, typer.Option(metavar="WORDS", help="Put these words first where a text lacks them.")
    ] = "",
    repeats: Annotated[
        int | None, typer.Option(min=1, help="How often a trainer sees each sample in an epoch.")
    ] = None,
    link: Annotated[
        bool,
        typer.Option(
            "--link", help="Hard-link images that are equal to the files they were collected from."
        ),
    ] = False,
    model: Llm = None,
    layer: Layer = None,
    by: Annotated[
        str | None,
        typer.Option(
            metavar="MEASURE",
            help="Of preferences: the column of evaluation.parquet that decides every pair, such "
            "as right, vqa_score, soft_tifa_prompts, pick_score or clip_score.",
        ),
    ] = None,
    margin: Annotated[
        float,
        typer.Option(
            min=0,
            metavar="DIFFERENCE",
            help="Of preferences: leave out pairs whose scores differ by less.",
        ),
    ] = 0.0,
    quiet: Quiet = False,
    json_: Json = False,
) -> None:
    """Write the published dataset, or a language model's vectors, in another form.

    Example: surd export my-data kohya -o my-kohya --text all --trigger "sks cup"
    """
    of_samples = {"--text": text, "--trigger": trigger, "--repeats": repeats, "--link": link}
    of_vectors = {"--model": model, "--layer": layer is not None}
    if form != "preferences":
        _refuse(form, {"--by": by, "--margin": margin})
    if form == "prompt2vec":
        _refuse(form, of_samples)
        _export_prompt2vec(folder, output, model, layer, as_json=json_)
        return
    _refuse(form, of_vectors)
    if form == "preferences":
        _refuse(form, of_samples)
        _export_preferences(folder, output, by, margin, as_json=json_)
        return
    from surd.build.dataset_state import need_published
    from surd.dataset.export.job import Wish
    from surd.dataset.export.run import export as write
    from surd.progress import track
    from surd.store.storage import local_path

    local_path(output)  # before anything is read
    need_published(folder)
    wish = Wish(text or (), trigger, repeats, link)
    with track("export", None, quiet=quiet) as tick:
        done = write(folder, form, output, tick, wish)
    if json_:
        print_json(asdict(done))
        return
    counts = ", ".join(f"{n:,} {split}" for split, n in done.splits.items())
    say(f"{done.location}: {done.form}, {counts}")
    for why, count in done.left_out.items():
        say(f"left out, samples {why}: {count:,}")
    if done.converted:
        say(
            f"images converted to PNG, for {done.form} to show them as they are: {done.converted:,}"
        )
    if done.linked is not None:
        say(f"images that are hard links to the files they were collected from: {done.linked:,}")
    if done.settings:
        say(f"settings: {done.settings}")


def merge(
    folders: Annotated[list[str], typer.Argument(metavar="DIR...", help="Workspaces.")],
    output: Annotated[str, typer.Option("--output", "-o", metavar="DIR", help="New workspace.")],
    quiet: Quiet = False,
    json_: Json = False,
) -> None:
    """Make one workspace of several: their samples, each once, with decisions, edits and sources.

    What models computed is kept; the settings are those of the first. Duplicates and verdicts are
    found anew by the next build.

    Example: surd merge mine yours -o ours
    """
    from surd.build.merge import merge as bring_together
    from surd.progress import track

    if len(folders) < 2:
        raise SurdError("name two workspaces or more: surd merge A B -o C")
    with track("merge", None, quiet=quiet) as tick:
        done = bring_together(folders, output, tick)
    if json_:
        print_json(asdict(done))
        return
    again = f", {done.doubles:,} left out that were there before" if done.doubles else ""
    parts = "part" if done.parts == 1 else "parts"
    say(f"{output}: {done.samples:,} samples in {done.parts:,} {parts}{again}")
    for folder in dict.fromkeys(place for place, _ in done.differing):
        keys = [key for place, key in done.differing if place == folder]
        warn(
            f"{folder} has other settings ({listed(keys)}); what depends on them is computed again"
        )
    say(f"next: {command('build', '-o', output)}")


def push(
    folder: Annotated[
        str,
        typer.Argument(metavar="DIR", help="Workspace with a dataset, or folder of an adapter."),
    ],
    repo: Annotated[
        str, typer.Option(metavar="USER/NAME", help="Repository; created if it does not exist.")
    ],
    private: Annotated[
        bool, typer.Option("--private", help="Make a new repository private.")
    ] = False,
    revision: Annotated[
        str | None,
        typer.Option(
            metavar="BRANCH", help="Branch other than main; created if it does not exist."
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="List what would be sent, and the paths, keys and e-mail addresses in it; send "
            "nothing.",
        ),
    ] = False,
    quiet: Quiet = False,
    json_: Json = False,
) -> None:
    """Upload a published dataset or a trained adapter to the Hugging Face Hub, resumably.

    The token comes from HF_TOKEN or from: hf auth login

    Example: surd push my-data --repo me/my-data --private
    """
    from surd.build.dataset_state import need_published
    from surd.dataset.hub.contents import contents_of
    from surd.dataset.hub.push import check_repo
    from surd.dataset.hub.push import push as send
    from surd.pages.text import bytes_
    from surd.progress import track

    check_repo(repo)
    contents = contents_of(folder)
    if contents.kind == "dataset":
        need_published(folder, card=True)
    for note in contents.notes:
        warn(note)
    if dry_run:
        from surd.dataset.hub.leaks import scan

        _print_plan(contents, scan(contents), repo, revision, json_)
        return
    try:
        with track("push", len(contents.files), quiet=quiet) as tick:
            done = send(contents, repo, private=private, revision=revision, tick=tick)
    except KeyboardInterrupt:
        warn("stopped; rerun the same command to continue; files already sent are not sent again")
        sys.exit(130)
    if json_:
        print_json({"repo": repo, "kind": contents.kind, **asdict(done)})
    elif done.sent or done.removed:
        removed = f", {len(done.removed):,} old files removed" if done.removed else ""
        sent = f"{len(done.sent):,} files sent ({bytes_(done.bytes)})"
        say(f"{done.url}: {sent}, {len(done.there):,} already there{removed}")
    else:
        say(f"{done.url}: is up to date")


def _print_plan(contents: Any, found: Any, repo: str, revision: str | None, as_json: bool) -> None:
    from surd.dataset.hub import leaks
    from surd.pages.text import bytes_

    total = sum(file.size for file in contents.files)
    if as_json:
        files = [{"name": file.name, "bytes": file.size} for file in contents.files]
        told = {"dry_run": True, "repo": repo, "kind": contents.kind, "revision": revision}
        stays = {"bytes": total, "stays": contents.stays}
        print_json({**told, "files": files, **stays, "scan": leaks.as_json(found)})
        return
    for file in contents.files:
        say(f"{bytes_(file.size):>10}  {file.name}")
    if contents.stays:
        say(f"not sent: {', '.join(contents.stays)}")
    say(f"{len(contents.files):,} files, {bytes_(total)}, to the {contents.kind} {repo}")
    for line in leaks.told(found):
        say(harmless(line))
    if not found.leaks:
        say("no paths, keys or e-mail addresses were found in it")
    say("nothing was sent (--dry-run)")


def _import_prompt2vec(
    folder: str, path: str, model: str | None, layer: int | None, *, as_json: bool
) -> None:
    from surd.build.needs import need_read
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


def _export_preferences(
    run: str, path: str, by: str | None, margin: float, *, as_json: bool
) -> None:
    from surd.evaluate.preferences import export_preferences

    done = export_preferences(run, path, by, margin=margin)
    if as_json:
        print_json(asdict(done))
        return
    pairs = "pair" if done.pairs == 1 else "pairs"
    say(
        f"{done.location}: {done.pairs:,} {pairs} decided by {done.by}, {done.adapter_wins:,} won "
        f"by the adapter; median difference {done.median_difference:.3g}"
    )
    left_out = {
        "that tie": done.ties,
        f"that differ by less than {margin:g}": done.below_margin,
        "without a number": done.without_score,
    }
    if any(left_out.values()):
        told = "; ".join(f"{why}: {count:,}" for why, count in left_out.items() if count)
        say(f"left out, pairs {told}")


def _export_prompt2vec(
    folder: str, path: str, model: str | None, layer: int | None, *, as_json: bool
) -> None:
    from surd.build.needs import not_scored
    from surd.build.run import open_recipe
    from surd.llm.prompt2vec import export_prompt2vec as write
    from surd.store.storage import local_path
    from surd.store.workspace import Workspace

    local_path(path)  # before anything is read
    name, number = _told(command("export", folder, "prompt2vec", "-o", path), model, layer)
    workspace = Workspace(folder)
    why = not_scored(workspace, open_recipe(workspace))
    if why is not None:
        raise SurdError(why)
    prompts = write(workspace, path, name, number)
    if as_json:
        print_json({"file": path, "prompts": prompts})
    else:
        say(f"{path}: {prompts:,} prompts")


def _refuse(form: str, options: Mapping[str, object]) -> None:
    """Raises SurdError for the first that was given: the form has no use for it."""
    for name, value in options.items():
        if value:
            raise SurdError(f"{form}: takes no {name}; leave it out")


def _told(run: str, model: str | None, layer: int | None) -> tuple[str, int]:
    if model is None or layer is None:
        raise SurdError(
            f"say which model and layer the vectors belong to: {run} --model NAME --layer N"
        )
    return model, layer
