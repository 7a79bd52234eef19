"""WebDataset: tar files of samples, each an image, a text and a JSON object.

https://github.com/webdataset/webdataset#the-webdataset-format; numbered and filled as img2dataset
does it: 00000.tar, with KEY.jpg, KEY.txt and KEY.json in each.
"""

from __future__ import annotations

import io
import json
import math
import tarfile
from collections.abc import Iterator
from typing import Any

from surd.dataset.columns import EXTENSIONS
from surd.dataset.export.job import Job
from surd.dataset.published import Picture

_MAX_SAMPLES = 10_000
_MAX_BYTES = 1_000_000_000

_Sample = tuple[Picture, str]


def write_webdataset(job: Job) -> None:
    """``SPLIT/00000.tar`` and on, of at most 10,000 samples or a gigabyte each."""
    for split in job.dataset.splits:
        (job.folder / split).mkdir()
        samples = (
            (picture, text) for picture, (text,) in job.captioned(split, EXTENSIONS.values())
        )
        for number, shard in enumerate(_shards(samples)):
            path = job.folder / split / f"{number:05d}.tar"
            with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
                for picture, text in shard:
                    for name, content in _members(picture, text):
                        tar.addfile(_entry(name, len(content)), io.BytesIO(content))


def _shards(samples: Iterator[_Sample]) -> Iterator[Iterator[_Sample]]:
    """Cut a stream into streams; each is to be used up before the next is asked for."""
    first = next(samples, None)

    def shard(start: _Sample) -> Iterator[_Sample]:
        nonlocal first
        count, size, sample = 0, 0, start
        while True:
            yield sample
            count, size = count + 1, size + len(sample[0].data)
            first = next(samples, None)
            if first is None or count == _MAX_SAMPLES or size + len(first[0].data) > _MAX_BYTES:
                return
            sample = first

    while first is not None:
        yield shard(first)


def _members(picture: Picture, text: str) -> Iterator[tuple[str, bytes]]:
    told = {name: _json_value(value) for name, value in picture.fields.items()}
    told |= {"key": picture.id, "caption": text, "status": "success"}
    yield f"{picture.id}.{picture.extension}", picture.data
    yield f"{picture.id}.txt", text.encode()
    yield f"{picture.id}.json", json.dumps(told, allow_nan=False).encode()


def _json_value(value: Any) -> Any:
    """JSON knows no NaN."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _entry(name: str, size: int) -> tarfile.TarInfo:
    """Without time or owner, so that equal samples make equal files."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, 0o644
    return entry
