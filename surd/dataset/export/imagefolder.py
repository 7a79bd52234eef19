"""The form of the published SURD dataset: an imagefolder with ``metadata.jsonl``.

https://huggingface.co/docs/datasets/image_dataset#imagefolder
"""

from __future__ import annotations

import json
from pathlib import Path

from surd.dataset.published import Published, pictures
from surd.progress import Tick

_PER_FOLDER = 10_000
"""What the Hub allows in one folder, the metadata not counted."""


def write_imagefolder(dataset: Published, out: Path, tick: Tick) -> None:
    """``SPLIT/metadata.jsonl`` with file_name, text (simple) and prompt (complex), and images.

    The lines are ASCII: whatever a prompt holds, a line is one line.
    """
    for split in dataset.splits:
        folder = out / split
        folder.mkdir()
        with (folder / "metadata.jsonl").open("w", encoding="ascii", newline="\n") as lines:
            for number, picture in enumerate(pictures(dataset, split)):
                name = f"{number // _PER_FOLDER:05d}/{picture.id}.{picture.extension}"
                if number % _PER_FOLDER == 0:
                    (folder / name).parent.mkdir()
                (folder / name).write_bytes(picture.data)
                said = {
                    "file_name": name,
                    "text": picture.fields["simple_prompt"],
                    "prompt": picture.fields["complex_prompt"],
                }
                lines.write(json.dumps(said) + "\n")
                tick({"ok": 1})
