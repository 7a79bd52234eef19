"""The command line: one thin function a command; nothing heavy is imported before it is needed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from surd.cli.curation import app as curation_app
from surd.cli.evaluate import app as evaluate_app
from surd.cli.hub import app as hub_app
from surd.cli.look import app as look_app
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
from surd.cli.training import app as training_app
from surd.cli.view import app as view_app

app = typer.Typer(
    name="surd",
    help="Build (simple prompt, complex prompt, image) datasets, step by step, resumably.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
)


@app.command()
def build(
    recipe: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(metavar="RECIPE", help="A recipe file or a shipped one's name."),
    ] = None,
    output: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--output", "-o", metavar="DIR", help="The workspace to fill."),
    ] = None,
    until: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="STAGE", help="Stop after: collect, download, prompts, ..."),
    ] = None,
    set_: Overrides = None,
    replace: Replace = False,
    plan: Annotated[
        bool, typer.Option("--plan", help="Check the recipe, say what would be done, and stop.")
    ] = False,
    retry_failed: Retry = False,
    max_failure_rate: MaxFailures = None,
    workers: Workers = None,
    engine: Engine = "local",
    ray_address: RayAddress = None,
    quiet: Quiet = False,
    json_: Json = False,
) -> None:
    """Run a recipe from its sources on; finished work is never done again.

    Example: surd build civitai -o my-data --set sources.0.limit=500
    """
    from surd.cli import do_build as commands

    commands.build(
        recipe,
        output,
        list(set_ or []),
        plan=plan,
        replace=replace,
        max_failure_rate=max_failure_rate,
        as_json=json_,
        until=until,
        retry_failed=retry_failed,
        workers=workers,
        engine=engine,
        ray_address=ray_address,
        quiet=quiet,
    )


@app.command()
def collect(
    folder: Folder,
    recipe: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="RECIPE", help="Add its sources to the workspace's own."),
    ] = None,
    set_: Overrides = None,
    refresh: Annotated[
        bool,
        typer.Option(
            "--refresh",
            help="Also look again at what is known: edited prompts and captions are taken over, "
            "and what is gone is marked so.",
        ),
    ] = False,
    quiet: Quiet = False,
    json_: Json = False,
) -> None:
    """Ask the sources for what is new; nothing is added twice.

    Example: surd collect my-data
    """
    from surd.cli import do_build as commands

    commands.run_stage(
        folder,
        "collect",
        recipe,
        list(set_ or []),
        as_json=json_,
        quiet=quiet,
        look_again=True,
        refresh=refresh,
    )


@app.command()
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
    """Fetch the images that are not there yet, check and describe them.

    Example: surd download my-data --retry-failed
    """
    from surd.cli import do_build as commands

    commands.run_stage(
        folder,
        "download",
        None,
        list(set_ or []),
        as_json=json_,
        engine=engine,
        ray_address=ray_address,
        quiet=quiet,
        retry_failed=retry_failed,
        max_failure_rate=max_failure_rate,
    )


@app.command()
def prompts(
    folder: Folder,
    set_: Overrides = None,
    workers: Workers = None,
    engine: Engine = "local",
    ray_address: RayAddress = None,
    quiet: Quiet = False,
    json_: Json = False,
) -> None:
    """Split LoRA tags, weights and other syntax from the words of the prompts.

    Example: surd prompts my-data
    """
    from surd.cli import do_build as commands

    commands.run_stage(
        folder,
        "prompts",
        None,
        list(set_ or []),
        as_json=json_,
        quiet=quiet,
        workers=workers,
        engine=engine,
        ray_address=ray_address,
    )


@app.command()
def status(
    folder: Folder,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read every byte, and find damaged files.")
    ] = False,
    json_: Json = False,
) -> None:
    """Show what is fresh, stale, missing or failed, and why.

    Example: surd status my-data
    """
    from surd.cli import do_build as commands

    commands.status(folder, verify=verify, as_json=json_)


@app.command()
def inspect(
    folder: Folder,
    query: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(metavar="QUERY", help="An id or its beginning, a url, or words."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Matches to list.")] = 20,
    json_: Json = False,
) -> None:
    """Show one sample in full, or list those that match.

    Example: surd inspect my-data "red circle"
    """
    from surd.cli import do_look as commands

    commands.inspect(folder, query, limit, as_json=json_)


@app.command()
def schema(
    name: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(metavar="NAME", help="samples, images, prompts, recipe or manifest."),
    ] = None,
    write: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="DIR", help="Write every schema to DIR instead."),
    ] = None,
) -> None:
    """Print the JSON Schema of a group, a recipe or the manifest.

    Example: surd schema recipe
    """
    from surd.cli import do_look as commands

    commands.schema(name, write)


@app.command()
def doctor(json_: Json = False) -> None:
    """Check that this machine has what surd needs.

    Example: surd doctor
    """
    from surd.cli import do_look as commands

    commands.doctor(as_json=json_)


app.add_typer(curation_app)
app.add_typer(training_app)
app.add_typer(evaluate_app)
app.add_typer(hub_app)
app.add_typer(look_app)
app.add_typer(view_app)


def _version(asked: bool) -> None:
    if asked:
        from surd import __version__

        typer.echo(f"surd {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Build (simple prompt, complex prompt, image) datasets, step by step, resumably."""


def main(commands: typer.Typer = app) -> Any:
    """Run a command line; what the user can mend becomes one line and exit code 2."""
    from surd.cli.printing import warn
    from surd.errors import SurdError

    try:
        return commands()
    except SurdError as error:
        warn(str(error))
        sys.exit(2)
    except BrokenPipeError:
        sys.exit(1)
