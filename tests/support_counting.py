"""Stand-ins for every model of a build, that note each row they are given.

Run as a script, it is ``surd`` with these models. ``NOTES`` is the file they write to; with
``STOP="caption 100"`` the process kills itself once that model was given so many rows.
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from surd.llm.batches import Embedder
from surd.models import captioner, clip, preference, safety

SETTINGS = {
    "download.perceptual_hash": "false",
    "caption.model": "demo:captioner",
    "caption.given": "ignore",
    "score.clip": "demo:clip",
    "score.aesthetic_head": "head.pth",
    "score.itm": "demo:captioner",
    "filter.clip_threshold": "-1",
    "filter.complex_threshold": "null",
    "filter.min_side": "null",
    "filter.duplicates": "[]",
}
"""Names of models that are there, none of which is loaded."""


class Notes:
    """What the models were given, in a file, so that it outlives the process."""

    def __init__(self, path: Path, stop: Callable[[Counter[str]], None]) -> None:
        self._path = path
        self._stop = stop
        self._rows = Counter[str]()

    def take(self, model: str, rows: Sequence[object]) -> None:
        with self._path.open("a") as file:
            file.writelines(f"{model} {row}\n" for row in rows)
        self._rows[model] += len(rows)
        self._stop(self._rows)


def counted(path: Path) -> Counter[str]:
    """Model -> rows it was given."""
    lines = path.read_text().splitlines() if path.exists() else []
    return Counter(line.split()[0] for line in lines)


def numbers(content: bytes, count: int = 8) -> torch.Tensor:
    """A vector of unit length, of a text or picture."""
    digest = hashlib.blake2b(content, digest_size=count).digest()
    return torch.nn.functional.normalize(torch.tensor(list(digest)).float() + 1, dim=0)


def name_of(image: Image.Image) -> str:
    return hashlib.blake2b(image.resize((8, 8)).tobytes(), digest_size=6).hexdigest()


class StandInClip:
    """Of CLIP what scoring asks for."""

    side_px = 8

    def __init__(self, notes: Notes) -> None:
        self._notes = notes

    def preprocess(self, image: Image.Image) -> torch.Tensor:
        return torch.tensor(list(bytes.fromhex(name_of(image)))).float()

    def embed_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        self._notes.take("score", [bytes(row.byte().tolist()).hex() for row in pixels])
        return torch.stack([numbers(bytes(row.byte().tolist())) for row in pixels])

    def embed_texts(self, texts: Sequence[str]) -> torch.Tensor:
        return torch.stack([numbers(text.encode()) for text in texts])

    def split(self, text: str) -> list[str]:
        return [text]

    def count_tokens(self, text: str) -> int:
        return len(text)


def stand_ins(notes: Notes) -> Iterator[tuple[object, str, Any]]:
    """What is to be put where."""

    def propose(pictures: Sequence[bytes], *_: object) -> list[list[captioner.Proposal]]:
        names = [picture.decode() for picture in pictures]
        notes.take("caption", names)
        return [[captioner.Proposal(f"a picture of {name}", "beam")] for name in names]

    def of_embeddings(embeddings: torch.Tensor) -> torch.Tensor:
        notes.take("aesthetic", range(len(embeddings)))
        return embeddings[:, 0]

    def of_images(model: str) -> Callable[..., list[float]]:
        def score(images: Sequence[Image.Image], *_: object) -> list[float]:
            notes.take(model, [name_of(image) for image in images])
            return [image.size[0] / 1000 for image in images]

        return score

    compute = Embedder._compute

    def embed(self: Embedder, texts: Sequence[Sequence[int]]) -> Any:
        notes.take("embed", texts)
        return compute(self, texts)

    stand_in = captioner.Captioner(lambda image: name_of(image).encode(), propose, 8)
    yield captioner, "load_captioner", lambda *_, **__: stand_in
    yield clip, "load_clip", lambda *_, **__: StandInClip(notes)
    yield preference, "load_aesthetic_head", lambda *_: of_embeddings
    yield preference, "load_itm", lambda *_, **__: of_images("itm")
    yield safety, "load_nsfw", lambda: of_images("nsfw")
    yield Embedder, "_compute", embed


def _kill(rows: Counter[str]) -> None:
    model, count = os.environ.get("STOP", "none 1").split()
    if rows[model] >= int(count):
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    from surd.cli import app

    for owner, name, value in stand_ins(Notes(Path(os.environ["NOTES"]), _kill)):
        setattr(owner, name, value)
    sys.argv[0] = "surd"
    app.main()
