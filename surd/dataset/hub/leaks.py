"""What strangers should not read in what is to be sent: paths of machines, keys, e-mail addresses.

Texts and all columns but the images are read whole, and every image's metadata; where that would
take too long, the first images. What is found is told with its place and an example, keys masked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from surd.dataset.hub.contents import Contents
from surd.dataset.published import Shard, open_published, opened
from surd.files.carriers.find import hidden_texts_in, texts_in
from surd.url_secrets import secret_in

IMAGES = 2_000
"""How many images of a dataset are looked into."""
_PATTERNS = {
    "path": r"\b[A-Za-z]:\\{1,2}Users\\{1,2}[^\\\s\"']+|(?:^|[\s\"'=(,:])/(?:home|Users|root|mnt|"
    r"media|data|workspace|scratch)/[\w.-]+/?|\\\\[\w.-]+\\[\w$.-]+",
    "key": r"\b(?:hf_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9_-]{20,}|gh[pousr]_[A-Za-z0-9]{20,}|"
    r"github_pat_\w{20,}|AKIA[0-9A-Z]{16}|AIza[\w-]{35}|xox[abp]-[\w-]{10,}|glpat-[\w-]{20,})"
    r"|(?i:\b(?:api[_-]?key|access[_-]?token|auth[_-]?token|secret|password|passwd)\b"
    r"[\"']?\s*[:=]\s*[\"']?[^\s\"',}]{6,})|-----BEGIN [A-Z ]*PRIVATE KEY-----",
    "e-mail address": r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,}\b",
}
_FOUND = {kind: re.compile(pattern) for kind, pattern in _PATTERNS.items()}
_HINTS = r"(?i)[\\/@]|key|token|secret|passw|[a-z]{2,3}_[a-z0-9]{20}|sk-|akia|aiza|xox|glpat"
"""For Arrow: a text that may hold any of these."""
_BATCH_ROWS = 100
_SHOWN_CHARS = 60


@dataclass
class Leak:
    """One kind of finding in one place."""

    kind: str
    """path, key or e-mail address."""
    where: str
    """A file, or the column of a dataset."""
    count: int
    example: str
    sample: str | None = None
    """Id of the first sample that has it."""


@dataclass(frozen=True)
class Scan:
    """What was found, and how far was looked."""

    leaks: list[Leak]
    images: int
    images_seen: int


def scan(contents: Contents) -> Scan:
    """Look through all that would be sent. Raises SurdError where a file is damaged."""
    leaks: dict[tuple[str, str], Leak] = {}
    images = seen = 0
    for file in contents.files:
        if isinstance(file.content, bytes):
            text = file.content.decode(errors="replace")
            for line in text.splitlines():
                _note(leaks, file.name, line, None)
    if contents.kind == "dataset":
        dataset = open_published(contents.location)
        for shard in dataset.files:
            with opened(dataset, shard) as parquet:
                seen += _shard(leaks, parquet, IMAGES - seen)
        images = sum(dataset.splits.values())
    return Scan(list(leaks.values()), images, seen)


def leaks_in(text: str) -> Iterator[tuple[str, str]]:
    """Kind and words of everything in a text, keys masked."""
    for kind, pattern in _FOUND.items():
        for match in pattern.finditer(text):
            words = match[0].strip(" \t\n\"'=(,:")
            yield kind, _masked(words) if kind == "key" else words[:_SHOWN_CHARS]
    if (secret := secret_in(text)) is not None:
        yield "key", f"{secret} in a url"


def _shard(leaks: dict[tuple[str, str], Leak], shard: Shard, wanted: int) -> int:
    """Look through a file; into how many of its images was looked, at most `wanted`."""
    schema = shard.parquet.schema_arrow
    texts = [field.name for field in schema if _is_text(field.type)]
    for table in shard.batches(texts, 10_000):
        for name in texts:
            _column(leaks, name, pa.table({"id": table["id"], "text": table[name]}))
    looked = 0
    for table in shard.batches(["id", "image"], _BATCH_ROWS) if wanted > 0 else ():
        files = pc.struct_field(table["image"], "bytes").to_pylist()
        for id_, data in zip(table["id"].to_pylist(), files, strict=True):
            if looked == wanted:
                return looked
            looked += 1
            for text in (*texts_in(data), *hidden_texts_in(data)):
                _note(leaks, f"images ({text.where})", text.value, id_)
    return looked


def _is_text(type_: pa.DataType) -> bool:
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_))


def _column(leaks: dict[tuple[str, str], Leak], name: str, table: pa.Table) -> None:
    if name in ("id", "sha256", "cluster"):
        return
    may = pc.fill_null(pc.match_substring_regex(table["text"], _HINTS), False)
    if name in ("url", "page_url"):  # whose words are no texts
        may = pc.and_(may, pc.fill_null(pc.match_substring_regex(table["text"], "[@?]"), False))
    for row in table.filter(may).to_pylist():
        _note(leaks, name, row["text"], row["id"])


def _note(leaks: dict[tuple[str, str], Leak], where: str, text: str, id_: str | None) -> None:
    for kind, words in leaks_in(text):
        if (kind, where) in leaks:
            leaks[kind, where].count += 1
        else:
            leaks[kind, where] = Leak(kind, where, 1, words, id_)


def _masked(key: str) -> str:
    """Enough to find it by, and no more."""
    name, mark, value = key.rpartition("=" if "=" in key else ":")
    start = value.strip(" \"'")[:4] if mark else key[:6]
    return f"{name}{mark}{start}***"


def told(found: Scan) -> Iterator[str]:
    """A line for each finding, and one for what was looked at."""
    for leak in found.leaks:
        example = f"{leak.example!r}" + (f" in sample {leak.sample}" if leak.sample else "")
        several = f", {leak.count:,} times" if leak.count > 1 else ""
        yield f"{leak.where}: {leak.kind}{several}, such as {example}"
    if found.images > found.images_seen:
        yield f"of {found.images:,} images, the first {found.images_seen:,} were looked into"


def as_json(found: Scan) -> dict[str, Any]:
    """For machines."""
    return {
        "leaks": [vars(leak) for leak in found.leaks],
        "images": found.images,
        "images_seen": found.images_seen,
    }
