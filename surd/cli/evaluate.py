"""The commands that say what an adapter is worth."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from surd.cli.options import Folder, Json, Overrides, Quiet

app = typer.Typer()

Prompts = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(
        metavar="SET",
        help="action, color, counting, paper (all three), a file, or demo:simple and the like. "
        "May be repeated.",
    ),
]
Seeds = Annotated[int, typer.Option(min=1, help="Pictures of each prompt.")]
Limit = Annotated[Optional[int], typer.Option(min=1, help="Of prompts in a set.")]  # noqa: UP045
Steps = Annotated[int, typer.Option(min=1, help="Denoising steps.")]
Guidance = Annotated[float, typer.Option(min=0, help="Classifier-free guidance.")]
Vqa = Annotated[str, typer.Option(metavar="NAME", help="Model that answers questions.")]
ClipName = Annotated[str, typer.Option("--clip", metavar="NAME", help="CLIP, or none.")]
Qualities = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--quality", metavar="NAME", help="brisque, clipiqa, musiq: pyiqa's metrics."),
]


@app.command()
def evaluate(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Folder of a trained adapter.")],
    prompts: Prompts = None,
    seeds: Seeds = 4,
    limit: Limit = None,
    steps: Steps = 30,
    guidance: Guidance = 7.5,
    negative: Annotated[str, typer.Option(help="What not to draw.")] = "",
    vqa: Vqa = "Salesforce/blip-vqa-base",
    clip: ClipName = "ViT-B-32/openai",
    quality: Qualities = None,
    diffusion: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="NAME", help="Another diffusion model than it was trained with."),
    ] = None,
    quiet: Quiet = False,
    json_: Json = False,
) -> None:
    """Measure an adapter: same prompts, same noise, with and without it.

    Example: surd evaluate my-data/adapter/run --prompts paper --seeds 4
    """
    from surd.cli import do_evaluation

    do_evaluation.evaluate(
        run,
        json_,
        quiet=quiet,
        prompts=tuple(prompts or ["paper"]),
        seeds=seeds,
        limit=limit,
        steps=steps,
        guidance=guidance,
        negative_prompt=negative,
        vqa=vqa,
        clip=clip,
        quality=tuple(quality or []),
        diffusion=diffusion,
    )


@app.command()
def ablate(
    folder: Folder,
    variants: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(metavar="FILE", help="YAML: names, each with settings of train-adapter."),
    ] = None,
    vary: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(metavar="KEY=V,V", help="A setting and its values. May be repeated."),
    ] = None,
    set_: Overrides = None,
    prompts: Prompts = None,
    seeds: Seeds = 4,
    limit: Limit = None,
    steps: Steps = 30,
    guidance: Guidance = 7.5,
    vqa: Vqa = "Salesforce/blip-vqa-base",
    clip: ClipName = "ViT-B-32/openai",
    quality: Qualities = None,
    quiet: Quiet = False,
    json_: Json = False,
) -> None:
    """Train adapters that differ in a few settings, and measure them alike.

    Example: surd ablate my-data --vary layer=10,20,30 --vary adapter_weight=0.1,0.5
    """
    from surd.cli import do_evaluation

    do_evaluation.ablate(
        folder,
        variants,
        list(vary or []),
        list(set_ or []),
        json_,
        quiet=quiet,
        prompts=tuple(prompts or ["paper"]),
        seeds=seeds,
        limit=limit,
        steps=steps,
        guidance=guidance,
        vqa=vqa,
        clip=clip,
        quality=tuple(quality or []),
    )
