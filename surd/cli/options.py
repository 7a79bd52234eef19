"""Arguments and options that several commands take."""

from __future__ import annotations

from typing import Annotated, Literal, Optional

import typer

Folder = Annotated[str, typer.Argument(metavar="DIR", help="The workspace.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, results only.")]
Workers = Annotated[
    Optional[int], typer.Option(min=1, help="Processes for CPU work; one a core by default.")  # noqa: UP045
]
Engine = Annotated[
    Literal["local", "ray"], typer.Option(help="Compute here, or on a Ray cluster: same rows.")
]
RayAddress = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(metavar="ADDRESS", help="Of a cluster; auto: the running one; else one is begun."),
]
Retry = Annotated[
    bool, typer.Option("--retry-failed", help="Try images again that could not be had before.")
]
MaxFailures = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option(min=0, max=1, help="Exit with 1 when a larger share of the images failed."),
]
Overrides = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key, as sources.0.limit=100."),
]
Replace = Annotated[
    bool,
    typer.Option("--replace", help="Take this recipe instead of the settings the workspace has."),
]
Llm = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--model", metavar="NAME", help="Language model whose vectors are meant."),
]
Layer = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option("--layer", min=0, help="Layer of that model."),
]
