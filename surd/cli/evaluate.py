"""Measuring what an adapter is worth."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from surd.cli.options import (
    Diffusion,
    Folder,
    Guidance,
    Json,
    LanguageModelPlace,
    Overrides,
    Quiet,
    Run,
    Steps,
)
from surd.cli.printing import log_to_stderr, print_json, say
from surd.errors import command

Prompts = Annotated[
    list[str] | None,
    typer.Option(
        metavar="SET",
        help="action, color, counting, paper (all three), a file, or a set of the demo such as "
        "demo:plain; may be repeated.",
    ),
]
Seeds = Annotated[int, typer.Option(min=1, help="Pictures per prompt.")]
FirstSeed = Annotated[
    int, typer.Option(min=0, help="Seed of a prompt's first picture; the rest follow.")
]
Limit = Annotated[int | None, typer.Option(min=1, help="Maximum number of prompts per set.")]
Vqa = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="Model that answers questions: hub id, folder, or openai:http://HOST/v1#MODEL.",
    ),
]
ClipName = Annotated[str, typer.Option("--clip", metavar="NAME", help="CLIP model, or none.")]
Qualities = Annotated[
    list[str] | None,
    typer.Option(
        "--quality",
        metavar="NAME",
        help="clip-iqa (torchmetrics; or one of its other scales, as clip-iqa:sharpness), or a "
        "metric of pyiqa (noncommercial licence), such as brisque; may be repeated.",
    ),
]
Liked = Annotated[
    str,
    typer.Option(
        "--pickscore",
        metavar="NAME",
        help="PickScore model, such as yuvalkirstain/PickScore_v1, or none.",
    ),
]

Baselines = Annotated[
    list[str] | None,
    typer.Option(
        "--baseline",
        metavar="NAME",
        help="Compare with a baseline too: rewrite, in which a language model rewrites the prompts "
        "by examples from the dataset.",
    ),
]
Rewriter = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Language model for rewrite: hub id, folder, or openai:http://HOST/v1#MODEL; "
        "default: the adapter's.",
    ),
]


def evaluate(
    run: Run,
    prompts: Prompts = None,
    seeds: Seeds = 4,
    first_seed: FirstSeed = 0,
    limit: Limit = None,
    steps: Steps = 30,
    guidance: Guidance = 7.5,
    negative: Annotated[str, typer.Option(help="Negative prompt.")] = "",
    vqa: Vqa = "Salesforce/blip-vqa-base",
    clip: ClipName = "ViT-B-32/laion2b_s34b_b79k",
    pickscore: Liked = "none",
    quality: Qualities = None,
    baseline: Baselines = None,
    rewriter: Rewriter = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="Workspace or dataset with the examples for rewrite; default: the one that RUN "
            "lies in.",
        ),
    ] = None,
    diffusion: Diffusion = None,
    llm: LanguageModelPlace = None,
    gap: Annotated[
        bool,
        typer.Option(
            "--gap",
            help="Before training: draw a dataset's simple and complex prompts with the bare "
            "model, to see whether there is anything to gain. RUN is the workspace.",
        ),
    ] = False,
    quiet: Quiet = False,
    json_: Json = False,
) -> None:
    """Measure an adapter: the same prompts and noise, with it and without.

    Example: surd evaluate my-data/adapter/run --prompts paper --seeds 4
    """
    from surd.evaluate.results import table_of
    from surd.evaluate.run import Options
    from surd.evaluate.run import evaluate as measure

    log_to_stderr()
    options = Options(
        prompts=tuple(prompts or ["paper"]),
        seeds=seeds,
        first_seed=first_seed,
        limit=limit,
        steps=steps,
        guidance=guidance,
        negative_prompt=negative,
        vqa=vqa,
        clip=clip,
        pickscore=pickscore,
        quality=tuple(quality or []),
        baselines=tuple(baseline or []),
        rewriter=rewriter,
        dataset=dataset,
        diffusion=diffusion,
        llm=llm,
    )
    if gap:
        _gap(run, options, quiet=quiet, json_=json_)
        return
    rows = measure(run, options, quiet=quiet)
    if json_:
        print_json({"run": run, "rows": [asdict(row) for row in rows]})
        return
    say(table_of(rows))
    say(f"{run}: evaluation.md, evaluation.json, and evaluation.parquet with every picture")
    say(f"next: {command('report', run)}")


def _gap(folder: str, options: Any, *, quiet: bool, json_: bool) -> None:
    from surd.build.run import open_recipe
    from surd.errors import SurdError
    from surd.evaluate.gap import NAMES, verdict
    from surd.evaluate.gap import gap as measure
    from surd.evaluate.results import table_of
    from surd.store.storage import local_path
    from surd.store.workspace import Workspace

    local_path(folder)
    liked = options.pickscore != "none"
    if liked or options.quality or options.baselines or options.prompts != ("paper",):
        raise SurdError(
            "--gap draws the dataset's own prompts; leave out --prompts, --pickscore, --quality "
            "and --baseline"
        )
    if options.rewriter is not None or options.dataset is not None:
        raise SurdError(
            "--gap rewrites nothing, and RUN is its dataset; leave out --rewriter and --dataset"
        )
    recipe = open_recipe(Workspace(folder))
    rows = measure(
        folder, options.diffusion or recipe.train_adapter.diffusion, options, quiet=quiet
    )
    if json_:
        print_json({"workspace": folder, "rows": [asdict(row) for row in rows]})
        return
    say(table_of(rows, NAMES))
    say(verdict(rows))
    say(f"next: {command('train-adapter', folder)}")


def ablate(
    folder: Folder,
    variants: Annotated[
        str | None,
        typer.Argument(metavar="FILE", help="YAML file of names with settings of train-adapter."),
    ] = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=V,V", help="Setting and its values; may be repeated."),
    ] = None,
    set_: Overrides = None,
    trainings: Annotated[
        int,
        typer.Option(
            min=1,
            help="How often each adapter is trained, with seeds from its own on; they are measured "
            "together, and their spread is shown.",
        ),
    ] = 1,
    prompts: Prompts = None,
    seeds: Seeds = 4,
    first_seed: FirstSeed = 0,
    limit: Limit = None,
    steps: Steps = 30,
    guidance: Guidance = 7.5,
    vqa: Vqa = "Salesforce/blip-vqa-base",
    clip: ClipName = "ViT-B-32/laion2b_s34b_b79k",
    pickscore: Liked = "none",
    quality: Qualities = None,
    baseline: Baselines = None,
    rewriter: Rewriter = None,
    quiet: Quiet = False,
    json_: Json = False,
) -> None:
    """Train adapters that differ in a few settings, and measure each in the same way.

    Example: surd ablate my-data --vary layer=10,20,30 --vary adapter_weight=0.1,0.5
    """
    from surd.build.run import open_recipe
    from surd.evaluate.run import Options
    from surd.recipe.load import override_recipe
    from surd.store.storage import local_path
    from surd.store.workspace import Workspace
    from surd.training.ablation import ablate as compare
    from surd.training.ablation import read_variants
    from surd.training.ablation_table import ablation_table

    log_to_stderr()
    options = Options(
        prompts=tuple(prompts or ["paper"]),
        seeds=seeds,
        first_seed=first_seed,
        limit=limit,
        steps=steps,
        guidance=guidance,
        vqa=vqa,
        clip=clip,
        pickscore=pickscore,
        quality=tuple(quality or []),
        baselines=tuple(baseline or []),
        rewriter=rewriter,
    )
    local_path(folder)
    chosen = read_variants(Path(variants) if variants else None, vary or [])
    recipe = override_recipe(open_recipe(Workspace(folder)), set_ or [])
    done = compare(folder, recipe, chosen, options, trainings=trainings, quiet=quiet)
    if json_:
        print_json({"workspace": folder, **done.as_json()})
        return
    say(ablation_table(done))
    say(f"{folder}/adapter/ablation: ablation.md, ablation.json, and a folder per adapter")
    say(f"next: {command('report', folder)}")
