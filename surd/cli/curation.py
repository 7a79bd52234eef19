"""The commands that turn pairs into triples and triples into a dataset."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from surd.cli.options import (
    Engine,
    Folder,
    Json,
    Layer,
    Llm,
    Overrides,
    Quiet,
    RayAddress,
    Replace,
)

app = typer.Typer()


@app.command()
def caption(
    folder: Folder,
    set_: Overrides = None,
    engine: Engine = "local",
    ray_address: RayAddress = None,
    quiet: Quiet = False,
    json_: Json = False,
) -> None:
    """Let BLIP propose simple prompts for every image.

    Example: surd caption my-data --set caption.candidates=3
    """
    from surd.cli import do_build

    do_build.run_stage(
        folder,
        "caption",
        None,
        list(set_ or []),
        as_json=json_,
        quiet=quiet,
        engine=engine,
        ray_address=ray_address,
    )


@app.command()
def score(
    folder: Folder,
    set_: Overrides = None,
    engine: Engine = "local",
    ray_address: RayAddress = None,
    quiet: Quiet = False,
    json_: Json = False,
) -> None:
    """Let CLIP judge how well both prompts fit the image, and choose the simple one.

    Example: surd score my-data --set score.clip=ViT-L-14/openai
    """
    from surd.cli import do_build

    do_build.run_stage(
        folder,
        "score",
        None,
        list(set_ or []),
        as_json=json_,
        quiet=quiet,
        engine=engine,
        ray_address=ray_address,
    )


@app.command()
def dedup(
    folder: Folder, set_: Overrides = None, quiet: Quiet = False, json_: Json = False
) -> None:
    """Find the same picture again, by bytes, perceptual hash and CLIP.

    Example: surd dedup my-data --set dedup.min_cosine=0.97
    """
    from surd.cli import do_build

    do_build.run_stage(folder, "dedup", None, list(set_ or []), as_json=json_, quiet=quiet)


@app.command("filter")
def filter_(
    folder: Folder,
    clip_threshold: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="N|pN", help="Least cosine(image, simple prompt)."),
    ] = None,
    complex_threshold: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="N|pN", help="Least cosine(image, complex prompt)."),
    ] = None,
    min_margin: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="N|pN", help="Least cosine(simple) - cosine(complex)."),
    ] = None,
    min_aesthetic: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="N|pN", help="Least aesthetic score."),
    ] = None,
    max_nsfw: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(metavar="N", help="Highest nsfw score, 0 to 1."),
    ] = None,
    min_side: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(metavar="PX", help="Least shorter side in pixels."),
    ] = None,
    keep: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(metavar="ID", help="Keep this sample by hand, whatever the filters say."),
    ] = None,
    drop: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(metavar="ID", help="Drop this sample by hand."),
    ] = None,
    undo: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(metavar="ID", help="Leave this sample to the filters again."),
    ] = None,
    set_: Overrides = None,
    suggest: Annotated[
        bool, typer.Option("--suggest", help="Show the scores and propose thresholds.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write nothing.")] = False,
    quiet: Quiet = False,
    json_: Json = False,
) -> None:
    """Judge every sample anew, in seconds: images and models are not touched.

    Example: surd filter my-data --clip-threshold 0.28 --min-side 512
    """
    from surd.cli import do_curation

    flags = {
        "clip_threshold": clip_threshold,
        "complex_threshold": complex_threshold,
        "min_margin": min_margin,
        "min_aesthetic": min_aesthetic,
        "max_nsfw": max_nsfw,
        "min_side": min_side,
    }
    do_curation.filter_(
        folder,
        list(set_ or []),
        flags,
        suggest=suggest,
        by_hand={
            **dict.fromkeys(keep or (), "keep"),
            **dict.fromkeys(drop or (), "drop"),
            **dict.fromkeys(undo or ()),
        },
        dry_run=dry_run,
        quiet=quiet,
        as_json=json_,
    )


@app.command()
def publish(
    folder: Folder, set_: Overrides = None, quiet: Quiet = False, json_: Json = False
) -> None:
    """Write the kept samples as a dataset: Parquet shards, card and croissant.json.

    Example: surd publish my-data --set publish.test=0.05
    """
    from surd.cli import do_curation

    do_curation.publish(folder, list(set_ or []), quiet=quiet, as_json=json_)


@app.command()
def export(
    folder: Folder,
    form: Annotated[
        str, typer.Argument(metavar="FORM", help="surd, webdataset, csv or prompt2vec.")
    ],
    output: Annotated[
        str,
        typer.Option("--output", "-o", metavar="PATH", help="A new folder; a file of prompt2vec."),
    ],
    model: Llm = None,
    layer: Layer = None,
    quiet: Quiet = False,
    json_: Json = False,
) -> None:
    """Write the published dataset, or a language model's vectors, in another form.

    Example: surd export my-data webdataset -o my-tars
    """
    from surd.cli import do_curation, do_training

    if form == "prompt2vec":
        do_training.export_prompt2vec(folder, output, model, layer, as_json=json_)
    else:
        do_curation.export(folder, form, output, quiet=quiet, as_json=json_)


@app.command("import")
def import_(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            help="surd, webdataset, img2dataset, huggingface, folder, table or prompt2vec.",
        ),
    ],
    path: Annotated[str, typer.Argument(metavar="PATH", help="File, folder or pattern.")],
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="DIR", help="The workspace to fill.")
    ],
    name: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="NAME", help="Of the dataset; by default the file's or folder's."),
    ] = None,
    model: Llm = None,
    layer: Layer = None,
    set_: Overrides = None,
    replace: Replace = False,
    quiet: Quiet = False,
    json_: Json = False,
) -> None:
    """Bring a dataset, or a language model's vectors, that are there already into a workspace.

    Example: surd import surd ~/SURD -o my-data
    """
    from surd.cli import do_curation, do_training

    if kind == "prompt2vec":
        do_training.import_prompt2vec(output, path, model, layer, as_json=json_)
    else:
        do_curation.import_(
            kind,
            path,
            output,
            name,
            list(set_ or []),
            replace=replace,
            quiet=quiet,
            as_json=json_,
        )
