"""The commands that turn a dataset into an adapter."""

from __future__ import annotations

from typing import Annotated, Literal, Optional

import typer

from surd.cli_options import Folder, Json, Overrides, Quiet

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
    quiet: Quiet = False,
    json_: Json = False,
) -> None:
    """Compute a language model's vectors of the simple prompts, at any layer.

    Example: surd embed-llm my-data --model meta-llama/Llama-2-13b-hf --layer 39
    """
    from surd.commands import training

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
    training.embed_llm(folder, list(set_ or []), flags, quiet=quiet, as_json=json_)
