"""The commands that turn a dataset into an adapter."""

from __future__ import annotations

from typing import Annotated, Literal, Optional

import typer

from surd.cli.options import Engine, Folder, Json, Overrides, Quiet, RayAddress

app = typer.Typer()


@app.command("embed-llm")
def embed_llm(
    folder: Folder,
    model: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="NAME", help="Hub id, local folder, or demo:llm."),
    ] = None,
    layer: Annotated[
        Optional[list[int]],  # noqa: UP045
        typer.Option(help="0: embeddings, k: after block k, -1: last. May be repeated."),
    ] = None,
    pool: Annotated[
        Optional[Literal["last", "mean", "none"]],  # noqa: UP045
        typer.Option(help="Last token, mean over tokens, or every token."),
    ] = None,
    dtype: Annotated[
        Optional[Literal["auto", "fp32", "bf16", "fp16"]],  # noqa: UP045
        typer.Option(help="Computed in; auto is bf16 on a GPU, else fp32."),
    ] = None,
    batch_tokens: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, help="Tokens in a batch, padding included."),
    ] = None,
    quantize: Annotated[
        Optional[Literal["8bit", "4bit"]],  # noqa: UP045
        typer.Option(help="Load the weights so, through bitsandbytes."),
    ] = None,
    device: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="NAME", help="auto, cpu, cuda:N, cuda:0,cuda:1, or map."),
    ] = None,
    gguf_file: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="FILE", help="A GGUF file in that repository or folder."),
    ] = None,
    set_: Overrides = None,
    engine: Engine = "local",
    ray_address: RayAddress = None,
    quiet: Quiet = False,
    json_: Json = False,
) -> None:
    """Compute a language model's vectors of the simple prompts, at any layer.

    Example: surd embed-llm my-data --model meta-llama/Llama-2-13b-hf --layer 39
    """
    from surd.cli import do_training

    flags = {
        "model": model,
        "layers": layer,
        "pool": pool,
        "dtype": dtype,
        "batch_tokens": batch_tokens,
        "quantize": quantize,
        "device": device,
        "gguf_file": gguf_file,
    }
    do_training.embed_llm(
        folder,
        list(set_ or []),
        flags,
        as_json=json_,
        quiet=quiet,
        engine=engine,
        ray_address=ray_address,
    )


@app.command("train-adapter")
def train_adapter(
    folder: Folder,
    diffusion: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="NAME", help="Text-to-image pipeline: hub id or local folder."),
    ] = None,
    llm: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="NAME", help="Language model, as given to embed-llm."),
    ] = None,
    layer: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Layer of its vectors; the deepest there is by default."),
    ] = None,
    steps: Annotated[Optional[int], typer.Option(min=1, help="Optimizer steps.")] = None,  # noqa: UP045
    batch_size: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, help="Samples a step and process."),
    ] = None,
    learning_rate: Annotated[Optional[float], typer.Option(help="Of AdamW.")] = None,  # noqa: UP045
    output: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--output", "-o", metavar="RUN", help="Folder; DIR/adapter/run by default."),
    ] = None,
    resume: Annotated[
        Literal["latest", "none"], typer.Option(help="Go on from the newest checkpoint, or anew.")
    ] = "latest",
    no_cache: Annotated[
        bool,
        typer.Option("--no-cache", help="Encode batch by batch: more time, no disk."),
    ] = False,
    set_: Overrides = None,
    quiet: Quiet = False,
    json_: Json = False,
) -> None:
    """Train an adapter on the published dataset and the language model's vectors.

    Example: surd train-adapter my-data --diffusion stable-diffusion-v1-5/stable-diffusion-v1-5
    """
    from surd.cli import do_training

    flags = {
        "diffusion": diffusion,
        "llm": llm,
        "layer": layer,
        "steps": steps,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "cache": False if no_cache else None,
    }
    do_training.train_adapter(
        folder,
        output or f"{folder}/adapter/run",
        list(set_ or []),
        flags,
        resume=resume == "latest",
        quiet=quiet,
        as_json=json_,
    )


@app.command()
def generate(
    prompts: Annotated[list[str], typer.Argument(metavar="PROMPT...", help="What to draw.")],
    adapter: Annotated[str, typer.Option(metavar="RUN", help="Folder of a trained adapter.")],
    compare: Annotated[
        bool, typer.Option("--compare", help="The base model's picture to the left.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the first picture of each prompt.")] = 0,
    count: Annotated[int, typer.Option(min=1, help="Pictures of each prompt.")] = 1,
    steps: Annotated[int, typer.Option(min=1, help="Denoising steps.")] = 30,
    guidance: Annotated[float, typer.Option(min=0, help="Classifier-free guidance.")] = 7.5,
    negative: Annotated[str, typer.Option(help="What not to draw; no adapter touches it.")] = "",
    diffusion: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="NAME", help="Another diffusion model than it was trained with."),
    ] = None,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="DIR", help="Where the PNGs go.")
    ] = "pictures",
    json_: Json = False,
) -> None:
    """Draw plain sentences with an adapter, the same seeds with and without.

    Example: surd generate --adapter my-data/adapter/run "two red cups on a table" --compare
    """
    from surd.cli import do_training

    do_training.generate(
        list(prompts),
        adapter,
        output,
        json_,
        diffusion=diffusion,
        seeds=range(seed, seed + count),
        negative_prompt=negative,
        steps=steps,
        guidance=guidance,
        compare=compare,
    )
