"""All that wants a GPU, in one run of eight minutes at most on one card.

    python benchmarks/gpu.py               # on a GPU: full sizes, the precision that auto chooses
    python benchmarks/gpu.py --pretend     # every part on a processor, with small models

First what must be right: each kind of model on the card, in its precision, against float32 on the
processor. Then what is fast: the default build of 500 pictures, from a site and a hub on loopback;
batched captions; vectors of a language model with the shape of Llama 2 7B, as a share of what the
card's matrix products reach; training steps of Stable Diffusion 1.5 at 512 pixels, with their peak
memory. Weights are random; nothing is fetched. Ends with 1 at the first wrong thing;
``results/gpu.json`` has what was measured until then.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))  # the stand-in hub and its models

from _common import BenchmarkError, format_table, hardware, say, write_results  # noqa: E402

LIMIT_S = 480
Row = tuple[str, float, str]
"""What was measured, the number, its unit."""
MOST_OFF, MOST_OFF_UNET = 0.05, 0.3
"""Of the norm: what half precision may be away from float32. Random UNets swell what is rounded."""
WORDS = ("red", "blue", "old", "tall", "round", "small", "bright", "broken", "wooden", "striped")
THINGS = ("cups", "foxes", "towers", "boats", "lamps", "dogs", "stones", "apples", "doors", "birds")


@dataclass(frozen=True)
class Sizes:
    """How much of everything."""

    pictures: int
    captions: int
    prompts: int
    steps: int
    llama: Mapping[str, int]
    training: str
    """A key of the training benchmark's sizes."""


FULL = Sizes(
    500, 256, 4000, 30, {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
                         "num_attention_heads": 32}, "sd15",
)  # fmt: skip
SMALL = Sizes(
    24, 2, 100, 2, {"hidden_size": 128, "intermediate_size": 344, "num_hidden_layers": 2,
                    "num_attention_heads": 4}, "small",
)  # fmt: skip


# what must be right -----------------------------------------------------------------------------


def right(sizes: Sizes) -> Iterator[Row]:
    """Every kind of model: the device in its own precision against float32 on the processor."""
    import torch
    from real_names.zoo import MODELS

    from surd.models.devices import device_named, dtype_of

    device = device_named("auto")
    dtype = dtype_of("auto", device)
    exact: tuple[Any, Any] = (torch.device("cpu"), torch.float32)
    for name, check in checks(MODELS).items():
        theirs, ours = check(*exact), check(device, dtype)
        for one, other in zip(theirs, ours, strict=True):
            if not other.isfinite().all():
                raise BenchmarkError(f"{name} on {device} in {dtype}: not finite")
            off = float((one - other.float().cpu()).norm() / one.norm())
            if off > (MOST_OFF_UNET if "diffusion" in name else MOST_OFF):
                raise BenchmarkError(f"{name} on {device} in {dtype}: off by {off:.1%}")
        yield f"{name} ({str(dtype).removeprefix('torch.')})", off, "off, of the norm"


def checks(models: Mapping[str, Any]) -> dict[str, partial[list[Any]]]:
    """By model: device and precision to tensors that hardly depend on them."""
    kinds: dict[str, Callable[[str, Any, Any], list[Any]]] = {
        "blip-image-captioning": blip_outputs,
        "Llama": llm_outputs,
        "Mistral": llm_outputs,
        "Qwen3-": llm_outputs,
        "gemma": llm_outputs,
        "stable-diffusion-v1-5": unet_outputs,
        "stable-diffusion-2-1": unet_outputs,
        "stable-diffusion-xl-base": unet_outputs,
    }
    clips = ("ViT-B-32/openai", "ViT-B-32/laion2b_s34b_b79k")
    found = {name: partial(clip_outputs, name) for name in clips}
    for kind, run in kinds.items():
        mine = (name for name in models if name.rpartition("/")[2].startswith(kind))
        found |= {name: partial(run, name) for name in mine}
    return found


