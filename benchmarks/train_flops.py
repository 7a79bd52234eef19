"""What training by attention costs, counted: before each thing was computed once, and since.

    python benchmarks/train_flops.py [--pictures 10000] [--captions 4] [--steps 2000] [--batch 48]
    python benchmarks/train_flops.py --memory      # and the peak of two real steps, on the CPU

FLOPs are counted by torch's FlopCounterMode on meta tensors, which compute nothing, with networks
of the published shapes of Stable Diffusion 1.5 and SDXL: a multiplication and an addition are two.
The adapter is a pre-norm encoder of 2 layers; the loss is the attention's alone.

*Before* is how surd worked until version 0.1.0: the latents of every picture and its mirror image
were cached although only the probes' preparation used them, that preparation ran the UNet on 64
batches of the training's size, and captions were encoded again in every step.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from typing import Any

import torch
from _common import format_table, hardware, write_results
from _train_setting import SIZES, TOKENS, make_models
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from surd.recipe.train_adapter import TrainAdapterParams
from surd.training import queries
from surd.training.attention import Asked, Probe, layers_of
from surd.training.loop import Student
from surd.training.losses import Batch, losses, weighed
from surd.training.setup import config_of

BEFORE_RUNS = 64
"""Batches of the training's size that the UNet was run on."""
VIEWS = 2
"""Of a picture: itself and its mirror image."""
PFLOP = 1e15


def make_sdxl() -> dict[str, Any]:
    """The networks of stabilityai/stable-diffusion-xl-base-1.0, as its configuration says."""
    levels = 4
    return {
        "vae": AutoencoderKL(
            sample_size=1024,
            latent_channels=4,
            layers_per_block=2,
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
        ),
        "unet": UNet2DConditionModel(
            sample_size=128,
            layers_per_block=2,
            block_out_channels=(320, 640, 1280),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2, 10),
            cross_attention_dim=2048,
            attention_head_dim=(5, 10, 20),
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816,
        ),
        "text_encoder": CLIPTextModel(_clip(768, 12, 12)),
        "text_encoder_2": CLIPTextModelWithProjection(_clip(1280, 32, 20)),
    }


def _clip(width: int, layers: int, heads: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        projection_dim=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=TOKENS,
    )


MODELS: dict[str, Callable[[], dict[str, Any]]] = {
    "Stable Diffusion 1.5": lambda: make_models(SIZES["sd15"]),
    "SDXL": make_sdxl,
}


def flops(work: Callable[[], object]) -> float:
    """Of a call."""
    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())


@torch.no_grad()
def encoding(models: dict[str, Any]) -> tuple[float, float, float]:
    """FLOPs of a picture, of a text, and of the UNet on one picture."""
    unet = models["unet"]
    side = unet.config.sample_size
    pixels = torch.zeros(1, 3, 8 * side, 8 * side, device="meta")
    ids = torch.zeros(1, TOKENS, dtype=torch.long, device="meta")
    latents = torch.zeros(1, 4, side, side, device="meta")
    states = torch.zeros(1, TOKENS, unet.config.cross_attention_dim, device="meta")
    extra = None
    encoders = [model for name, model in models.items() if name.startswith("text_encoder")]
    if len(encoders) > 1:
        pooled = torch.zeros(1, 1280, device="meta")
        extra = {"text_embeds": pooled, "time_ids": torch.zeros(1, 6, device="meta")}
    times = torch.zeros(1, dtype=torch.long, device="meta")
    return (
        flops(lambda: models["vae"].encode(pixels)),
        sum(flops(lambda one=one: one(ids)) for one in encoders),  # type: ignore[misc]
        flops(lambda: unet(latents, times, states, added_cond_kwargs=extra)),
    )


def params_of(steps: int, batch: int) -> TrainAdapterParams:
    """Attention alone, as the demo's recipe trains."""
    return TrainAdapterParams(
        network="encoder",
        blend="residual",
        adapter_weight=1.0,
        denoising_weight=0,
        llm_weight=0,
        prompt_weight=0,
        attention_weight=1,
        attention_distance="root",
        steps=steps,
        batch_size=batch,
    )


