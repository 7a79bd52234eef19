"""All of the demo's models, one after the other."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch
from transformers import CLIPTokenizer

from surd.errors import SurdError
from surd.models.clip import load_clip
from surd.models.devices import device_named
from surd.store.storage import Storage, local_path
from tools.demo_models.autoencoder import train_autoencoder
from tools.demo_models.captioner import train_captioner
from tools.demo_models.clip import train_clip
from tools.demo_models.diffusion import text_encoder_of, train_diffusion
from tools.demo_models.painted import paint_split

PICTURES_OF_A_SCENE = 20
PICTURES_OF_A_PAIR = 3
STEPS = {
    "clip": 2000,
    "captioner": 3000,
    "text_encoder": 1500,
    "autoencoder": 2500,
    "diffusion": 6000,
}
_MARK = "surd-demo-models.json"
"""Marks a folder whose models may be replaced."""


def train_all(
    output: Path,
    *,
    device: str | None = None,
    steps_scale: float = 1.0,
    pictures_of_a_scene: int = PICTURES_OF_A_SCENE,
    pictures_of_a_pair: int = PICTURES_OF_A_PAIR,
) -> None:
    """Train clip, captioner and diffusion into folders of `output`.

    Checkpoints and painted pictures stay in ``output/work``: run again, training goes on from the
    last checkpoint (one a minute) and ends with the same weights. On one machine the same seeds
    give the same weights. About four hours on 2 cores. Raises ModelError for a device that is
    not there, SurdError for a folder that holds something else.
    """
    output = local_path(output)
    _claim(output)
    place = device_named(device or "auto")
    work = output / "work"
    steps = {name: max(1, round(count * steps_scale)) for name, count in STEPS.items()}
    pictures = paint_split("train", pictures_of_a_scene, pictures_of_a_pair, seed=1, cache=work)
    with _whole(output / "clip") as folder:
        train_clip(pictures, folder, work / "clip.ckpt", steps=steps["clip"], device=place)
    clip = load_clip(str(output / "clip")).model
    with _whole(output / "captioner") as folder:
        train_captioner(
            pictures,
            clip.visual,
            folder,
            work / "captioner.ckpt",
            steps=steps["captioner"],
            device=place,
        )
    with _whole(work / "text_encoder") as folder:  # an older CLIP, that knows less of the language
        train_clip(
            pictures,
            folder,
            work / "text_encoder.ckpt",
            steps=steps["text_encoder"],
            device=place,
            plain=True,
        )
    older = load_clip(str(work / "text_encoder")).model
    autoencoder = train_autoencoder(
        pictures, work / "autoencoder.ckpt", steps=steps["autoencoder"], device=place
    )
    tokenizer = CLIPTokenizer.from_pretrained(work / "text_encoder")
    pipeline = train_diffusion(
        pictures,
        autoencoder,
        text_encoder_of(older, tokenizer),
        tokenizer,
        work / "diffusion.ckpt",
        steps=steps["diffusion"],
        device=place,
    )
    with _whole(output / "diffusion") as folder:
        pipeline.to(torch.float16).save_pretrained(folder)


def _claim(output: Path) -> None:
    """Mark the folder as surd's. Raises SurdError where it holds what surd did not make."""
    ours = (output / _MARK).is_file() or any(output.glob("work/train-*-*.npy"))  # of before
    if not ours and output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise SurdError(
            f"{output}: holds what this training did not make; choose a new or empty folder"
        )
    text = json.dumps({"format": "surd-demo-models-1"}) + "\n"
    Storage(str(output)).write_bytes(_MARK, text.encode())


@contextlib.contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    """A folder to fill, which takes the other's place when the block ends without error."""
    temporary = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    yield temporary
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)