def clip_outputs(name: str, device: Any, dtype: Any) -> list[Any]:
    """Embeddings of noise and of sentences."""
    import torch

    from surd.models.clip import load_clip

    clip = load_clip(name, device=device, dtype=dtype)
    pixels = torch.randn(4, 3, clip.side_px, clip.side_px, generator=torch.manual_seed(0))
    return [clip.embed_pixels(pixels), clip.embed_texts(sentences(8))]


def blip_outputs(name: str, device: Any, dtype: Any) -> list[Any]:
    """What the decoder reads of a picture; that words come of it."""
    import torch
    from transformers import BlipForConditionalGeneration

    from surd.models.blip import encode
    from surd.models.captioner import load_captioner
    from surd.models.captions import Wanted

    captioner = load_captioner(name, device=device, dtype=dtype)
    pictures = [captioner.prepare(noise(captioner.side_px, seed)) for seed in range(2)]
    for proposals in captioner.propose(pictures, Wanted(num_beams=3, samples=2), [0, 1]):
        if isinstance(proposals, Exception) or not any(one.text for one in proposals):
            raise BenchmarkError(f"{name} on {device} in {dtype}: no words")
    model = BlipForConditionalGeneration.from_pretrained(name, dtype=dtype).to(device).eval()
    context = encode(model, torch.stack(list(pictures)))
    return [context.keys[0], context.values[-1]]


def llm_outputs(name: str, device: Any, dtype: Any) -> list[Any]:
    """The last states of a batch with padding, without the padding."""
    from surd.llm.batches import padded
    from surd.models.llm import load_llm, shape_of

    layer = shape_of(name).layers
    llm = load_llm(name, [layer], device=device, dtype=dtype)
    tokens = llm.tokenize([*sentences(3), "a cat"], True)
    lengths = [len(text) for text in tokens]
    states = llm.states(padded(tokens, llm.pad_id), lengths, [layer])[layer]
    return [row[:length] for row, length in zip(states, lengths, strict=True)]


def unet_outputs(name: str, device: Any, dtype: Any) -> list[Any]:
    """A pipeline's text embeddings, and what its UNet makes of them and of noise."""
    import torch

    from surd.adapter.encoding import encode
    from surd.models.diffusion import load_pipeline

    pipeline = load_pipeline(name, device=str(device), dtype=dtype)
    unet, found = pipeline.unet, encode(pipeline, sentences(2))
    side = unet.config.sample_size
    noise = torch.randn(2, unet.config.in_channels, side, side, generator=torch.manual_seed(0))
    extra = None
    if found.pooled is not None:
        sizes = torch.tensor([[side, side, 0, 0, side, side]] * 2, device=device, dtype=dtype)
        extra = {"text_embeds": found.pooled, "time_ids": sizes}
    with torch.inference_mode():
        said = unet(noise.to(device, dtype), 500, found.states, added_cond_kwargs=extra).sample
    return [found.states, said]


# what must be fast ------------------------------------------------------------------------------


