"""Captioning with a chat model: surd's batches against one picture at a time, on this machine.

    python benchmarks/caption_vlm.py [--images 16] [--device cuda]

A Qwen2.5-VL of 0.1 billion random weights, every caption of about the same length; nothing is
fetched.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from _common import format_table, hardware, hardware_line, say, wait_idle, write_results
from PIL import Image
from transformers.utils import logging

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # the words of its tiny kin

from support_vlm import CHAT_TEMPLATE, tokenizer

from surd.models.captions import QUESTIONS, Wanted
from surd.models.image_text import load_image_text
from surd.models.vlm import Vlm, load_vlm, name_of_cache

SIDE_PX = 224
TOP_P = 0.9
VOCABULARY = 32_000
CASES = {"one": 0, "best of four": 3}
"""Samples beside the one caption by beam search."""


def save_model(folder: Path) -> None:
    """Of the shape of Qwen2.5-VL, with eight layers each of vision and text."""
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"]
    special += ["<|image_pad|>", "<|video_pad|>", "<unk>"]
    words = tokenizer(special, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [8, 12, 12]}
    config = transformers.Qwen2_5_VLConfig(
        vision_config={
            **{"depth": 8, "hidden_size": 512, "intermediate_size": 1536, "num_heads": 8},
            **{"patch_size": 14, "window_size": 112, "fullatt_block_indexes": [3, 7]},
            "out_hidden_size": 640,
        },
        text_config={
            **{"hidden_size": 640, "intermediate_size": 1792, "num_hidden_layers": 10},
            **{"num_attention_heads": 10, "num_key_value_heads": 2, "vocab_size": VOCABULARY},
            **{"rope_parameters": rope, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 0},
        },
        **{"vision_start_token_id": 3, "vision_end_token_id": 4},
        **{"image_token_id": 5, "video_token_id": 6},
    )
    torch.manual_seed(0)
    model = transformers.Qwen2_5_VLForConditionalGeneration(config)
    model.lm_head.weight.data[:8] = 0  # neither ends nor pictures are written
    model.save_pretrained(folder)
    images = transformers.Qwen2VLImageProcessor(patch_size=14, merge_size=2)
    videos = transformers.Qwen2VLVideoProcessor(patch_size=14, merge_size=2)
    transformers.Qwen2_5_VLProcessor(
        images, words, videos, chat_template=CHAT_TEMPLATE
    ).save_pretrained(folder)
    count = sum(values.numel() for values in model.parameters())
    say(f"{count / 1e6:.0f} million weights")


def one_by_one(vlm: Vlm, images: list[Image.Image], wanted: Wanted) -> None:
    """As surd did: a call for the beams and one for the samples, of each picture."""
    text = vlm.asked(QUESTIONS["simple"])
    length = {"max_new_tokens": wanted.max_new_tokens}
    for image in images:
        inputs = vlm.processor(images=[image], text=[text], return_tensors="pt").to(
            vlm.model.device
        )
        vlm.model.generate(**inputs, num_beams=wanted.num_beams, do_sample=False, **length)
        if wanted.samples:
            vlm.model.generate(
                **inputs,
                **{"do_sample": True, "num_beams": 1, "temperature": 1.0, "top_k": 50},
                top_p=TOP_P,
                num_return_sequences=wanted.samples,
                **length,
            )


@torch.inference_mode()
def bare(vlm: Vlm, images: list[Image.Image], wanted: Wanted) -> None:
    """Pictures and questions through vision tower and decoder once, then a step for each word of
    all beams and samples, with nothing chosen."""
    inputs = vlm.inputs(images, [vlm.asked(QUESTIONS["simple"])] * len(images))
    read = vlm.model(**inputs, use_cache=True, logits_to_keep=1)
    cache = read.get("cache") or read.get("past_key_values")
    rows = wanted.num_beams + wanted.samples
    cache.batch_repeat_interleave(rows)
    mask = inputs["attention_mask"].repeat_interleave(rows, dim=0)
    shift = vlm.model.model.rope_deltas.repeat_interleave(rows, dim=0)
    tokens = mask.new_full((len(mask), 1), 9)
    for _ in range(wanted.max_new_tokens - 1):
        positions = (mask.sum(dim=1, keepdim=True) + shift).expand(3, -1, -1)
        mask = torch.cat([mask, mask[:, :1]], dim=1)
        vlm.model.model.language_model(
            inputs_embeds=vlm.model.get_input_embeddings()(tokens),
            attention_mask=mask,
            position_ids=positions,
            use_cache=True,
            **{name_of_cache(vlm.model.model.language_model): cache},
        )


def measure(run: Callable[[], None], device: torch.device, patience_s: float) -> float:
    """Seconds of this process's processor, which others cannot lengthen; on a GPU of the clock."""
    wait_idle(patience_s)
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    started = clock()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - started


