"""The command that shows what there is as a page."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from surd.cli.options import Json, Quiet

app = typer.Typer()


@app.command()
def report(
    folder: Annotated[
        str,
        typer.Argument(metavar="DIR", help="A workspace, or a training run's folder."),
    ],
    output: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--output", "-o", metavar="FILE", help="Where to write; DIR/report/index.html."
        ),
    ] = None,
    quiet: Quiet = False,
    json_: Json = False,
) -> None:
    """Write one HTML page about a dataset and its training runs; it opens without a network.

    The funnel with examples of every reason, thresholds that count live, triples, duplicates,
    failures, times. It holds small images and names of authors.

    Example: surd report my-data
    """
    from surd.cli import do_report as commands

    commands.report(folder, output, quiet=quiet, as_json=json_)
