"""Captioning with BLIP: surd's decoding against transformers' own `generate`, on this machine.

    python benchmarks/caption.py [--device cuda] [--only caption|best]
    python benchmarks/caption.py --peer vlm

BLIP-base at 384 pixels with random weights, every caption of the same length; nothing is fetched.
With ``--peer vlm``, a chat model: see caption_vlm.py.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import caption_vlm
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
from transformers import BlipConfig, BlipForConditionalGeneration
from transformers.utils import logging

from surd.models.blip import beam_search, encode, nucleus_sample
from surd.models.blip.encoder import image_states

BEAMS = 3
SAMPLES = 4
TOP_P = 0.9
IMAGE_PX = 384
LIMITS = ("vision tower, transformers", "vision tower, surd")
CASES = {
    "caption": f"one caption of each image, {BEAMS} beams",
    "best": f"five candidates of each image: {BEAMS} beams, and {SAMPLES} nucleus samples",
}


@dataclass(frozen=True)
class Contender:
    """One way to caption all images."""

    name: str
    case: str
    """A key of CASES, or ``limit``."""
    precision: str
    """``fp32`` or ``bf16``, of the weights and of all that is computed."""
    run: Callable[[], Any]


@dataclass
class Measured:
    """The rounds of one contender."""

    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)


def make_model(device: torch.device) -> Any:
    """BLIP-base, as transformers sets it up when it loads no weights."""
    torch.manual_seed(0)
    config = BlipConfig(vision_config={"image_size": IMAGE_PX})
    model = BlipForConditionalGeneration(config)
    embeddings = model.vision_model.embeddings
    for position in (embeddings.class_embedding, embeddings.position_embedding):
        torch.nn.init.normal_(position, std=0.02)
    return model.eval().requires_grad_(False).to(device)


# the contenders ---------------------------------------------------------------------------------


def contenders(model: Any, pixels: torch.Tensor, batch: int, words: int) -> list[Contender]:
    """All of them; `pixels` is ``[images, 3, h, w]`` float32, on the model's device."""
    half, half_pixels = in_bf16(model), pixels.bfloat16()
    return [
        Contender(LIMITS[0], "limit", "fp32", lambda: their_tower(model, pixels, batch)),
        Contender(LIMITS[1], "limit", "fp32", lambda: our_tower(model, pixels, batch)),
        Contender(LIMITS[1], "limit", "bf16", lambda: our_tower(half, half_pixels, batch)),
        Contender(
            "generate, one by one",
            "caption",
            "fp32",
            lambda: their_captions(model, pixels, 1, words),
        ),
        Contender(
            "generate, batches",
            "caption",
            "fp32",
            lambda: their_captions(model, pixels, batch, words),
        ),
        Contender("surd", "caption", "fp32", lambda: our_captions(model, pixels, batch, words)),
        Contender("surd", "caption", "bf16", lambda: our_captions(half, half_pixels, batch, words)),
        Contender(
            "generate, five calls", "best", "fp32", lambda: their_candidates(model, pixels, words)
        ),
        Contender("surd", "best", "fp32", lambda: our_candidates(model, pixels, batch, words)),
        Contender("surd", "best", "bf16", lambda: our_candidates(half, half_pixels, batch, words)),
    ]


def in_bf16(model: Any) -> Any:
    """The same model with its weights in bfloat16."""
    copy = BlipForConditionalGeneration(model.config).to(model.device, torch.bfloat16)
    copy.load_state_dict(model.state_dict())
    return copy.eval().requires_grad_(False)


@torch.inference_mode()
def their_tower(model: Any, pixels: torch.Tensor, batch: int) -> None:
    """The vision tower as transformers runs it."""
    for part in pixels.split(batch):
        model.vision_model(part)


@torch.inference_mode()
def our_tower(model: Any, pixels: torch.Tensor, batch: int) -> None:
    """The vision tower as `encode` runs it, without what the decoder makes of its output."""
    for part in pixels.split(batch):
        image_states(model.vision_model, part)


def their_captions(model: Any, pixels: torch.Tensor, batch: int, words: int) -> torch.Tensor:
    """By `generate`, ids ``[images, 1 + words]``."""
    length = {"min_new_tokens": words, "max_new_tokens": words}
    return torch.cat(
        [
            model.generate(part, num_beams=BEAMS, do_sample=False, **length)
            for part in pixels.split(batch)
        ]
    )


def our_captions(model: Any, pixels: torch.Tensor, batch: int, words: int) -> torch.Tensor:
    """By surd, the same."""
    return torch.cat(
        [
            beam_search(model, encode(model, part), BEAMS, words, min_new_tokens=words)
            for part in pixels.split(batch)
        ]
    )


def their_candidates(model: Any, pixels: torch.Tensor, words: int) -> None:
    """One call for the beams and one for each sample; every call encodes its image."""
    length = {"min_new_tokens": words, "max_new_tokens": words}
    for image in pixels.split(1):
        model.generate(image, num_beams=BEAMS, do_sample=False, **length)
        for _ in range(SAMPLES):
            model.generate(image, do_sample=True, top_p=TOP_P, **length)


def our_candidates(model: Any, pixels: torch.Tensor, batch: int, words: int) -> None:
    """All candidates from one context."""
    for part in pixels.split(batch):
        context = encode(model, part)
        beam_search(model, context, BEAMS, words, min_new_tokens=words)
        nucleus_sample(
            model,
            context,
            SAMPLES,
            TOP_P,
            seeds=range(len(part)),
            min_new_tokens=words,
            max_new_tokens=words,
        )


# the comparison ---------------------------------------------------------------------------------


