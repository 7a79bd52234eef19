"""Training steps a second of surd, with cached inputs, against the published trainer's step.

    python benchmarks/train.py [--batch 1 4] [--diffusion FOLDER]
    python benchmarks/train.py --size sd15       # on a GPU, bf16, with its peak memory

The paper's method encodes picture and prompts anew in every step and sends the gradient of the
denoising loss through the UNet; the published script sends none through it. Both are written here
from that description, around the same networks, on tensors that are ready: no peer decodes a
picture or cuts a prompt into tokens. surd is its own training loop, log and all. The limit is the
UNet alone, forward and backward to its text embeddings. Weights are random; nothing is fetched.

The small model is Stable Diffusion 1.5 in proportion: what autoencoder, text encoder and UNet cost
relates as there, which the second table shows. Its text side is narrower than its pictures are
small, since there are 77 tokens whatever the picture's size.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from _common import (
    BenchmarkError,
    format_table,
    hardware,
    hardware_line,
    say,
    wait_idle,
    write_results,
)
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DDPMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from PIL import Image
from safetensors.torch import save_file
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from surd.adapter.cache import Cached, Sample, encode_samples, open_cache, picture
from surd.adapter.data import Data
from surd.adapter.losses import losses, weighed
from surd.adapter.params import TrainAdapterParams
from surd.adapter.training import Student, config_of, train
from surd.embeddings import Embeddings
from surd.errors import SurdError
from surd.models.devices import device_named, dtype_of
from surd.models.diffusion import load_pipeline
from surd.models.names import demo_model
from surd.models.quiet import hush

PAPER = "the paper's method"
SCRIPT = "the published script"
SURD = "surd"
SURD_SCRIPT = "surd, denoising_weight 0"
LIMIT = "the UNet alone"
FORWARD = "UNet, forward only"
VAE, TEXT = "autoencoder", "text encoder, both prompts"
LEAST_RATIO, LEAST_SHARE = 1.5, 0.9
TOKENS = 77
SAMPLES, PART = 16, 4
"""Rows of the dataset, and of each file of the cache."""
KL_WEIGHT, GRADIENT_NORM, RATE = 1e-5, 1.0, 1e-5
MOST_OFF = {torch.float32: 0.01, torch.bfloat16: 0.2}
"""How far the gradients of two ways to compute the same may be apart."""


@dataclass(frozen=True)
class Size:
    """A Stable Diffusion 1.x, and what the adapter is made of."""

    side: int
    """Of the pictures, in pixels."""
    vae: tuple[int, ...]
    """Channels of each level, as of the UNet."""
    unet: tuple[int, ...]
    unet_layers: int
    width: int
    """Of the text embeddings."""
    text_layers: int
    feed_forward: int
    llm_width: int


SIZES = {
    "small": Size(256, (32, 64, 128, 128), (96, 224, 448), 1, 96, 6, 256, 640),
    "sd15": Size(512, (128, 256, 512, 512), (320, 640, 1280, 1280), 2, 768, 12, 2048, 5120),
}


# models and data --------------------------------------------------------------------------------


def make_models(size: Size) -> dict[str, Any]:
    """The three networks, as diffusers and transformers set them up without weights to load."""
    levels, inner = len(size.vae), len(size.unet) - 1
    torch.manual_seed(0)
    models = {
        "vae": AutoencoderKL(
            sample_size=size.side,
            latent_channels=4,
            layers_per_block=2,
            block_out_channels=size.vae,
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
        ),
        "unet": UNet2DConditionModel(
            sample_size=size.side // 2 ** (levels - 1),
            layers_per_block=size.unet_layers,
            block_out_channels=size.unet,
            down_block_types=("CrossAttnDownBlock2D",) * inner + ("DownBlock2D",),
            up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * inner,
            cross_attention_dim=size.width,
            attention_head_dim=8,
        ),
        "text_encoder": CLIPTextModel(
            CLIPTextConfig(
                hidden_size=size.width,
                intermediate_size=4 * size.width,
                num_hidden_layers=size.text_layers,
                num_attention_heads=12,
                max_position_embeddings=TOKENS,
            )
        ),
    }
    return {name: model.requires_grad_(False).eval() for name, model in models.items()}


def make_pipeline(size: Size) -> Any:
    """A text-to-image pipeline of them; its tokenizer is the demo's."""
    return StableDiffusionPipeline(
        **make_models(size),
        tokenizer=CLIPTokenizer.from_pretrained(demo_model("clip"), model_max_length=TOKENS),
        scheduler=DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            clip_sample=False,
            steps_offset=1,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def make_samples(side: int) -> list[Sample]:
    """Noise with two prompts each."""
    rng = np.random.default_rng(0)
    samples = []
    for number in range(SAMPLES):
        buffer = BytesIO()
        Image.fromarray(rng.integers(0, 255, (side, side, 3), dtype=np.uint8)).save(buffer, "PNG")
        simple = f"{number} red cups on a table"
        complex_ = f"masterpiece, {number} red cups, table, soft light, highly detailed, sharp"
        samples.append(Sample(f"{number:032x}", buffer.getvalue(), simple, complex_))
    return samples


def make_cache(pipeline: Any, samples: Sequence[Sample], side: int, folder: Path) -> Cached:
    """What surd's training reads, in files as surd caches them."""
    for first in range(0, len(samples), PART):
        some = samples[first : first + PART]
        tensors = encode_samples(pipeline, some, resolution=side, flip=True)
        half = {name: value.half().contiguous().cpu() for name, value in tensors.items()}
        ids = json.dumps([sample.id for sample in some])
        save_file(half, folder / f"part-{first:05d}.safetensors", {"ids": ids})
    return open_cache(folder)


@dataclass(frozen=True)
class Setting:
    """All that is trained with, one batch size apart."""

    pipeline: Any
    device: torch.device
    dtype: torch.dtype
    """Of the frozen networks."""
    cached: Cached
    vectors: Embeddings
    pixels: torch.Tensor
    """``[n, 3, side, side]``; in the order of the cached ids, as the next three."""
    simple: torch.Tensor
    """Token ids ``[n, 77]``."""
    complex: torch.Tensor
    llm: torch.Tensor
    """``[n, 1, h]``."""
    params: TrainAdapterParams

    def rows(self, step: int) -> torch.Tensor:
        """Rows of the batch of a step."""
        size = self.params.batch_size
        return torch.arange(step * size, (step + 1) * size) % len(self.pixels)

    def student(self) -> Student:
        """A new adapter, the same each time."""
        torch.manual_seed(0)
        width = self.pipeline.unet.config.cross_attention_dim
        config = config_of(self.params, width)
        return Student(config, self.vectors.width, self.params.projection).to(self.device)

    def autocast(self) -> torch.autocast:
        """For what is kept in float32 and computed as the frozen networks are."""
        half = self.dtype != torch.float32
        return torch.autocast(self.device.type, self.dtype if half else None, enabled=half)


def make_setting(options: argparse.Namespace, folder: Path) -> Setting:
    """Models, a cached dataset, and the same dataset uncached. Raises SurdError."""
    device = device_named("auto")
    dtype = dtype_of("auto", device)
    size = SIZES[options.size]
    if options.diffusion is None:
        pipeline = make_pipeline(size).to(device)
    else:
        pipeline = load_pipeline(str(options.diffusion), device=str(device))
        if not isinstance(pipeline, StableDiffusionPipeline):
            raise BenchmarkError(f"{options.diffusion}: is no Stable Diffusion 1 or 2")
    pipeline.set_progress_bar_config(disable=True)
    for part in (pipeline.vae, pipeline.unet, pipeline.text_encoder):
        part.requires_grad_(False).eval()
    side = pipeline.unet.config.sample_size * pipeline.vae_scale_factor
    samples = make_samples(side)
    cached = make_cache(pipeline, samples, side, folder)
    for part in (pipeline.vae, pipeline.unet, pipeline.text_encoder):
        part.to(dtype=dtype)
    values = np.random.default_rng(1).standard_normal((SAMPLES, size.llm_width), np.float32)
    vectors = values.astype(np.float16)
    tokens = [
        pipeline.tokenizer(
            prompts, padding="max_length", truncation=True, return_tensors="pt"
        ).input_ids
        for prompts in ([s.simple for s in samples], [s.complex for s in samples])
    ]
    return Setting(
        pipeline=pipeline,
        device=device,
        dtype=dtype,
        cached=cached,
        vectors=Embeddings(vectors, cached.ids, None),
        pixels=torch.stack([picture(sample.image, side) for sample in samples]),
        simple=tokens[0],
        complex=tokens[1],
        llm=torch.from_numpy(vectors.astype(np.float32))[:, None],
        params=TrainAdapterParams(
            feed_forward=size.feed_forward,
            accumulate=1,
            learning_rate=RATE,
            denoising_weight=1.0,
            llm_weight=KL_WEIGHT,
            prompt_weight=KL_WEIGHT,
            max_grad_norm=GRADIENT_NORM,
            precision="no" if dtype == torch.float32 else "bf16",
            report_to="none",  # log.jsonl is written all the same
        ),
    )


# the peer ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lesson:
    """What a step of the method learns from, on the device."""

    latents: torch.Tensor
    """``[b, c, h, w]``."""
    simple: torch.Tensor
    """``[b, s, d]``, as of the complex prompts."""
    complex: torch.Tensor
    llm: torch.Tensor
    """``[b, 1, h]``."""
    noise: torch.Tensor
    times: torch.Tensor
    """``[b]``."""


def method_loss(
    student: Student, unet: Any, schedule: Any, lesson: Lesson, *, cut: bool
) -> torch.Tensor:
    """Section 4.3 of the paper. With `cut` no gradient passes what the UNet is given."""
    embeddings, features, aim = student(lesson.simple.float(), lesson.llm)
    noisy = schedule.add_noise(lesson.latents, lesson.noise, lesson.times)
    kind = next(unet.parameters()).dtype
    given = embeddings.detach() if cut else embeddings
    predicted = unet(noisy.to(kind), lesson.times, given.to(kind)).sample
    aimed = lesson.noise
    if schedule.config.prediction_type == "v_prediction":
        aimed = schedule.get_velocity(lesson.latents, lesson.noise, lesson.times)
    denoising = functional.mse_loss(predicted.float(), aimed.float())
    alike = divergence(features, aim) + divergence(embeddings, lesson.complex)
    return denoising + KL_WEIGHT * alike


def divergence(found: torch.Tensor, aim: torch.Tensor) -> torch.Tensor:
    """KL between what is found and what is aimed at, each token a distribution."""
    logs = functional.log_softmax(found.float(), -1)
    aims = functional.log_softmax(aim.float(), -1).expand_as(logs)
    return functional.kl_div(aims, logs, reduction="batchmean", log_target=True)


def method_steps(setting: Setting, *, cut: bool) -> Iterator[float]:
    """Steps without end, each from pixels and token ids; the loss of each."""
    pipeline, device = setting.pipeline, setting.device
    student = setting.student().train()
    learning = [parameter for parameter in student.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=RATE, weight_decay=setting.params.weight_decay)
    schedule = DDPMScheduler.from_config(pipeline.scheduler.config)
    step = 0
    while True:
        rows = setting.rows(step)
        latents = encode_pixels(setting, rows)
        most = schedule.config.num_train_timesteps
        lesson = Lesson(
            latents,
            *encode_prompts(setting, rows),
            setting.llm[rows].to(device),
            torch.randn_like(latents),
            torch.randint(most, (len(rows),), device=device),
        )
        with setting.autocast():
            loss = method_loss(student, pipeline.unet, schedule, lesson, cut=cut)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learning, GRADIENT_NORM)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        yield loss.item()


