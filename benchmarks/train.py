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
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

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
from _train_published import Lesson, encode_pixels, encode_prompts, method_loss, method_steps
from _train_setting import SIZES, TOKENS, Setting, make_models, make_setting
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from surd.errors import SurdError
from surd.models.quiet import hush
from surd.training.loop import Taught, train
from surd.training.losses import losses, weighed

PAPER = "the paper's method"
SCRIPT = "the published script"
SURD = "surd"
SURD_SCRIPT = "surd, denoising_weight 0"
LIMIT = "the UNet alone"
FORWARD = "UNet, forward only"
VAE, TEXT = "autoencoder", "text encoder, both prompts"
LEAST_RATIO, LEAST_SHARE = 1.5, 0.9
MOST_OFF = {torch.float32: 0.01, torch.bfloat16: 0.2}
"""How far the gradients of two ways to compute the same may be apart."""


def time_surd(setting: Setting, warm: int, steps: int, denoising_weight: float) -> float:
    """Seconds of some steps of surd's training loop, after some that warm up."""
    asked = {"steps": warm + steps, "denoising_weight": denoising_weight}
    params = setting.params.model_copy(update=asked)
    data, denoiser = setting.data(params), setting.denoiser() if denoising_weight else None
    taught = Taught(setting.pipeline.unet.config.cross_attention_dim, denoiser)
    ends: list[float] = []

    def on_step(step: int, terms: Mapping[str, float]) -> None:
        settle(setting.device)
        ends.append(time.perf_counter())

    unused = (setting.pipeline.vae, setting.pipeline.text_encoder)
    for part in unused:  # as `surd train-adapter` does
        part.to("cpu")
    with tempfile.TemporaryDirectory(prefix="surd-train-") as folder:
        train(data, taught, params, Path(folder), on_step=on_step)
    for part in unused:
        part.to(setting.device)
    return ends[-1] - ends[warm - 1]


def unet_steps(setting: Setting, *, backward: bool) -> Callable[[int], None]:
    """The UNet on tensors that are ready, the same in every step."""
    unet, rows = setting.pipeline.unet, setting.rows(0).tolist()
    latents = setting.latents.take(rows, [0] * len(rows))
    noisy = latents.chunk(2, dim=1)[0].to(setting.device, setting.dtype)
    states = setting.texts.take([setting.samples[row].captions[0] for row in rows]).states
    embeddings = states.to(setting.device, setting.dtype).requires_grad_(backward)
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
    params, denoiser = setting.params, setting.denoiser()
    data = setting.data(params)
    batch = data.batch(0, 1, 0, setting.device)
    assert batch.latents is not None and batch.llm is not None
    schedule = denoiser.schedule
    noise = data.noise(0, 0, batch.latents, schedule.config.num_train_timesteps)
    rows = torch.cdist(batch.llm[:, 0].cpu(), setting.llm[:, 0]).argmin(dim=1)
    latents, prompts = denoiser.scaled(batch.latents), encode_prompts(setting, rows)
    lesson = Lesson(latents, *prompts, batch.llm, noise.values, noise.times)
    student = setting.student().eval()
    torch.nn.init.normal_(student.adapter.get_parameter("out.weight"), std=0.02)
    learning = [parameter for parameter in student.parameters() if parameter.requires_grad]
    gradients = []
    for ours in (True, False):
        with setting.autocast():
            if ours:
                terms = losses(student, batch, params, denoiser=denoiser, noise=noise)
                loss = weighed(terms, params)
            else:
                loss = method_loss(student, denoiser.unet, schedule, lesson, cut=False)
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