def build(sizes: Sizes) -> Iterator[Row]:
    """The default build, as the README has it, from a site and a hub on loopback."""
    from real_names.civitai import serving_civitai

    with (
        serving_civitai(sizes.pictures) as site,
        tempfile.TemporaryDirectory(prefix="surd-gpu-") as scratch,
    ):
        folder = Path(scratch) / "w"
        command = [sys.executable, "-m", "surd", "build", "civitai", "-o", str(folder), "-q"]
        limited = ["--set", f"sources.0.limit={sizes.pictures}"]
        began = time.perf_counter()
        done = subprocess.run(
            [*command, *limited], env=os.environ | {"CIVITAI_ENDPOINT": site.url}, check=False,
            capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            raise BenchmarkError(f"surd build civitai: {done.stderr.strip()[-2000:]}")
        yield "default build, start to end", sizes.pictures / (time.perf_counter() - began), "img/s"
        for stage, run in json.loads((folder / "surd.json").read_text())["stages"].items():
            if run.get("seconds"):
                yield f"default build, {stage}", sizes.pictures / run["seconds"], "images/s"


def captions(sizes: Sizes) -> Iterator[Row]:
    """BLIP-base in batches: one caption each, and the best of five."""
    import torch
    from caption import in_bf16, make_model, our_candidates, our_captions

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = in_bf16(make_model(device))
    pixels = torch.randn(sizes.captions, 3, 384, 384, device=device).bfloat16()
    batch = min(64, sizes.captions)
    works: dict[str, Callable[..., Any]] = {"three beams": our_captions}
    works["best of five"] = our_candidates
    for name, work in works.items():
        seconds = timed(partial(work, model, pixels, batch, 20))
        yield f"BLIP-base, {name}", sizes.captions / seconds, "images/s"


def embed(sizes: Sizes) -> Iterator[Row]:
    """Vectors of a language model in the shape of Llama 2 7B, from Parquet to Parquet."""
    import torch
    from embed_llm import make_workspace, ready_batches, run_alone, time_stage
    from transformers import AutoTokenizer, LlamaConfig, LlamaModel

    from surd.models.devices import device_named, dtype_of
    from surd.models.llm import load_llm
    from surd.models.names import demo_model
    from surd.recipe.embed_llm import EmbedLlmParams

    device = device_named("auto")
    dtype = dtype_of("auto", device)
    with tempfile.TemporaryDirectory(prefix="surd-gpu-") as scratch:
        folder = Path(scratch) / "llama"
        tokenizer = AutoTokenizer.from_pretrained(demo_model("clip"))
        tokenizer.save_pretrained(folder)
        with torch.device(device):
            torch.set_default_dtype(dtype)
            model = LlamaModel(LlamaConfig(**sizes.llama, vocab_size=32000))
            torch.set_default_dtype(torch.float32)
        model.save_pretrained(folder)
        weights = sum(p.numel() for name, p in model.named_parameters() if "layers." in name)
        del model
        layer = sizes.llama["num_hidden_layers"]
        llm = load_llm(str(folder), [layer], device=device, dtype=dtype)
        prompts = sentences(sizes.prompts)
        batches = ready_batches(llm, prompts)
        tokens = sum(sum(lengths) for _, lengths in batches)
        params = EmbedLlmParams(model=str(folder), layers=(layer,), device=str(device))
        workspace = make_workspace(Path(scratch) / "w", prompts)
        alone = timed(lambda: run_alone(llm, layer, batches))
        time_stage(workspace, params, llm, str(device))
        stage = time_stage(workspace, params, llm, str(device))
    peak = matmul_flops(device, dtype)
    yield "embed-llm, shape of Llama 2 7B", len(prompts) / stage, "prompts/s"
    yield "embed-llm, of the model alone", alone / stage, "share"
    yield "embed-llm, of a bare matrix product", 2 * weights * tokens / stage / peak, "share"


def train(sizes: Sizes) -> Iterator[Row]:
    """Steps of Stable Diffusion 1.5 at 512 pixels, from cached inputs, the paper's losses."""
    from dataclasses import replace

    import torch
    from _train_setting import make_setting
    from train import time_surd

    with tempfile.TemporaryDirectory(prefix="surd-gpu-") as scratch:
        options = argparse.Namespace(size=sizes.training, diffusion=None)
        setting = make_setting(options, Path(scratch))
        for batch in (1, 4):
            params = setting.params.model_copy(update={"batch_size": batch})
            if setting.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            seconds = time_surd(replace(setting, params=params), 3, sizes.steps, 1.0)
            yield f"training, batch {batch}", sizes.steps / seconds, "steps/s"
            if setting.device.type == "cuda":
                peak = torch.cuda.max_memory_allocated() / 2**30
                yield f"training, batch {batch}, peak memory", peak, "GiB"


# what they share --------------------------------------------------------------------------------


def sentences(count: int) -> list[str]:
    """Different ones, of eight to twelve words."""
    return [
        f"{number} {WORDS[number % 10]} {THINGS[number // 10 % 10]} on a table beside a window"
        for number in range(count)
    ]


def noise(side: int, seed: int) -> Any:
    """A picture."""
    import numpy as np
    from PIL import Image

    pixels = np.random.default_rng(seed).integers(0, 255, (side, side, 3), np.uint8)
    return Image.fromarray(pixels)


def timed(work: Callable[[], object]) -> float:
    """Seconds of a call that has been warmed up by one before."""
    import torch

    def settled() -> float:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter()

    work()
    began = settled()
    work()
    return settled() - began


def matmul_flops(device: Any, dtype: Any) -> float:
    """What a bare product of large matrices reaches here, a second."""
    import torch

    side = 8192 if device.type == "cuda" else 1024
    left, right_ = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    repeats = 10

    def multiply() -> None:
        for _ in range(repeats):
            torch.mm(left, right_)

    return repeats * 2 * side**3 / timed(multiply)


PARTS: dict[str, Callable[[Sizes], Iterator[Row]]] = {
    "right": right,
    "build": build,
    "captions": captions,
    "embed": embed,
    "train": train,
}


@contextmanager
def hub(folder: Path) -> Iterator[dict[str, str]]:
    """The stand-in hub, and what a process needs in its environment to find it."""
    from real_names.hub import serving_models, surroundings
    from real_names.zoo import Zoo

    with serving_models(Zoo(folder / "zoo")) as served:
        yield surroundings(served, folder / "home")


def run_part(name: str, options: argparse.Namespace) -> list[Row]:
    """In this process; each row is printed as soon as it is there."""
    rows = []
    for row in PARTS[name](SMALL if options.pretend else FULL):
        print(json.dumps(row), flush=True)
        rows.append(row)
    return rows


def run_all(options: argparse.Namespace) -> int:
    """Each part in a process of its own, within the time that is left."""
    import torch

    if not torch.cuda.is_available() and not options.pretend:
        say("gpu.py: this torch sees no GPU; --pretend runs every part on the processor")
        return 2
    began, wrong = time.monotonic(), None
    found: list[Row] = []
    pretending = ["--pretend"] if options.pretend else []
    with tempfile.TemporaryDirectory(prefix="surd-gpu-") as scratch, hub(Path(scratch)) as where:
        environment = os.environ | where
        if options.pretend:
            environment["SURD_PRETEND_GPU_DTYPE"] = "bf16"
        for name in PARTS:
            left = LIMIT_S - (time.monotonic() - began)
            command = [sys.executable, __file__, "--part", name, *pretending]
            code, rows = watched(command, environment, left if not options.pretend else 3600)
            found += rows
            for row in rows:
                say(f"{row[0]}: {row[1]:.4g} {row[2]}")
            if code:
                wrong = f"{name} ended with {code}, see above"
                break
    report(found, wrong, options)
    return 1 if wrong else 0


def watched(
    command: Sequence[str], environment: Mapping[str, str], limit_s: float
) -> tuple[int, list[Row]]:
    """How a part ended, and what it measured; its messages go to standard error."""
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as child:
        try:
            out, _ = child.communicate(timeout=max(1.0, limit_s))
        except subprocess.TimeoutExpired:
            child.kill()
            out, _ = child.communicate()
            say(f"stopped after {limit_s:.0f} s: {' '.join(command[1:])}")
    rows = [json.loads(line) for line in out.splitlines() if line.startswith("[")]
    return child.returncode, [(str(name), float(number), str(unit)) for name, number, unit in rows]


def report(rows: Sequence[Row], wrong: str | None, options: argparse.Namespace) -> None:
    """The table, and the file where a card was measured."""
    import torch

    cells = [[name, f"{number:.4g}", unit] for name, number, unit in rows]
    print(format_table(["measured", "", ""], cells))
    if wrong:
        print(f"WRONG: {wrong}")
    if not options.pretend:
        facts = hardware(["surd", "torch", "transformers", "diffusers", "open_clip_torch"])
        card = {"gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda}
        write_results("gpu", {"hardware": facts | card, "rows": rows, "wrong": wrong})


def main() -> int:
    """Run one part, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--pretend", action="store_true", help="on a processor, in small")
    parser.add_argument("--part", choices=PARTS, help="this part alone, in this process")
    options = parser.parse_args()
    if options.part is None:
        return run_all(options)
    try:
        run_part(options.part, options)
    except BenchmarkError as error:
        say(f"{options.part}: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
