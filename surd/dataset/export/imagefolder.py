"""Folders of images with ``metadata.jsonl``, which ``datasets`` loads as an imagefolder.

https://huggingface.co/docs/datasets/image_dataset#imagefolder
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from surd.dataset.export.job import Job
from surd.dataset.published import Picture, pictures

_PER_FOLDER = 10_000
"""What the Hub allows in one folder, the metadata not counted."""
_READ = ("jpg", "png", "webp", "gif", "bmp", "tif")
"""Formats that datasets takes for images, whatever Pillow it finds."""


def write_imagefolder(job: Job) -> None:
    """``SPLIT/metadata.jsonl`` with file_name, text (simple) and prompt (complex), and images: the
    form of the published SURD dataset."""
    for split in job.dataset.splits:
        rows = ((picture, _both(picture)) for picture in pictures(job.dataset, split))
        for _ in _written(job, split, rows):
            job.done[split] += 1
            job.tick({"ok": 1})


def write_diffusers(job: Job) -> None:
    """The same with text alone, a list where several were asked for, of which diffusers' training
    scripts draw one.

    https://github.com/huggingface/diffusers/tree/main/examples/text_to_image
    """
    several = len(job.wish.columns()) > 1
    for split in job.dataset.splits:
        rows = (
            (picture, {"text": texts if several else texts[0]})
            for picture, texts in job.captioned(split, _READ)
        )
        for _ in _written(job, split, rows):
            pass


def _both(picture: Picture) -> dict[str, Any]:
    return {"text": picture.fields["simple_prompt"], "prompt": picture.fields["complex_prompt"]}


def _written(
    job: Job, split: str, rows: Iterable[tuple[Picture, Mapping[str, Any]]]
) -> Iterable[Picture]:
    """Write image and line of each. The lines are ASCII: whatever a text holds, a line is one."""
    folder = job.folder / split
    folder.mkdir()
    with (folder / "metadata.jsonl").open("w", encoding="ascii", newline="\n") as lines:
        for number, (picture, fields) in enumerate(rows):
            name = f"{number // _PER_FOLDER:05d}/{picture.id}.{picture.extension}"
            if number % _PER_FOLDER == 0:
                (folder / name).parent.mkdir()
            job.write_image(picture, folder / name)
            lines.write(json.dumps({"file_name": name, **fields}) + "\n")
            yield picture
