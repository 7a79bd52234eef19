"""Prompts a second of ``surd embed-llm`` against the plain way, and against its own model alone.

    python benchmarks/embed_llm.py [--prompts SET ...] [--count 2000] [--model demo:llm]

The plain way: one prompt a forward, every layer's states, the language modelling head. The model
alone: surd's batches of token ids, already made, through the same shortened model. The stage: from
prompts in Parquet to vectors in Parquet, the model loaded. Sets are those of surd evaluate: names
or files; without any, the 300 plain sentences that come with surd. What a prompt costs goes with
its length, and so does what batches of them are worth.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

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
from transformers import AutoModelForCausalLM, AutoTokenizer

from surd.evaluate.prompt import texts_of
from surd.evaluate.prompt_sets import load_prompts
from surd.llm import run
from surd.llm.batches import by_length, each, padded
from surd.models.gguf import is_gguf, plain_folder
from surd.models.llm import Llm, load_llm, shape_of
from surd.models.names import resolve
from surd.recipe.embed_llm import EmbedLlmParams
from surd.store.workspace import Manifest, Workspace

PART_ROWS = 1000


def main() -> None:
    """Measure the three in turn, print a table, write the results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--prompts", nargs="*", default=["paper"])
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--plain", type=int, default=200, help="prompts of the plain way")
    parser.add_argument("--model", default="demo:llm")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=("fp32", "bf16"), default="fp32", help="of all three")
    options = parser.parse_args()
    prompts = read_prompts(options.prompts, options.count)
    layers = [shape_of(options.model).layers, shape_of(options.model).layers // 2]
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[options.dtype]
    plain = load_plain(options.model, options.device, dtype)
    llms = {n: load_llm(options.model, [n], device=options.device, dtype=dtype) for n in layers}
    rates: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="surd-embed-") as scratch:
        workspace = make_workspace(Path(scratch) / "w", prompts)
        wait_idle(60)
        for number in range(options.rounds + 1):  # the first warms up
            some = random.Random(number).sample(prompts, min(options.plain, len(prompts)))
            measured = {"plain way": len(some) / timed(plain, some)}
            for layer, llm in llms.items():
                params = EmbedLlmParams(
                    model=options.model,
                    layers=(layer,),
                    device=options.device,
                    dtype=options.dtype,
                )
                batches = ready_batches(llm, prompts)
                alone = timed(partial(run_alone, llm, layer), batches)
                measured[f"model alone, layer {layer}"] = len(prompts) / alone
                seconds = time_stage(workspace, params, llm, options.device)
                measured[f"stage, layer {layer}"] = len(prompts) / seconds
            for name, rate in measured.items() if number else ():
                rates.setdefault(name, []).append(rate)
                say(f"round {number}: {name} {rate:.1f} prompts/s")
    report(rates, layers, options, len(prompts))


def read_prompts(sets: list[str], count: int) -> list[str]:
    """Different prompts, `count` at most."""
    prompts = [text for name in sets for text in texts_of(load_prompts(name))]
    return list(dict.fromkeys(prompts))[:count]


def load_plain(name: str, device: str, dtype: torch.dtype) -> Callable[[list[str]], None]:
    """The whole model, as its own documentation would load it."""
    folder = plain_folder(name, None, None, dtype) if is_gguf(name, None) else resolve(name)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).to(device).eval()

    @torch.inference_mode()
    def embed(prompts: list[str]) -> None:
        for prompt in prompts:
            tokens = tokenizer(prompt, return_tensors="pt").to(device)
            model(**tokens, output_hidden_states=True).hidden_states[-1][0, -1].cpu()

    return embed


def ready_batches(llm: Llm, prompts: list[str]) -> list[tuple[torch.Tensor, list[int]]]:
    """The batches the stage makes of the same parts, with the lengths of their texts."""
    batches = []
    for first in range(0, len(prompts), PART_ROWS):
        tokens = llm.tokenize(prompts[first : first + PART_ROWS], True)
        rows = by_length([len(text) for text in tokens], run.CPU_BATCH_TOKENS)
        chosen = [[tokens[i] for i in some] for some in rows]
        batches += [(padded(texts, llm.pad_id), list(map(len, texts))) for texts in chosen]
    return batches


def run_alone(llm: Llm, layer: int, ready: list[tuple[torch.Tensor, list[int]]]) -> None:
    """The model's forward and nothing else, on as many threads as the stage has."""
    threads = torch.get_num_threads() if ready[0][0].device.type == "cpu" else 1
    for _ in each(lambda batch: llm.states(*batch, [layer]), ready, threads):
        pass


def time_stage(workspace: Workspace, params: EmbedLlmParams, llm: Llm, device: str) -> float:
    """Seconds from Parquet to Parquet, planning included."""
    started = time.perf_counter()
    work = run.plan_work(workspace, params)
    known = run.known_of(workspace, work, run.reusable(workspace, work))
    done = list(run.compute(workspace, work, llm, work.jobs, known, device))
    seconds = time.perf_counter() - started
    assert sum(result.counts["ok"] for result in done) > 0
    for stage in work.stages.values():
        for part in workspace.parts(stage.group):
            workspace.storage.delete(f"{stage.group}/part-{part:05d}.parquet")
    return seconds


def make_workspace(folder: Path, prompts: list[str]) -> Workspace:
    """Parts of samples that have a simple prompt and are kept."""
    workspace = Workspace(folder)
    sources = [{"kind": "folder", "path": "."}]
    workspace.write_manifest(Manifest(recipe={"name": "embed", "sources": sources}))
    for part, first in enumerate(range(0, len(prompts), PART_ROWS)):
        some = prompts[first : first + PART_ROWS]
        columns = {
            "id": [f"{first + i:032x}" for i in range(len(some))],
            "source": ["folder"] * len(some),
            "status": ["ok"] * len(some),
            "simple_prompt": some,
            "keep": [True] * len(some),
        }
        for group in ("samples", "clip", "verdicts"):
            write_part(workspace, group, part, columns)
    return workspace


def timed(work: Callable[[Any], Any], argument: Any) -> float:
    """Seconds of one call."""
    started = time.perf_counter()
    work(argument)
    return time.perf_counter() - started


def report(
    rates: dict[str, list[float]], layers: list[int], options: argparse.Namespace, count: int
) -> None:
    """The table and the file."""
    medians = {name: statistics.median(some) for name, some in rates.items()}
    plain = medians["plain way"]
    facts = hardware(["torch", "transformers"])
    print(hardware_line(facts))
    cells = [[name, f"{rate:.1f}", f"{rate / plain:.1f}x"] for name, rate in medians.items()]
    print(
        format_table(
            [f"{options.model}, {options.dtype}, {count} prompts", "prompts/s", "plain way"], cells
        )
    )
    shares = {
        layer: medians[f"stage, layer {layer}"] / medians[f"model alone, layer {layer}"]
        for layer in layers
    }
    for layer, share in shares.items():
        print(f"layer {layer}: the stage runs at {share:.2f} of the model alone (asked: 0.9)")
    content = {"hardware": facts, "model": options.model, "prompts": count, "rates": rates}
    write_results(f"embed_llm_{options.dtype}", {**content, "medians": medians, "shares": shares})


if __name__ == "__main__":
    main()