@torch.no_grad()
def encode_pixels(setting: Setting, rows: torch.Tensor) -> torch.Tensor:
    """Latents, drawn and scaled."""
    vae = setting.pipeline.vae
    pixels = setting.pixels[rows].to(setting.device, setting.dtype)
    drawn = vae.encode(pixels).latent_dist.sample()
    return drawn.float() * vae.config.scaling_factor


@torch.no_grad()
def encode_prompts(setting: Setting, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """States of the simple prompts, and of the complex ones."""
    encoder = setting.pipeline.text_encoder
    simple = encoder(setting.simple[rows].to(setting.device))[0]
    return simple, encoder(setting.complex[rows].to(setting.device))[0]


# surd, and parts of the work --------------------------------------------------------------------


def time_surd(setting: Setting, warm: int, steps: int, denoising_weight: float) -> float:
    """Seconds of some steps of surd's training loop, after some that warm up."""
    asked = {"steps": warm + steps, "denoising_weight": denoising_weight}
    params = setting.params.model_copy(update=asked)
    data = Data(setting.cached, setting.vectors, setting.pipeline, params)
    ends: list[float] = []

    def on_step(step: int, terms: Mapping[str, float]) -> None:
        settle(setting.device)
        ends.append(time.perf_counter())

    unused = (setting.pipeline.vae, setting.pipeline.text_encoder)
    for part in unused:  # as `surd train-adapter` does
        part.to("cpu")
    with tempfile.TemporaryDirectory(prefix="surd-train-") as folder:
        train(data, setting.pipeline, setting.vectors.width, params, Path(folder), on_step=on_step)
    for part in unused:
        part.to(setting.device)
    return ends[-1] - ends[warm - 1]


def unet_steps(setting: Setting, *, backward: bool) -> Callable[[int], None]:
    """The UNet on tensors that are ready, the same in every step."""
    unet, rows = setting.pipeline.unet, setting.rows(0).tolist()
    tensors = setting.cached.take(rows, [0] * len(rows))
    noisy = tensors["latents"].chunk(2, dim=1)[0].to(setting.device, setting.dtype)
    embeddings = tensors["simple"].to(setting.device, setting.dtype).requires_grad_(backward)
    times = torch.arange(len(rows), device=setting.device)

    def step(number: int) -> None:
        with torch.set_grad_enabled(backward):
            predicted = unet(noisy, times, embeddings).sample
            loss = functional.mse_loss(predicted.float(), noisy.float())
        if backward:
            torch.autograd.grad(loss, embeddings)

    return step


def time_calls(setting: Setting, warm: int, steps: int, call: Callable[[int], object]) -> float:
    """Seconds of some calls, after some that warm up; each is told its number."""
    started = 0.0
    for number in range(warm + steps):
        if number == warm:
            settle(setting.device)
            started = time.perf_counter()
        call(number)
    settle(setting.device)
    return time.perf_counter() - started


def seconds_of_others() -> float:
    """Processor time that everything else on this machine has taken so far."""
    times = psutil.cpu_times()
    busy = sum(getattr(times, kind, 0.0) for kind in ("user", "nice", "system"))
    return busy - time.process_time()


def settle(device: torch.device) -> None:
    """Wait until the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def contenders(setting: Setting) -> dict[str, Callable[[int, int], float]]:
    """By name: seconds of (steps to warm up, steps)."""

    def method(cut: bool) -> Callable[[int, int], float]:
        def run(warm: int, steps: int) -> float:
            endless = method_steps(setting, cut=cut)
            return time_calls(setting, warm, steps, lambda number: next(endless))

        return run

    def calls(call: Callable[[int], object]) -> Callable[[int, int], float]:
        return lambda warm, steps: time_calls(setting, warm, steps, call)

    return {
        PAPER: method(cut=False),
        SURD: lambda warm, steps: time_surd(setting, warm, steps, 1.0),
        LIMIT: calls(unet_steps(setting, backward=True)),
        SCRIPT: method(cut=True),
        SURD_SCRIPT: lambda warm, steps: time_surd(setting, warm, steps, 0.0),
        FORWARD: calls(unet_steps(setting, backward=False)),
        VAE: calls(lambda number: encode_pixels(setting, setting.rows(number))),
        TEXT: calls(lambda number: encode_prompts(setting, setting.rows(number))),
    }


# the comparison ---------------------------------------------------------------------------------


def check(setting: Setting) -> float:
    """How far surd's gradient is from the peer's, of the same latents, noise and times; relative.

    The peer's text embeddings are its own, surd's come from the cache. Raises BenchmarkError where
    their precision does not account for it.
    """
    params, unet = setting.params, setting.pipeline.unet
    data = Data(setting.cached, setting.vectors, setting.pipeline, params)
    batch = data.batch(0, 1, 0, setting.device)
    schedule = DDPMScheduler.from_config(setting.pipeline.scheduler.config)
    noise, times = data.noise(0, 0, batch, schedule.config.num_train_timesteps)
    vectors = batch.llm.cpu()
    rows = torch.cat([(setting.llm == one).all(2).nonzero()[:, 0] for one in vectors])
    lesson = Lesson(batch.latents, *encode_prompts(setting, rows), batch.llm, noise, times)
    student = setting.student().eval()
    torch.nn.init.normal_(student.adapter.out.weight, std=0.02)
    learning = [parameter for parameter in student.parameters() if parameter.requires_grad]
    gradients = []
    for ours in (True, False):
        with setting.autocast():
            if ours:
                loss = weighed(losses(student, unet, schedule, batch, noise, times, params), params)
            else:
                loss = method_loss(student, unet, schedule, lesson, cut=False)
        found = torch.autograd.grad(loss, learning)
        gradients.append(torch.cat([gradient.flatten() for gradient in found]))
    off = float((gradients[0] - gradients[1]).norm() / gradients[1].norm())
    if off > MOST_OFF[setting.dtype]:
        raise BenchmarkError(f"surd's gradient is not the method's: it is off by {off:.1%}")
    return off


def compare(
    setting: Setting, options: argparse.Namespace
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Seconds a step of every contender, by turns, and the peak GPU memory of each, in GB."""
    who = contenders(setting)
    seconds: dict[str, list[float]] = {name: [] for name in who}
    peaks: dict[str, float] = {}
    for number in range(1, options.rounds + 1):
        for name, run in who.items():
            wait_idle(options.wait_idle)
            if setting.device.type == "cuda":
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats(setting.device)
            seconds[name].append(run(options.warm, options.steps) / options.steps)
            if setting.device.type == "cuda":
                peaks[name] = torch.cuda.max_memory_allocated(setting.device) / 1e9
        told = ", ".join(f"{name} {times[-1]:.3f} s" for name, times in seconds.items())
        say(f"batch {setting.params.batch_size}, round {number}: {told}")
    return seconds, peaks


def flops(
    models: Mapping[str, Any], side: int, tokens: int, batch: int, device: str | torch.device
) -> dict[str, float]:
    """GFLOPs of a step's parts. The device may be ``meta``, which computes nothing."""
    vae, unet, encoder = models["vae"], models["unet"], models["text_encoder"]
    kind = unet.dtype
    latents = (batch, unet.config.in_channels, unet.config.sample_size, unet.config.sample_size)
    with torch.device(device):
        pixels = torch.zeros(batch, 3, side, side, dtype=kind)
        ids = torch.zeros(batch, tokens, dtype=torch.long)
        width = unet.config.cross_attention_dim
        embeddings = torch.zeros(batch, tokens, width, dtype=kind, requires_grad=True)
        noisy, times = torch.zeros(latents, dtype=kind), torch.zeros(batch, dtype=torch.long)
        work: dict[str, Callable[[], object]] = {
            VAE: lambda: vae.encode(pixels),
            TEXT: lambda: (encoder(ids), encoder(ids)),
            LIMIT: lambda: unet(noisy, times, embeddings).sample.sum().backward(),
        }
        counted = {}
        for name, call in work.items():
            with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(name == LIMIT):
                call()
            counted[name] = counter.get_total_flops() / 1e9
    return counted


# the report -------------------------------------------------------------------------------------


def report(
    batch: int, seconds: Mapping[str, list[float]], peaks: Mapping[str, float]
) -> tuple[str, dict[str, Any]]:
    """A table, and the same numbers as data. Ratios are medians of the rounds' own ratios."""

    def ratio(name: str, to: str) -> float:
        pairs = zip(seconds[name], seconds[to], strict=True)
        return statistics.median(theirs / ours for ours, theirs in pairs)

    data: dict[str, Any] = {
        name: {
            "step_s": [round(one, 5) for one in times],
            "steps_per_s": round(1 / statistics.median(times), 3),
            "times_the_paper": round(ratio(name, PAPER), 3),
            "times_the_script": round(ratio(name, SCRIPT), 3),
            "share_of_unet": round(ratio(name, LIMIT), 3),
        }
        | ({"peak_gb": round(peaks[name], 2)} if peaks else {})
        for name, times in seconds.items()
    }
    steps = (PAPER, SURD, LIMIT, SCRIPT, SURD_SCRIPT, FORWARD)
    header = [f"batch {batch}", "steps/s", "x the paper", "x the script", "of the UNet alone"]
    rows = [
        [
            name,
            f"{data[name]['steps_per_s']:.2f}",
            f"{data[name]['times_the_paper']:.2f}",
            f"{data[name]['times_the_script']:.2f}",
            f"{data[name]['share_of_unet']:.0%}" if name in (PAPER, SURD, LIMIT) else "",
        ]
        + ([f"{peaks[name]:.2f}"] if peaks else [])
        for name in steps
    ]
    text = format_table([*header, "peak GB"] if peaks else header, rows)
    aims = (
        f"surd: {ratio(SURD, PAPER):.2f} times the paper's method (asked: {LEAST_RATIO}), "
        f"{ratio(SURD, LIMIT):.1%} of the UNet alone (asked: {LEAST_SHARE:.0%})"
    )
    return f"{text}\n{aims}", data


def proportions(
    seconds: Mapping[str, list[float]], here: Mapping[str, float], sd15: Mapping[str, float]
) -> tuple[str, dict[str, Any]]:
    """What the parts of the paper's step cost: in time, in FLOPs, and in Stable Diffusion 1.5."""
    columns = {
        "time": {name: statistics.median(seconds[name]) for name in here},
        "flops": here,
        "sd15_flops": sd15,
    }
    shares = {
        column: {name: round(cost[name] / sum(cost.values()), 4) for name in here}
        for column, cost in columns.items()
    }
    most = {column: round(1 / share[LIMIT], 2) for column, share in shares.items()}
    rows = [[name, *(f"{share[name]:.1%}" for share in shares.values())] for name in here]
    rows.append(["all three : the last", *(f"{value:.2f}" for value in most.values())])
    header = ["shares of the paper's step", "time", "FLOPs", "FLOPs of SD 1.5"]
    data = {"shares": shares, "all_to_unet": most, "gflops": here}
    return format_table(header, rows), data


def run(options: argparse.Namespace) -> dict[str, Any]:
    """All that was asked for; prints the tables and returns what goes into the results file."""
    if options.threads:
        torch.set_num_threads(options.threads)
    facts = hardware(["surd", "torch", "diffusers", "transformers", "accelerate"])
    with torch.device("meta"):
        sd15 = flops(make_models(SIZES["sd15"]), SIZES["sd15"].side, TOKENS, 1, "meta")
    cases: dict[str, Any] = {}
    tables = []
    with tempfile.TemporaryDirectory(prefix="surd-train-") as folder:
        setting = make_setting(options, Path(folder))
        on_gpu = setting.device.type == "cuda"
        name = torch.cuda.get_device_name(setting.device) if on_gpu else "cpu"
        for batch in options.batch:
            params = setting.params.model_copy(update={"batch_size": batch})
            here = replace(setting, params=params)
            off = check(here)
            say(f"batch {batch}: surd's gradient is the method's but for {off:.2%}")
            began, others = time.perf_counter(), seconds_of_others()
            seconds, peaks = compare(here, options)
            load = (seconds_of_others() - others) / (time.perf_counter() - began)
            text, cases[str(batch)] = report(batch, seconds, peaks)
            side, tokens = here.pixels.shape[-1], here.simple.shape[1]
            counted = flops(here.pipeline.components, side, tokens, batch, here.device)
            shares, data = proportions(seconds, counted, sd15)
            cases[str(batch)] = {
                "contenders": cases[str(batch)],
                "gradient_off": off,
                "cores_of_others": round(load, 2),
            } | data
            tables.append(f"{text}\nother processes took {load:.1f} cores meanwhile\n\n{shares}")
    settings = {
        "model": str(options.diffusion or options.size),
        "precision": str(setting.dtype).removeprefix("torch."),
        "side_px": setting.pixels.shape[-1],
        "rounds": options.rounds,
        "steps": options.steps,
        "device": name,
        "threads": torch.get_num_threads(),
    }
    told = ", ".join(f"{key} {value}" for key, value in settings.items())
    print("\n\n".join([f"{hardware_line(facts)}\n{told}", *tables]))
    return {"hardware": facts, **settings, "batches": cases}


def main() -> None:
    """Parse the command line, measure, write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--size", choices=list(SIZES), default="small", help="of the models")
    parser.add_argument("--diffusion", type=Path, help="a pipeline's folder; nothing is written")
    parser.add_argument("--batch", type=int, nargs="+", help="1 and 4; 1 of sd15")
    parser.add_argument("--rounds", type=int, default=5, help="times everything is measured")
    parser.add_argument("--steps", type=int, help="timed, in each round; 3, on a GPU 20")
    parser.add_argument("--warm", type=int, help="steps before those; 1, on a GPU 5")
    parser.add_argument("--threads", type=int, help="of torch; as it chooses if not given")
    parser.add_argument(
        "--wait-idle",
        type=float,
        default=0,
        metavar="SECONDS",
        help="wait so long at most, before each measurement, until nothing else runs here",
    )
    options = parser.parse_args()
    gpu = torch.cuda.is_available()
    options.batch = options.batch or ([1] if options.size == "sd15" else [1, 4])
    options.steps = options.steps if options.steps is not None else 20 if gpu else 3
    options.warm = options.warm if options.warm is not None else 5 if gpu else 1
    if options.size == "sd15" and not gpu:
        print("benchmark: --size sd15 needs a GPU, and this torch sees none", file=sys.stderr)
        sys.exit(2)
    if min(options.warm, options.steps, options.rounds, *options.batch) < 1:
        parser.error("--warm, --steps, --rounds and --batch count from 1")
    hush()
    try:
        results = run(options)
    except (BenchmarkError, SurdError) as error:
        sys.exit(f"benchmark: {error}")
    if options.diffusion is None:
        where = "" if results["device"] == "cpu" else "-cuda"
        small = "" if options.size == "small" else f"-{options.size}"
        print(f"\nwritten: {write_results(f'train{small}{where}', results)}")


if __name__ == "__main__":
    main()
