"""The command line: the table of commands, and how errors are shown."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from surd.cli import build, curate, evaluate, exchange, look, train
from surd.cli.clean import clean
from surd.cli.edit import edit
from surd.cli.lean import let_go, start_quickly
from surd.cli.status import status

COMMANDS: Mapping[str, Mapping[str, Callable[..., None]]] = {
    "Build a dataset": {
        "build": build.build,
        "collect": build.collect,
        "download": build.download,
        **build.STAGE_COMMANDS,
        "filter": curate.filter_,
        "publish": curate.publish,
    },
    "Look at it, decide by hand": {
        "status": status,
        "inspect": look.inspect,
        "report": look.report,
        "view": look.view,
        "edit": edit,
    },
    "Bring in, take out": {
        "import": exchange.import_,
        "export": exchange.export,
        "merge": exchange.merge,
        "push": exchange.push,
    },
    "Train an adapter and use it": {
        "embed-llm": train.embed_llm,
        "train-adapter": train.train_adapter,
        "generate": train.generate,
        "evaluate": evaluate.evaluate,
        "ablate": evaluate.ablate,
    },
    "Check, describe and tidy": {"doctor": look.doctor, "schema": look.schema, "clean": clean},
}
"""Purpose -> name of a command -> its function."""


class _ByPurpose(TyperGroup):
    """Help that lists commands by what they are for."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        for purpose, names in COMMANDS.items():
            rows = [(name, self.commands[name].get_short_help_str(60)) for name in names]
            with formatter.section(purpose):
                formatter.write_dl(rows)


class _Command(TyperCommand):
    """Help that does not name each option's variable, which follows from command and option."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for parameter in self.params:
            parameter.show_envvar = False  # type: ignore[attr-defined]


app = typer.Typer(
    name="surd",
    cls=_ByPurpose,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "SURD"},
    rich_markup_mode=None,
)
for _commands in COMMANDS.values():
    for _name, _function in _commands.items():
        app.command(_name, cls=_Command)(_function)


def _version(asked: bool) -> None:
    if asked:
        from surd import __version__

        typer.echo(f"surd {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_version,
            is_eager=True,
            allow_from_autoenv=False,
            help="Print the version.",
        ),
    ] = False,
) -> None:
    """Build (simple prompt, complex prompt, image) datasets and train adapters on them."""


def main(commands: typer.Typer = app) -> Any:
    """Run a command line; what the user can mend becomes one line and exit code 2."""
    from surd.cli.printing import warn
    from surd.errors import SurdError

    start_quickly()
    try:
        return commands()
    except SurdError as error:
        warn(str(error))
        sys.exit(2)
    except BrokenPipeError:
        sys.exit(1)
    finally:
        let_go()