def probes_on(unet: Any, device: str) -> list[Probe]:
    """The UNet's layers, with queries that say nothing."""
    count = queries._PICTURES * queries._POSITIONS
    probes = []
    for layer in layers_of(unet).values():
        moved = layer if device == "meta" else _filled(layer.to_empty(device=device))
        asked = torch.zeros(count, layer.to_q.in_features, device=device)
        probes.append(Probe(moved.requires_grad_(False), Asked(asked, 1.0)))
    return probes


def _filled(layer: nn.Module) -> nn.Module:
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.02)
    return layer


def step_on(
    unet: Any, params: TrainAdapterParams, device: str
) -> tuple[Callable[[], None], nn.Module]:
    """A step's forward and backward, and the adapter."""
    width = unet.config.cross_attention_dim
    with torch.device(device):
        student = Student(config_of(params, width), None, params.projection)
        states = torch.zeros(params.batch_size, TOKENS, width)
    probes = probes_on(unet, device)
    batch = Batch(latents=None, simple=states, complex=states, llm=None, pooled=None)

    def step() -> None:
        weighed(losses(student, batch, params, probes=probes), params).backward()

    return step, student


def table(name: str, options: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Rows of PFLOP before and after, as a table and as data."""
    with torch.device("meta"):
        models = MODELS[name]()
    picture, text, unet = encoding(models)
    params = params_of(options.steps, options.batch)
    step = flops(step_on(models["unet"], params, "meta")[0])
    pictures, captions = options.pictures, options.captions
    noted = queries._PICTURES
    rows = {
        "latents": (pictures * VIEWS * picture, 0.0),
        "probes": (BEFORE_RUNS * options.batch * unet, noted * (picture + unet)),
        "texts": (
            (2 * pictures + options.steps * options.batch) * text,
            pictures * (captions + 1) * text,
        ),
        "steps": (options.steps * step, options.steps * step),
    }
    rows["total"] = (
        sum(before for before, _ in rows.values()),
        sum(after for _, after in rows.values()),
    )
    shown = [[key, f"{one / PFLOP:.2f}", f"{two / PFLOP:.2f}"] for key, (one, two) in rows.items()]
    data = {key: {"before": one / PFLOP, "after": two / PFLOP} for key, (one, two) in rows.items()}
    return format_table([f"{name}, PFLOP", "before", "after"], shown), data


def memory(options: argparse.Namespace) -> dict[str, float]:
    """Peak memory of two steps of Stable Diffusion 1.5 in float32, optimizer included, in GB."""
    with torch.device("meta"):
        unet = MODELS["Stable Diffusion 1.5"]()["unet"]
    start = peak_gb()
    step, student = step_on(unet, params_of(2, options.batch), "cpu")
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-4)
    began = time.perf_counter()
    for _ in range(2):
        step()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    seconds = (time.perf_counter() - began) / 2
    return {"libraries": start, "peak": peak_gb(), "step_s": seconds}


def peak_gb() -> float:
    """Resident memory of this process, at most so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def main() -> None:
    """Parse the command line, count, write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--captions", type=int, default=4, help="distinct ones of each picture")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--memory", action="store_true", help="take two steps on the CPU too")
    options = parser.parse_args()
    results: dict[str, Any] = {"settings": vars(options) | {}, "pflop": {}}
    if options.memory:
        results["memory"] = measured = memory(options)
        print(
            f"two steps of {options.batch} on the CPU, float32: peak {measured['peak']:.2f} GB, "
            f"of which {measured['libraries']:.2f} GB were there before (Python and libraries); "
            f"{measured['step_s']:.0f} s a step"
        )
    for name in MODELS:
        text, results["pflop"][name] = table(name, options)
        print(f"\n{text}")
    results["hardware"] = hardware(["surd", "torch", "diffusers", "transformers"])
    print(f"\nwritten: {write_results('train_flops', results)}")


if __name__ == "__main__":
    main()
