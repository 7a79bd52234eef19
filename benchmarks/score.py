"""Scoring images: the score stage against a bare loop of the same CLIP on ready tensors.

    python benchmarks/score.py [--images 192] [--rounds 3] [--device cuda]

CLIP ViT-B-32 with random weights. The stage reads JPEGs with a complex prompt and a candidate each,
decodes, preprocesses, tokenizes, embeds, chooses and writes; the loop only embeds tensors that are
in memory already, in batches of the same size.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import open_clip
import simplejpeg
import torch
from _common import (
    format_table,
    hardware,
    hardware_line,
    say,
    wait_idle,
    write_part,
    write_results,
)
from safetensors.torch import save_file

from surd.engine.local import LocalEngine
from surd.engine.plan import plan
from surd.engine.stages import run_stage
from surd.models.clip import Clip, load_clip
from surd.stages.score import STAGE, ScoreParams
from surd.store.workspace import Workspace

ARCHITECTURE = "ViT-B-32"
SIDES = ((512, 512), (768, 512), (1024, 768))
PROMPT = "masterpiece, best quality, a red fox number {} in the snow, 8k, sharp focus, golden hour"


def main() -> None:
    """Measure both in turn, print a table, write the results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--images", type=int, default=192)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    rates: dict[str, list[float]] = {"bare loop": [], "score stage": []}
    with tempfile.TemporaryDirectory(prefix="surd-score-") as scratch:
        model, folder = Path(scratch) / "model", Path(scratch) / "w"
        save_random_clip(model)
        make_workspace(folder, options.images)
        params = ScoreParams(clip=str(model), nsfw="none", device=options.device)
        clip = load_clip(str(model), device=options.device)
        ready = list(ready_batches(clip, options.images))
        stage = STAGE.open(params)
        wait_idle(60)
        for number in range(options.rounds + 1):  # the first warms up
            for name, seconds in (
                ("bare loop", time_loop(clip, ready)),
                ("score stage", time_stage(folder, params, stage)),
            ):
                if number:
                    rates[name].append(options.images / seconds)
                    say(f"round {number}: {name} {rates[name][-1]:.2f} images/s")
    report(rates, options)


def save_random_clip(folder: Path) -> None:
    """ViT-B-32 as it is initialised, in open_clip's folder format."""
    folder.mkdir()
    torch.manual_seed(0)
    model = open_clip.create_model(ARCHITECTURE)
    config = {"model_cfg": open_clip.get_model_config(ARCHITECTURE), "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")


def make_workspace(folder: Path, images: int) -> None:
    """One part of JPEGs of the usual sizes, with a prompt and a candidate each."""
    rng = np.random.default_rng(0)
    ids = [f"{i:032x}" for i in range(images)]
    jpegs = [noisy_jpeg(rng, *SIDES[i % len(SIDES)]) for i in range(images)]
    candidates = [[{"text": f"a fox {i}", "raw": "", "how": "beam"}] for i in range(images)]
    columns = {
        "id": ids,
        "source": ["folder"] * images,
        "status": ["ok"] * images,
        "bytes": jpegs,
        "complex_prompt": [PROMPT.format(i) for i in range(images)],
        "candidates": candidates,
    }
    workspace = Workspace(folder)
    for group in ("samples", *STAGE.reads):
        write_part(workspace, group, 0, columns)


def noisy_jpeg(rng: np.random.Generator, width: int, height: int) -> bytes:
    """A picture with as much detail as a photograph."""
    coarse = rng.integers(0, 255, (height // 16, width // 16, 3), np.uint8)
    pixels = np.kron(coarse, np.ones((16, 16, 1), np.uint8))
    pixels = pixels[:height, :width] // 2 + rng.integers(0, 60, (height, width, 3), np.uint8)
    encoded: bytes = simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality=92)
    return encoded


def ready_batches(clip: Clip, images: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Pixels ``[b, 3, 224, 224]`` and tokens ``[2 b, 77]``, as the stage would make them."""
    for first in range(0, images, STAGE.batch_rows):
        numbers = range(first, min(first + STAGE.batch_rows, images))
        texts = [PROMPT.format(i) for i in numbers] + [f"a fox {i}" for i in numbers]
        pixels = torch.randn(len(numbers), 3, clip.side_px, clip.side_px)
        yield pixels.to(clip.device), clip.tokenize(texts).to(clip.device)


@torch.inference_mode()
def time_loop(clip: Clip, ready: list[tuple[torch.Tensor, torch.Tensor]]) -> float:
    """Seconds of the bare model."""
    started = time.perf_counter()
    for pixels, tokens in ready:
        clip.model.encode_image(pixels).cpu()
        clip.model.encode_text(tokens).cpu()
    return time.perf_counter() - started


def time_stage(folder: Path, params: ScoreParams, stage: object) -> float:
    """Seconds of the stage, from JPEGs in Parquet to scores in Parquet; the model is loaded."""
    workspace = Workspace(folder)
    for part in workspace.parts(STAGE.group):
        workspace.storage.delete(f"{STAGE.group}/part-{part:05d}.parquet")
    loaded = STAGE.__class__(**{**vars(STAGE), "open": lambda _: stage})
    started = time.perf_counter()
    jobs = plan(workspace, loaded, params)
    results = list(run_stage(LocalEngine(), workspace, loaded, params, jobs, lambda counts: None))
    seconds = time.perf_counter() - started
    assert [result.error for result in results] == [None]
    return seconds


def report(rates: dict[str, list[float]], options: argparse.Namespace) -> None:
    """The table and the file."""
    medians = {name: statistics.median(some) for name, some in rates.items()}
    share = medians["score stage"] / medians["bare loop"]
    facts = hardware(["torch", "open_clip_torch"])
    print(hardware_line(facts))
    cells = [[name, f"{rate:.2f}"] for name, rate in medians.items()]
    print(format_table([f"{ARCHITECTURE}, {options.device}", "images/s"], cells))
    print(f"the stage runs at {share:.2f} of the bare loop (asked: 0.9)")
    content = {"hardware": facts, "device": options.device, "images": options.images}
    write_results("score", {**content, "rates": rates, "medians": medians, "share": share})


if __name__ == "__main__":
    main()