def run(options: argparse.Namespace) -> dict[str, Any]:
    """All that was asked for; prints the table and returns what goes into the results file."""
    device = torch.device(options.device)
    torch.set_num_threads(options.threads)
    facts = hardware(["surd", "torch", "transformers"])
    with tempfile.TemporaryDirectory() as folder:
        save_model(Path(folder))
        vlm = load_vlm(folder, device, torch.float32)
        captioner = load_image_text(folder, device, torch.float32, None)
    say(f"a picture is read once for all of its captions: {vlm.shares_prefix}")
    random = np.random.default_rng(0)
    pixels = random.integers(0, 255, (options.images, SIDE_PX, SIDE_PX, 3), dtype=np.uint8)
    images = [Image.fromarray(some) for some in pixels]
    rows, data = [], {}
    for case, samples in CASES.items():
        wanted = Wanted(samples, options.beams, TOP_P, options.words)
        seeds = range(options.images)

        def batched(wanted: Wanted = wanted, seeds: range = seeds) -> None:
            captioner.propose(images, wanted, seeds)

        contenders: dict[str, Callable[[], None]] = {
            "one at a time": lambda wanted=wanted: one_by_one(vlm, images, wanted),  # type: ignore[misc]
            "surd": batched,
            "bare model": lambda wanted=wanted: bare(vlm, images, wanted),  # type: ignore[misc]
        }
        times: dict[str, list[float]] = {name: [] for name in contenders}
        for number in range(options.rounds):
            for name, work in contenders.items():
                times[name].append(measure(work, device, options.wait_idle))
                say(f"round {number + 1}: {case}: {name}: {times[name][-1]:.1f} s")
        median = {name: statistics.median(some) for name, some in times.items()}
        for name, seconds in median.items():
            ratio, share = median["one at a time"] / seconds, median["bare model"] / seconds
            speed = options.images / seconds
            rows.append([case, name, f"{speed:.2f}", f"{ratio:.2f}", f"{share:.0%}"])
            data[f"{case}, {name}"] = {
                "seconds": [round(one, 3) for one in times[name]],
                "images_per_s": round(speed, 3),
                "ratio": round(ratio, 2),
                "share_of_limit": round(share, 3),
            }
    settings = {n: getattr(options, n) for n in ("images", "rounds", "words", "beams", "device")}
    settings["threads"] = torch.get_num_threads()
    told = ", ".join(f"{name} {value}" for name, value in settings.items())
    table = format_table(["", "", "img/s", "x", "of the limit"], rows)
    print(f"{hardware_line(facts)}\n{told}\n\n{table}")
    return {"hardware": facts, **settings, "cases": data}


def main() -> None:
    """Parse the command line, measure, write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--images", type=int, default=16, help="pictures to caption, in one batch")
    parser.add_argument("--words", type=int, default=20, help="in every caption")
    parser.add_argument("--beams", type=int, default=3, help="of the first caption")
    parser.add_argument("--rounds", type=int, default=3, help="times everything is measured")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--dry", action="store_true", help="write no results")
    parser.add_argument("--wait-idle", type=float, default=0, metavar="SECONDS")
    options = parser.parse_args()
    logging.set_verbosity_error()
    results = run(options)
    if not options.dry:
        print(f"\nwritten: {write_results('caption_vlm', results)}")


if __name__ == "__main__":
    main()
