"""The folder tutorial as people go on with it: every command, its time, and what models are given.

    python benchmarks/folder.py [--images 400]

Images are painted as the demo's are, and written as six generators write them, into a temporary
folder. The models are the demo's, so the seconds say what surd costs around models; how many
pictures those are given would be the same with any.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from _common import format_table, hardware, hardware_line, run_timed, say, write_results
from PIL import Image, PngImagePlugin

from surd.demo.world import Entry, world

MODELS = ["--set=caption.model=demo:captioner", "--set=score.clip=demo:clip"]
MODELS += ["--set=score.nsfw=none", "--set=filter.min_side=64"]
GIVEN = ("captioned", "seen by CLIP")
TRAINED = ["--preset=distil", "--diffusion=demo:diffusion", "--steps=20", "--batch-size=8"]
COUNTED = """
import json, sys
from collections import Counter
from importlib.util import find_spec
found = Counter()

def of_captioner(module):
    load = module.load_captioner
    def loaded(*args, **kwargs):
        model = load(*args, **kwargs)
        propose = model.propose
        def proposed(pictures, *rest, **more):
            found["captioned"] += len(pictures)
            return propose(pictures, *rest, **more)
        object.__setattr__(model, "propose", proposed)  # of a frozen dataclass
        return model
    module.load_captioner = loaded

def of_clip(module):
    embed = module.Clip.embed_pixels
    def embedded(self, pixels):
        found["seen by CLIP"] += len(pixels)
        return embed(self, pixels)
    module.Clip.embed_pixels = embedded

class Counting:  # these modules take seconds to import: they are patched when surd imports them
    patches = {"surd.models.captioner": of_captioner, "surd.models.clip": of_clip}
    def find_spec(self, name, path, target=None):
        patch = self.patches.pop(name, None)
        if patch is None:
            return None
        spec = find_spec(name)
        run = spec.loader.exec_module
        spec.loader.exec_module = lambda module: (run(module), patch(module))
        return spec

sys.meta_path.insert(0, Counting())
from surd.cli.app import main
try:
    main()
finally:
    print("models", json.dumps(found))
"""
"""surd, which tells at its end how many pictures its models were given."""


def written(entry: Entry, kind: int, folder: Path, name: str) -> None:
    """An image as one of six generators leaves it, its prompt inside or beside it."""
    pixels = Image.open(BytesIO(entry.picture)).convert("RGB")
    said = f"{entry.prompt}\nNegative prompt: blurry\nSteps: 20, Sampler: Euler, Seed: {entry.seed}"
    if kind == 0:
        exif = Image.Exif()
        exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + said.encode("utf-16-be")
        pixels.save(folder / f"{name}.jpg", exif=exif, quality=90)
        return
    if kind == 1:
        pixels.save(folder / f"{name}.png")
        (folder / f"{name}.txt").write_text(said, encoding="utf-8")
        return
    encode = {"class_type": "CLIPTextEncode", "inputs": {"text": entry.prompt, "clip": ["9", 1]}}
    sample = {"class_type": "KSampler", "inputs": {"seed": entry.seed, "positive": ["1", 0]}}
    texts = (
        {"parameters": said},
        {"prompt": json.dumps({"1": encode, "2": sample})},
        {"invokeai_metadata": json.dumps({"positive_prompt": entry.prompt, "seed": entry.seed})},
        {
            "Software": "NovelAI",
            "Description": entry.prompt,
            "Comment": json.dumps({"uc": "blurry", "seed": entry.seed, "steps": 28}),
        },
    )[kind - 2]
    info = PngImagePlugin.PngInfo()
    for keyword, text in texts.items():
        info.add_text(keyword, text)
    pixels.save(folder / f"{name}.png", pnginfo=info)


class Session:
    """Commands typed one after another, and what each cost."""

    def __init__(self, scratch: Path) -> None:
        self.scratch, self.data = scratch, scratch / "my-data"
        self.rows: list[dict[str, Any]] = []

    def types(self, what: str, *words: str | Path) -> None:
        """Run ``surd WORDS``; what its models were given is kept."""
        log = self.scratch / "log"
        usage = run_timed([sys.executable, "-c", COUNTED, *words], log)
        (told,) = re.findall(r"^models (.*)$", log.read_text(), re.MULTILINE)
        self.rows.append({"step": what, "wall_s": usage.wall_s, "pictures": json.loads(told)})
        say(f"{what}: {usage.wall_s:.1f} s {told}")

    def kept(self) -> list[str]:
        """Ids of the samples that are kept."""
        found: list[str] = []
        for part in sorted((self.data / "samples").glob("*.parquet")):
            keep = pq.read_table(self.data / "verdicts" / part.name, columns=["keep"])["keep"]
            found += pq.read_table(part, columns=["id"])["id"].filter(keep).to_pylist()
        return found


def main() -> None:
    """Type, print a table, write the results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--images", type=int, default=400, help="images in the folder at first")
    images = parser.parse_args().images
    with tempfile.TemporaryDirectory(prefix="surd-folder-") as temporary:
        scratch = Path(temporary)
        outputs = scratch / "outputs"
        entries = world(images + 50)
        for n, entry in enumerate(entries[:images]):
            folder = outputs / f"2026-{1 + 12 * n // images:02d}"
            folder.mkdir(parents=True, exist_ok=True)
            written(entry, n % 6, folder, f"{n:05d}")
        session = Session(scratch)
        data = session.data
        build: list[str | Path] = ["build", "folder", "-o", data]
        build += [f"--set=sources.0.path={outputs}", "-q", *MODELS]
        session.types(f"build of {images} images", *build)
        session.types("another threshold", "filter", data, "--clip-threshold", "p10", "-q")
        ids = session.kept()
        for id_ in ids[:3]:
            session.types("edit a caption", "edit", data, id_, "--simple", "a red disc in a row")
        session.types("score the edited", "edit", data, "--apply", "-q")
        drops = [word for id_ in ids[3:8] for word in ("--drop", id_)]
        session.types("drop five", "filter", data, *drops, "-q")
        session.types("publish", "publish", data, "--set=publish.licence=cc-by-4.0", "-q")
        for n, entry in enumerate(entries[images:]):
            written(entry, n % 6, outputs, f"new-{n:03d}")
        session.types("look again", "collect", data, "--refresh", "-q")
        session.types("50 images more", *build)
        gone = sorted(outputs.rglob("*.jpg"))[:20]
        for path in gone:
            path.unlink()
        session.types("look again", "collect", data, "--refresh", "-q")
        session.types("20 images fewer", *build)
        (outputs / "2026-02").rename(outputs / "holiday")
        session.types("look again", "collect", data, "--refresh", "-q")
        session.types("a folder renamed", *build)
        started = time.perf_counter()
        published = sum(
            pq.read_metadata(path).num_rows for path in (data / "dataset").rglob("*.parquet")
        )
        say(f"load: {published:,} samples in {time.perf_counter() - started:.1f} s")
        session.types("export to kohya", "export", data, "kohya", "-o", scratch / "kohya", "-q")
        session.types("train 20 steps", "train-adapter", data, *TRAINED, "-q")
    facts = hardware(["surd"])
    cells = [
        [str(row["step"]), f"{row['wall_s']:.1f}", *(str(row["pictures"].get(k, 0)) for k in GIVEN)]
        for row in session.rows
    ]
    print(hardware_line(facts))
    print(format_table(["step", "seconds", *GIVEN], cells))
    write_results("folder", {"hardware": facts, "images": images, "steps": session.rows})


if __name__ == "__main__":
    main()
