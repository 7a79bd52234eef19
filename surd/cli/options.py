"""Arguments and options that several commands take."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

Folder = Annotated[str, typer.Argument(metavar="DIR", help="The workspace.", show_default=False)]
Run = Annotated[str, typer.Argument(metavar="RUN", help="Folder of a trained adapter.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print results only, no progress.")]
Workers = Annotated[
    int | None,
    typer.Option(min=1, help="Number of processes for CPU work; one per core by default."),
]
Engine = Annotated[
    Literal["local", "ray"],
    typer.Option(help="Compute here or on a Ray cluster, with the same rows."),
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS", help="Ray cluster; auto is the running one. Without it, Ray starts here."
    ),
]
Retry = Annotated[
    bool,
    typer.Option(
        "--retry-failed",
        help="Retry images that could not be fetched, and captions that a server did not answer.",
    ),
]
MaxFailures = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        help="Exit with 1 if a larger share of the images or captions failed.",
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Set a recipe key, such as sources.0.limit=100."
    ),
]
Replace = Annotated[
    bool, typer.Option("--replace", help="Use this recipe instead of the workspace's own settings.")
]
Llm = Annotated[
    str | None,
    typer.Option("--model", metavar="NAME", help="Language model the vectors belong to."),
]
Layer = Annotated[int | None, typer.Option("--layer", min=0, help="Layer of that model.")]
Diffusion = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Diffusion model: hub id, folder, or .safetensors file; by default the one it was "
        "trained with.",
    ),
]
LanguageModelPlace = Annotated[
    str | None,
    typer.Option(
        "--llm",
        metavar="NAME",
        help="Language model that the adapter reads, if it reads one: hub id, folder, or file; by "
        "default the one it was trained with.",
    ),
]
Steps = Annotated[int, typer.Option(min=1, help="Number of denoising steps.")]
Guidance = Annotated[float, typer.Option(min=0, max=1000, help="Classifier-free guidance scale.")]