def compare(
    who: Sequence[Contender], rounds: int, patience_s: float, device: torch.device
) -> list[Measured]:
    """All contenders by turns, `rounds` times."""
    measured = [Measured() for _ in who]
    for number in range(1, rounds + 1):
        for contender, times in zip(who, measured, strict=True):
            wait_idle(patience_s)
            _wait_for(device)
            wall, cpu = time.perf_counter(), time.process_time()
            contender.run()
            _wait_for(device)
            times.cpu_s.append(round(time.process_time() - cpu, 3))
            times.wall_s.append(round(time.perf_counter() - wall, 3))
            say(
                f"round {number}: {contender.case}: {contender.name}, {contender.precision}: "
                f"{times.wall_s[-1]:.1f} s"
            )
    return measured


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def check(model: Any, pixels: torch.Tensor, batch: int, words: int) -> None:
    """Both write the same captions, word for word; this also warms up. Raises BenchmarkError."""
    theirs = their_captions(model, pixels, 1, words)
    ours = our_captions(model, pixels, batch, words)
    same = int((theirs == ours).all(1).sum())
    if same < len(pixels):
        raise BenchmarkError(f"only {same} captions of {len(pixels)} are those of generate")


# the report -------------------------------------------------------------------------------------


def report(
    who: Sequence[Contender], measured: Sequence[Measured], images: int
) -> tuple[str, dict[str, Any]]:
    """Tables, and the same numbers as data.

    Ratios are of medians, to the first contender of a case: one image at a time, as in the
    notebooks models are published with. The limit is the faster vision tower of the same precision.
    """
    speeds = [images / statistics.median(times.wall_s) for times in measured]
    limits: dict[str, float] = {}
    for contender, speed in zip(who, speeds, strict=True):
        if contender.case == "limit":
            limits[contender.precision] = max(speed, limits.get(contender.precision, 0.0))
    first: dict[str, float] = {}
    rows: dict[str, list[list[str]]] = {}
    data: dict[str, Any] = {}
    for contender, times, speed in zip(who, measured, speeds, strict=True):
        ratio = speed / first.setdefault(contender.case, speed)
        share = speed / limits[contender.precision]
        cores = statistics.median(times.cpu_s) / statistics.median(times.wall_s)
        data.setdefault(contender.case, {})[f"{contender.name}, {contender.precision}"] = {
            "wall_s": times.wall_s,
            "cpu_s": times.cpu_s,
            "images_per_s": round(speed, 3),
            "ratio": round(ratio, 2),
            "share_of_limit": round(share, 3),
        }
        rows.setdefault(contender.case, []).append(
            [
                contender.name,
                contender.precision,
                f"{speed:.2f}",
                f"{ratio:.2f}",
                f"{share:.0%}",
                f"{cores:.1f}",
            ]
        )
    titles = {"limit": "the limit: encoding each image, and no words", **CASES}
    header = ["", "", "img/s", "x", "of the limit", "cores"]
    tables = [f"{titles[case]}\n{format_table(header, lines)}" for case, lines in rows.items()]
    return "\n\n".join(tables), data


def run(options: argparse.Namespace) -> dict[str, Any]:
    """All that was asked for; prints the tables and returns what goes into the results file."""
    device = torch.device(options.device)
    if options.threads:
        torch.set_num_threads(options.threads)
    facts = hardware(["surd", "torch", "transformers"])
    accelerator = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    model = make_model(device)
    seeded = torch.Generator().manual_seed(1)
    pixels = torch.randn(options.images, 3, IMAGE_PX, IMAGE_PX, generator=seeded).to(device)
    check(model, pixels[: options.batch], options.batch, options.words)
    say(f"{min(options.batch, options.images)} captions are those of generate, word for word")
    who = [
        contender
        for contender in contenders(model, pixels, options.batch, options.words)
        if options.only is None or contender.case in ("limit", options.only)
    ]
    measured = compare(who, options.rounds, options.wait_idle, device)
    text, data = report(who, measured, options.images)
    settings = {name: getattr(options, name) for name in ("images", "rounds", "batch", "words")}
    settings |= {"device": accelerator or "cpu", "threads": torch.get_num_threads()}
    told = ", ".join(f"{name} {value}" for name, value in settings.items())
    print(f"{hardware_line(facts)}\n{told}\n\n{text}")
    return {"hardware": facts, **settings, "beams": BEAMS, "samples": SAMPLES, "cases": data}


def main() -> None:
    """Parse the command line, measure, write the results."""
    before = argparse.ArgumentParser(add_help=False)
    before.add_argument("--peer", choices=["blip", "vlm"], default="blip")
    chosen, sys.argv[1:] = before.parse_known_args()
    if chosen.peer == "vlm":
        caption_vlm.main()
        return
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--images", type=int, default=8, help="pictures to caption")
    parser.add_argument("--batch", type=int, default=8, help="images at once, where in batches")
    parser.add_argument("--words", type=int, default=20, help="in every caption")
    parser.add_argument("--rounds", type=int, default=3, help="times everything is measured")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1")
    parser.add_argument("--threads", type=int, help="of torch; one a core if not given")
    parser.add_argument("--only", choices=list(CASES), help="one part; nothing is written")
    parser.add_argument(
        "--wait-idle",
        type=float,
        default=0,
        metavar="SECONDS",
        help="wait so long at most, before each measurement, until nothing else runs here",
    )
    options = parser.parse_args()
    logging.set_verbosity_error()
    try:
        results = run(options)
    except BenchmarkError as error:
        sys.exit(f"benchmark: {error}")
    if options.only is None:
        name = "caption" if options.device == "cpu" else "caption-cuda"
        print(f"\nwritten: {write_results(name, results)}")


if __name__ == "__main__":
    main()
