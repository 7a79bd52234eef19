"""``python -m tools.demo_models``: what the demo's models can do, and making them from nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Optional

import typer

from surd.cli.app import main

app = typer.Typer(
    no_args_is_help=True,
    help="The demo's small models: measure them, or train them from nothing.",
    rich_markup_mode=None,
)


@app.command()
def check(
    quick: Annotated[bool, typer.Option("--quick", help="A tenth of the samples.")] = False,
    models: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="DIR", help="Models to measure; those shipped by default."),
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure judge and models on held-out scenes; exit with 1 when a figure is missed.

    Example: python -m tools.demo_models check --quick
    """
    from tools.demo_models.check import check as measure
    from tools.demo_models.check import heading, line

    figures = []
    if not json_:
        typer.echo(heading())
    for figure in measure(models, quick=quick):
        figures.append(figure)
        if not json_:
            typer.echo(line(figure))
    if json_:
        typer.echo(json.dumps({"figures": [figure.as_dict() for figure in figures]}, indent=2))
    if not all(figure.reached for figure in figures):
        raise typer.Exit(1)


@app.command()
def train(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Where to save.")],
    device: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="cpu or cuda; a GPU where there is one by default."),
    ] = None,
    steps_scale: Annotated[
        float, typer.Option(min=0, help="Train so much longer or, under 1, shorter.")
    ] = 1.0,
) -> None:
    """Make every model of the demo from nothing; killed, it goes on where it was.

    Example: python -m tools.demo_models train -o my-models
    """
    from tools.demo_models.train import train_all

    train_all(output, device=device, steps_scale=steps_scale)


if __name__ == "__main__":
    main(app)
