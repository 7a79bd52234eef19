"""What a run left in its folder, as far as it came: everything here may be missing or cut off."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from surd.errors import SurdError
from surd.training.logs import LOG_FILE, SCORES_FILE, Line, read_log
from surd.untrusted import open_regular, parse_json, read_regular

_LAST_S = 2.0**40
"""Seconds since 1970 in which no computer trains any more."""


@dataclass(frozen=True)
class Run:
    """A training run's folder."""

    folder: Path
    settings: Mapping[str, Any]
    """Of train-adapter."""
    step: int | None
    """The last one that was taken."""
    samples: int | None
    """It learned from; None where the run is not finished."""
    trained: bool
    """Whether the adapter is there."""
    losses: Sequence[Line]
    scores: Sequence[Line]
    """Of the pictures drawn while training."""
    seconds: float | None
    """In which its steps were taken; None where no tracker noted it."""

    def whole(self, setting: str) -> int | None:
        """A setting that is a whole number; None where it is not there."""
        return _whole(self.settings.get(setting))

    def number(self, setting: str) -> float | None:
        """A setting that is a number; None where it is not there."""
        value = self.settings.get(setting)
        return value if isinstance(value, float) else _whole(value)

    @property
    def name(self) -> str:
        """Of the folder."""
        return self.folder.resolve().name

    @property
    def id(self) -> str:
        """For anchors: letters, digits and hyphens, different for each name."""
        return anchor("adapter", self.name)


def read_run(folder: str | Path) -> Run | None:
    """The run in a folder; None where none was begun. Raises SurdError for a broken file."""
    folder = Path(folder)
    config = read_json(folder / "adapter_config.json")
    settings = read_json(folder / "settings.json") or (config or {}).get("training")
    if settings is None:
        return None
    if not isinstance(settings, dict):
        raise SurdError(f"{folder / 'adapter_config.json'}: training: not an object")
    losses, scores = read_log(folder / LOG_FILE), read_log(folder / SCORES_FILE)
    last = int(losses[-1]["step"]) if losses else _whole((config or {}).get("step"))
    return Run(
        folder,
        settings,
        last,
        _whole((config or {}).get("samples")),
        (folder / "adapter_model.safetensors").is_file(),
        losses,
        scores,
        seconds_of(folder),
    )


def _whole(value: object) -> int | None:
    """A number of steps, samples and the like."""
    is_one = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53
    return value if is_one else None  # type: ignore[return-value]


def read_json(path: Path) -> dict[str, Any] | None:
    """An object; None where there is no such file. Raises SurdError."""
    try:
        found = parse_json(read_regular(path))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise SurdError(
            f"{path}: cannot be read: {error}; rerun the command that wrote it"
        ) from error
    if not isinstance(found, dict):
        raise SurdError(f"{path}: not a JSON object; rerun the command that wrote it")
    return found


def anchor(*names: str) -> str:
    """Names as one id: what is no letter or digit becomes a hyphen, with a digest to tell apart."""
    whole = "-".join(names)
    plain = re.sub(r"[^A-Za-z0-9]+", "-", whole).strip("-")
    if plain == whole:
        return plain
    return f"{plain}-{hashlib.sha256(whole.encode('utf-8', 'replace')).hexdigest()[:6]}"


def seconds_of(folder: Path) -> float | None:
    """From first to last event of each stretch of the training, by TensorBoard's files."""
    spans = []
    for path in sorted(folder.glob("*/events.out.tfevents.*")):
        times = list(_event_times(path))
        if times:
            spans.append(max(times) - min(times))
    return sum(spans) if spans else None


def _event_times(path: Path) -> Iterator[float]:
    """When each event happened, in seconds.

    A record is its length (uint64), a checksum of 4 bytes, the event, and another checksum; an
    event begins with field 1, its wall_time, as a double
    (https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/util/event.proto).
    """
    import struct

    with suppress(OSError), open_regular(path) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        while len(head := file.read(12 + 9)) == 12 + 9:
            length, field = struct.unpack_from("<Q4xB", head)
            (time_s,) = struct.unpack_from("<d", head, 13)
            if field != 0x09 or not 9 <= length <= size or not 0 <= time_s < _LAST_S:
                return
            yield time_s
            file.seek(length - 9 + 4, os.SEEK_CUR)
