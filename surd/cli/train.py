"""Language model vectors, training an adapter, and drawing with it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from surd.cli.options import (
    Diffusion,
    Engine,
    Folder,
    Guidance,
    Json,
    LanguageModelPlace,
    Overrides,
    Quiet,
    RayAddress,
    Steps,
)
from surd.cli.printing import log_to_stderr, print_json, say, warn
from surd.errors import command

if TYPE_CHECKING:
    from surd.recipe.train_adapter import TrainAdapterParams


Preset = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="How to train: paper, code, distil, reader or lora; or for what: sd15 or sdxl; may "
        "be repeated.",
    ),
]


def embed_llm(
    folder: Folder,
    preset: Preset = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Hub id, local folder, or demo:llm."),
    ] = None,
    layer: Annotated[
        list[int] | None,
        typer.Option(
            help="0 is the embeddings, k the output of block k, -1 the last; may be repeated."
        ),
    ] = None,
    pool: Annotated[
        Literal["last", "mean", "none"] | None,
        typer.Option(help="Keep the last token, the mean over tokens, or every token."),
    ] = None,
    texts: Annotated[
        Literal["simple", "all"] | None,
        typer.Option(help="The simple prompts, or also all other captions and complex prompts."),
    ] = None,
    dtype: Annotated[
        Literal["auto", "fp32", "bf16", "fp16"] | None,
        typer.Option(help="Precision; auto is bf16 on a GPU (fp16 on older ones), else fp32."),
    ] = None,
    batch_tokens: Annotated[
        int | None,
        typer.Option(min=1, help="Tokens per batch, including padding."),
    ] = None,
    quantize: Annotated[
        Literal["8bit", "4bit"] | None,
        typer.Option(help="Quantize the weights with bitsandbytes."),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="auto, cpu, cuda:N, cuda:0,cuda:1, or map."),
    ] = None,
    gguf_file: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="GGUF file in that repository or folder."),
    ] = None,
    set_: Overrides = None,
    engine: Engine = "local",
    ray_address: RayAddress = None,
    quiet: Quiet = False,
    json_: Json = False,
) -> None:
    """Compute a language model's vectors for the prompts, at any layers.

    Example: surd embed-llm my-data --model meta-llama/Llama-2-13b-hf --layer 39
    """
    from surd.build.needs import need_read
    from surd.build.run import open_recipe
    from surd.cli.running import run
    from surd.llm.part import reads_of
    from surd.llm.run import look
    from surd.recipe.load import override_recipe, replace_keys
    from surd.recipe.presets import with_presets
    from surd.store.workspace import Workspace

    workspace = Workspace(folder)
    workspace.read_manifest()
    flags = {
        "model": model,
        "layers": layer,
        "pool": pool,
        "texts": texts,
        "dtype": dtype,
        "batch_tokens": batch_tokens,
        "quantize": quantize,
        "device": device,
        "gguf_file": gguf_file,
    }
    given: dict[str, Any] = {key: value for key, value in flags.items() if value is not None}
    if "model" in given:  # what belongs to another model does not stay
        given = {"gguf_file": None, "revision": None} | given
    chosen = with_presets(open_recipe(workspace), preset or [])
    recipe = override_recipe(replace_keys(chosen, "embed_llm", given), set_ or [])
    need_read(workspace, reads_of(recipe.embed_llm.texts))
    look(recipe.embed_llm)  # before the workspace remembers what cannot be
    embedded, learnt = recipe.embed_llm.model, recipe.train_adapter.llm
    then = command("train-adapter", folder, *(["--llm", embedded] if embedded != learnt else []))
    run(
        folder,
        recipe,
        json_,
        only="embed_llm",
        then=then,
        engine=engine,
        ray_address=ray_address,
        quiet=quiet,
    )


def train_adapter(
    folder: Folder,
    preset: Preset = None,
    diffusion: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Diffusion model: hub id, folder, or .safetensors file."),
    ] = None,
    llm: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Language model, as given to embed-llm."),
    ] = None,
    layer: Annotated[
        int | None,
        typer.Option(help="Layer of its vectors; the deepest one there by default."),
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Number of optimizer steps.")] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, help="Samples per step and process."),
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Learning rate of AdamW.")] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", metavar="RUN", help="Folder of the run; DIR/adapter/run by default."
        ),
    ] = None,
    resume: Annotated[
        Literal["latest", "none"],
        typer.Option(help="Continue from the newest checkpoint, or start over."),
    ] = "latest",
    from_: Annotated[
        str | None,
        typer.Option("--from", metavar="RUN", help="Start a new run from this adapter's weights."),
    ] = None,
    no_cache: Annotated[
        bool,
        typer.Option(
            "--no-cache", help="Encode batch by batch instead of once: slower, but needs no disk."
        ),
    ] = False,
    set_: Overrides = None,
    quiet: Quiet = False,
    json_: Json = False,
) -> None:
    """Train an adapter on the published dataset and the language model's vectors.

    Example: surd train-adapter my-data --diffusion stable-diffusion-v1-5/stable-diffusion-v1-5
    """
    from surd.build.run import open_recipe
    from surd.recipe.load import override_recipe, replace_keys
    from surd.recipe.presets import DEFAULT, METHODS, WHY, says_nothing, with_presets
    from surd.store.storage import local_path
    from surd.store.workspace import Workspace
    from surd.training.checks import unused
    from surd.training.run import run

    log_to_stderr()
    local_path(folder)
    output = output or f"{folder}/adapter/run"
    local_path(output)  # before it is told how to train
    flags = {
        "diffusion": diffusion,
        "llm": llm,
        "layer": layer,
        "steps": steps,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "cache": False if no_cache else None,
    }
    given = {key: value for key, value in flags.items() if value is not None}
    own = open_recipe(Workspace(folder))

    def chosen(presets: list[str]) -> TrainAdapterParams:
        recipe = replace_keys(with_presets(own, presets), "train_adapter", given)
        return override_recipe(recipe, set_ or []).train_adapter

    params = chosen(preset or [])
    if says_nothing(params) and not set(METHODS) & set(preset or []):
        warn(f"no preset says how to train: using {DEFAULT}, {WHY}")
        params = chosen([DEFAULT, *(preset or [])])
    idle = unused(params)
    if idle is not None:
        warn(idle)
    try:
        done = run(folder, params, output, resume=resume == "latest", quiet=quiet, start=from_)
    except KeyboardInterrupt:
        warn("stopped; rerun the same command to continue from the newest checkpoint")
        sys.exit(130)
    if not done.main:
        return
    if done.lacking:
        embed = command("embed-llm", folder, "--model", params.llm)
        warn(
            f"{done.lacking:,} of {done.samples + done.lacking:,} samples have no vector, or no "
            f"complex prompt, and were left out; run: {embed}"
        )
    if json_:
        print_json(
            {
                "run": output,
                "samples": done.samples,
                "without_vectors": done.lacking,
                "steps": done.steps,
                "new": done.new,
            }
        )
        return
    if done.new:
        say(f"{output}: {done.steps:,} steps on {done.samples:,} samples")
    else:
        say(f"{output}: already trained with these settings")
    is_demo = params.diffusion.startswith("demo:")  # other judges do not know its pictures
    judged = ("--prompts", "demo:plain", "--clip", "demo:clip") if is_demo else ()
    say(f"next: {command('evaluate', output, *judged)}")


def generate(
    prompts: Annotated[list[str], typer.Argument(metavar="PROMPT...", help="What to draw.")],
    adapter: Annotated[str, typer.Option(metavar="RUN", help="Folder of a trained adapter.")],
    compare: Annotated[
        bool, typer.Option("--compare", help="Also draw with the base model, to the left.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of the first picture of each prompt.")] = 0,
    count: Annotated[int, typer.Option(min=1, help="Pictures per prompt.")] = 1,
    steps: Steps = 30,
    guidance: Guidance = 7.5,
    negative: Annotated[
        str, typer.Option(help="Negative prompt; the adapter does not change it.")
    ] = "",
    diffusion: Diffusion = None,
    llm: LanguageModelPlace = None,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="DIR", help="Folder for the PNGs.")
    ] = "pictures",
    quiet: Quiet = False,
    json_: Json = False,
) -> None:
    """Draw plain sentences with an adapter, and without it from the same seeds.

    Example: surd generate --adapter my-data/adapter/run "two red cups on a table" --compare
    """
    from surd.adapter.generate import Wish, draw
    from surd.progress import track

    log_to_stderr()
    wish = Wish(
        prompts=prompts,
        seeds=range(seed, seed + count),
        negative_prompt=negative,
        steps=steps,
        guidance=guidance,
        compare=compare,
    )
    with track("generate", len(prompts) * count, quiet=quiet) as tick:
        written = draw(adapter, wish, output, diffusion=diffusion, llm=llm, tick=tick)
    if json_:
        print_json({"pictures": [str(path) for path in written]})
        return
    for path in written:
        say(str(path))
