"""Reading what generators wrote into images: files per second of ``surd collect`` on a folder.

    python benchmarks/metadata.py [--files 20000]

The peer is sd-parsers, in an environment of its own that is made once in a work folder. It reads
the same files one after another, and of them the headers only. surd also hashes the files, which
are known by their hashes, so the peer is measured with and without that. Files are made in a
temporary folder: PNG, JPEG and WebP of 256 x 256 pixels of noise, with texts of AUTOMATIC1111,
ComfyUI, NovelAI and InvokeAI.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from statistics import median

import numpy as np
from _common import (
    format_table,
    hardware,
    hardware_line,
    peer_python,
    run_timed,
    say,
    write_results,
)
from PIL import Image, PngImagePlugin

PEER = "sd-parsers==0.6"
PEER_READS = """
import hashlib, sys
from pathlib import Path
from sd_parsers import ParserManager
manager, found = ParserManager(), 0
for path in sorted(Path(sys.argv[1]).iterdir()):
    if len(sys.argv) > 2:
        hashlib.sha256(path.read_bytes()).digest()
    information = manager.parse(path)
    found += bool(information and information.prompts)
print(found)
"""
READERS = """
import sys
from pathlib import Path
from surd.sources import metadata
paths = sorted(Path(sys.argv[1]).iterdir())
print(sum(metadata.read(path.read_bytes()).prompt is not None for path in paths))
"""
ROUNDS = 3


def infotext(n: int) -> str:
    """What AUTOMATIC1111 writes."""
    return (
        f"masterpiece, best quality, a lighthouse number {n}, (storm:1.2), <lora:ink:0.6>\n"
        "Negative prompt: lowres, blurry, text\n"
        f"Steps: 28, Sampler: DPM++ 2M, CFG scale: 6.5, Seed: {n}, Size: 256x256, Model: base"
    )


def graph(n: int) -> str:
    """What ComfyUI writes, with a LoRA on the way."""
    nodes = {
        "1": ("CheckpointLoaderSimple", {"ckpt_name": "base.safetensors"}),
        "2": ("LoraLoader", {"model": ["1", 0], "clip": ["1", 1], "lora_name": "ink"}),
        "3": ("CLIPTextEncode", {"text": f"a lighthouse number {n}", "clip": ["2", 1]}),
        "4": ("CLIPTextEncode", {"text": "lowres, blurry", "clip": ["2", 1]}),
        "5": ("EmptyLatentImage", {"width": 256, "height": 256, "batch_size": 1}),
        "6": (
            "KSampler",
            {"seed": n, "steps": 28, "cfg": 6.5, "sampler_name": "euler", "scheduler": "normal"}
            | {"denoise": 1.0, "model": ["2", 0], "positive": ["3", 0], "negative": ["4", 0]}
            | {"latent_image": ["5", 0]},
        ),
        "7": ("VAEDecode", {"samples": ["6", 0], "vae": ["1", 2]}),
        "8": ("SaveImage", {"images": ["7", 0], "filename_prefix": "x"}),
    }
    return json.dumps({k: {"class_type": kind, "inputs": v} for k, (kind, v) in nodes.items()})


def invokeai(n: int) -> str:
    """What InvokeAI 4 writes."""
    told = {"positive_prompt": f"a lighthouse number {n}", "negative_prompt": "blurry", "seed": n}
    more = {"steps": 28, "cfg_scale": 6.5, "scheduler": "euler", "width": 256, "height": 256}
    return json.dumps(told | more | {"model": {"model_name": "base"}, "app_version": "4.2.0"})


def novelai(n: int) -> dict[str, str]:
    """What NovelAI 3 writes."""
    comment = {"steps": 28, "sampler": "k_euler", "seed": n, "scale": 6.5, "uc": "lowres, blurry"}
    return {
        "Title": "AI generated image",
        "Description": f"a lighthouse number {n}, {{{{storm}}}}",
        "Software": "NovelAI",
        "Source": "Stable Diffusion 1D44365E",
        "Comment": json.dumps(comment),
    }


def png(pixels: Image.Image) -> Callable[[dict[str, str]], bytes]:
    """A function that gives the picture as PNG with texts; its pixels are compressed once."""
    file = BytesIO()
    pixels.save(file, "PNG")
    whole = file.getvalue()

    def with_texts(texts: dict[str, str]) -> bytes:
        small, info = BytesIO(), PngImagePlugin.PngInfo()
        for keyword, text in texts.items():
            info.add_text(keyword, text)
        Image.new("RGB", (1, 1)).save(small, "PNG", pnginfo=info)
        made = small.getvalue()
        return whole[:33] + made[33 : made.index(b"IDAT") - 4] + whole[33:]

    return with_texts


def make_files(folder: Path, files: int) -> None:
    """Six kinds of files in turn."""
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    pixels = Image.fromarray(noise)
    as_png = png(pixels)
    for n in range(files):
        name, kind = f"{n:06d}", n % 6
        if kind < 2:
            exif = Image.Exif()
            comment = b"UNICODE\0" + infotext(n).encode("utf-16-be")
            exif.get_ifd(0x8769)[0x9286] = comment
            suffix = ("jpg", "webp")[kind]
            pixels.save(folder / f"{name}.{suffix}", exif=exif, quality=80)
            continue
        texts = (
            {"parameters": infotext(n)},
            {"prompt": graph(n), "workflow": json.dumps({"nodes": [], "links": []})},
            {"invokeai_metadata": invokeai(n)},
            novelai(n),
        )[kind - 2]
        (folder / f"{name}.png").write_bytes(as_png(texts))


def main() -> None:
    """Measure, print a table, write the results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--files", type=int, default=20_000, help="files to make and read")
    parser.add_argument(
        "--workdir",
        type=Path,
        default=Path(tempfile.gettempdir()) / "surd-benchmark",
        help="holds the peer's environment; kept for the next run",
    )
    options = parser.parse_args()
    files = options.files
    options.workdir.mkdir(parents=True, exist_ok=True)
    peer = peer_python(options.workdir.absolute(), PEER, f"pillow=={version('pillow')}")
    results, cells = [], []
    with tempfile.TemporaryDirectory(prefix="surd-metadata-") as scratch:
        folder, log = Path(scratch) / "files", Path(scratch) / "log"
        folder.mkdir()
        say(f"making {files:,} files")
        make_files(folder, files)
        recipe = Path(scratch) / "recipe.yaml"
        recipe.write_text(f"name: m\nsources:\n  - kind: folder\n    path: {folder}\n")
        walls: dict[str, list[float]] = {}
        times: dict[str, list[float]] = {}
        for turn in range(ROUNDS):
            surd: list[str | Path] = [sys.executable]
            build = [*surd, "-m", "surd", "build", recipe, "--until", "collect", "-q"]
            commands: dict[str, list[str | Path]] = {
                "surd collect": [*build, "-o", Path(scratch) / f"w{turn}"],
                "surd's readers": [*surd, "-c", READERS, folder],
                "sd-parsers, hashing": [peer, "-c", PEER_READS, folder, "hash"],
                "sd-parsers": [peer, "-c", PEER_READS, folder],
            }
            for name, command in commands.items():
                usage = run_timed(command, log)
                times.setdefault(name, []).append(usage.cpu_s)
                walls.setdefault(name, []).append(usage.wall_s)
                say(f"{name}: {usage.wall_s:.2f} s")
        peer_s = median(walls["sd-parsers, hashing"])
        for name, each in walls.items():
            wall_s, cpu_s = median(each), median(times[name])
            results.append({"run": name, "wall_s": wall_s, "cpu_s": cpu_s})
            figures = (f"{wall_s:.2f}", f"{cpu_s:.2f}", f"{files / wall_s:.0f}")
            cells.append([name, *figures, f"{peer_s / wall_s:.2f}"])
    facts = hardware(["surd", "pillow"])
    print(hardware_line(facts))
    print(format_table(["", "seconds", "cpu s", "files/s", "x hashing"], cells))
    write_results("metadata", {"hardware": facts, "peer": PEER, "files": files, "results": results})


if __name__ == "__main__":
    main()
