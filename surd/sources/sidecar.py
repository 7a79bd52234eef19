"""What lies beside an image: its caption as text, its fields as JSON, a line of metadata.jsonl."""

from __future__ import annotations

import json
import logging
import math
import posixpath
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, time
from decimal import Decimal
from typing import Any

Read = Callable[[str], "bytes | None"]
"""Bytes of a file by relative path: None when it is not there, OSError when it is unreadable."""

PROMPT_KEYS = ("prompt", "complex_prompt")
CAPTION_KEYS = ("caption", "text")
"""The prompt where there is no other; beside a prompt, the simple prompt."""
SIMPLE_PROMPT_KEYS = ("simple_prompt", "simple", "blip_caption")
NEGATIVE_PROMPT_KEYS = ("negative_prompt", "negativePrompt")
MODEL_KEYS = ("model", "Model")
TEXT_SUFFIXES = (".txt", ".caption")
METADATA_FILE = "metadata.jsonl"
"""Hugging Face imagefolder: one JSON object a line, ``file_name`` relative to its folder."""

log = logging.getLogger("surd")


def json_able(value: Any, depth: int = 50) -> Any:
    """``value`` as JSON can hold it.

    NaN, infinities, bytes, and what is nested deeper than ``depth`` become null; unknown types
    their text.
    """
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, (float, Decimal)):
        number = float(value)
        return number if math.isfinite(number) else None
    if isinstance(value, (bytes, bytearray, memoryview)):
        return None
    if isinstance(value, Mapping):
        return {str(k): json_able(v, depth - 1) for k, v in value.items()} if depth else None
    if isinstance(value, (list, tuple)):
        return [json_able(item, depth - 1) for item in value] if depth else None
    return value.isoformat() if isinstance(value, (date, time)) else str(value)


def decode_text(data: bytes) -> str:
    """Text of a small file: UTF-8 or UTF-16 by their marks, else UTF-8, else Latin-1."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


@dataclass(frozen=True, slots=True)
class Sidecar:
    """What the files beside an image say of it."""

    prompt: str | None = None
    negative_prompt: str | None = None
    model: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    simple_prompt: str | None = None

    def over(self, other: Sidecar) -> Sidecar:
        """This, with ``other`` where this says nothing."""
        return Sidecar(
            self.prompt or other.prompt,
            self.negative_prompt or other.negative_prompt,
            self.model or other.model,
            {**other.settings, **self.settings},
            self.simple_prompt or other.simple_prompt,
        )


def flattened(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a JSON object; those of Civitai's ``meta``, nested once or twice, among them."""
    rest = dict(fields)
    while isinstance(rest.get("meta"), dict):
        rest |= rest.pop("meta")
    return rest


def from_fields(fields: Mapping[str, Any]) -> Sidecar:
    """Sidecar of a JSON object."""
    rest = flattened(fields)
    prompt = _take(rest, PROMPT_KEYS)
    simple_prompt = _take(rest, SIMPLE_PROMPT_KEYS)
    if prompt is None:
        prompt = _take(rest, CAPTION_KEYS)
    elif simple_prompt is None:
        simple_prompt = _take(rest, CAPTION_KEYS)
    negative_prompt = _take(rest, NEGATIVE_PROMPT_KEYS)
    model = _take(rest, MODEL_KEYS)
    return Sidecar(prompt, negative_prompt, model, json_able(rest), simple_prompt)


def _take(fields: dict[str, Any], keys: tuple[str, ...]) -> str | None:
    """Remove and return the first of ``keys`` that holds words."""
    for key in keys:
        value = fields.get(key)
        if isinstance(value, str) and value.strip():
            return str(fields.pop(key)).strip()
    return None


class Sidecars:
    """Finds what lies beside each image of one folder or archive.

    For ``a/b.png``: the words of ``a/b.png.txt``, ``a/b.png.caption``, ``a/b.txt`` or
    ``a/b.caption``; the fields of ``a/b.png.json`` or ``a/b.json``; the line of the nearest
    ``metadata.jsonl`` that names it. The first of each is read; words win over fields, and
    fields over the line.
    """

    def __init__(self, read: Read) -> None:
        self._read = read
        self._tables: dict[str, dict[str, bytes]] = {}

    def of(self, name: str) -> Sidecar:
        """What lies beside the image ``name``; what cannot be read is told in the settings."""
        stem = posixpath.splitext(name)[0]
        texts = [base + suffix for base in (name, stem) for suffix in TEXT_SUFFIXES]
        found = self._row(name)
        found = self._first([f"{name}.json", f"{stem}.json"], _parse_json).over(found)
        return self._first(texts, _parse_text).over(found)

    def _first(self, names: list[str], parse: Callable[[bytes], Sidecar]) -> Sidecar:
        for name in names:
            try:
                data = self._read(name)
                if data is not None:
                    return parse(data)
            except (OSError, ValueError, RecursionError) as error:
                return Sidecar(settings={"sidecar_error": f"{posixpath.basename(name)}: {error}"})
        return Sidecar()

    def _row(self, name: str) -> Sidecar:
        """The line on ``name`` in the nearest metadata.jsonl, in its folder or above."""
        folders = list(_folders_of(name))
        self._tables = {
            folder: self._tables[folder] if folder in self._tables else self._table(folder)
            for folder in folders
        }
        for folder in folders:
            line = self._tables[folder].get(posixpath.relpath(name, folder or "."))
            if line is not None:
                sidecar = from_fields(json.loads(line))
                settings = {k: v for k, v in sidecar.settings.items() if k != "file_name"}
                return replace(sidecar, settings=settings)
        return Sidecar()

    def _table(self, folder: str) -> dict[str, bytes]:
        """Lines of ``folder``'s metadata.jsonl by file name, unparsed since that is smaller."""
        path = posixpath.join(folder, METADATA_FILE)
        try:
            data = self._read(path) or b""
        except OSError as error:
            log.warning("%s: %s; use a table source to read it line by line", path, error)
            return {}
        table: dict[str, bytes] = {}
        bad: list[int] = []
        for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
            try:
                if line.strip():
                    table[posixpath.normpath(json.loads(line)["file_name"])] = line
            except (ValueError, TypeError, KeyError, RecursionError):
                bad.append(number)
        if bad:
            reason = "not a JSON object with file_name"
            log.warning("%s: line %d: %s; %d such lines skipped", path, bad[0], reason, len(bad))
        return table


def _parse_text(data: bytes) -> Sidecar:
    return Sidecar(prompt=decode_text(data).strip() or None)


def _parse_json(data: bytes) -> Sidecar:
    fields = json.loads(decode_text(data))
    if not isinstance(fields, dict):
        raise ValueError(f"expected a JSON object, not {type(fields).__name__}")
    return from_fields(fields)


def _folders_of(name: str) -> Iterator[str]:
    """Folders above ``name``, nearest first; the top is the empty string."""
    folder = posixpath.dirname(name)
    while folder not in ("", "/"):
        yield folder
        folder = posixpath.dirname(folder)
    yield ""
