"""WebDataset: tar files of samples, each an image, its simple prompt and a JSON object.

https://github.com/webdataset/webdataset#the-webdataset-format; numbered and filled as img2dataset
does it: 00000.tar, with KEY.jpg, KEY.txt and KEY.json in each.
"""

from __future__ import annotations

import io
import json
import math
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from surd.dataset.published import Picture, Published, pictures
from surd.progress import Tick

_MAX_SAMPLES = 10_000
_MAX_BYTES = 1_000_000_000


def write_webdataset(dataset: Published, out: Path, tick: Tick) -> None:
    """``SPLIT/00000.tar`` and on, of at most 10,000 samples or a gigabyte each."""
    for split in dataset.splits:
        (out / split).mkdir()
        for number, samples in enumerate(_shards(pictures(dataset, split))):
            path = out / split / f"{number:05d}.tar"
            with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
                for picture in samples:
                    for name, content in _members(picture):
                        tar.addfile(_entry(name, len(content)), io.BytesIO(content))
                    tick({"ok": 1})


def _shards(samples: Iterator[Picture]) -> Iterator[Iterator[Picture]]:
    """Cut a stream into streams; each is to be used up before the next is asked for."""
    first = next(samples, None)

    def shard(start: Picture) -> Iterator[Picture]:
        nonlocal first
        count, size, picture = 0, 0, start
        while True:
            yield picture
            count, size = count + 1, size + len(picture.data)
            first = next(samples, None)
            if first is None or count == _MAX_SAMPLES or size + len(first.data) > _MAX_BYTES:
                return
            picture = first

    while first is not None:
        yield shard(first)


def _members(picture: Picture) -> Iterator[tuple[str, bytes]]:
    text = picture.fields["simple_prompt"]
    said = {name: _json_value(value) for name, value in picture.fields.items()}
    said |= {"key": picture.id, "caption": text, "status": "success"}
    yield f"{picture.id}.{picture.extension}", picture.data
    yield f"{picture.id}.txt", text.encode()
    yield f"{picture.id}.json", json.dumps(said, allow_nan=False).encode()


def _json_value(value: Any) -> Any:
    """JSON knows no NaN."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _entry(name: str, size: int) -> tarfile.TarInfo:
    """Without time or owner, so that equal samples make equal files."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, 0o644
    return entry
