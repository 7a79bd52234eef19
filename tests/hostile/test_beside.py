"""Text files and tables of strangers: none makes reading slower than its length."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path

import pytest

from surd.files.text_encoding import decode_text
from surd.sources.folder import FolderSource
from surd.sources.folder import pages as folder_pages
from surd.sources.table import TableSource
from surd.sources.table import pages as table_pages
from surd.sources.text_file import read_text

N = 200_000
TEXTS = {
    "digits": "a:" + "1" * N,
    "colons": "a: " * N,
    "brackets": "(" * N,
    "closing": ":1)" * N,
    "underscores": "_" * N,
    "tags open": "<a:" * N,
    "letters": "a" * N,
    "spaces": "a" + " " * N + "b",
    "commas": "a," * N,
    "lines": "prompt: a\n" * (N // 10),
    "negative": "Negative prompt:\n" * (N // 10),
    "steps": "Steps: 1\n" * (N // 10),
    "settings": "a\nSteps: 1, " + "a " * N,
    "json": "[" * N,
    "list": "['" + "a" * N,
    "quotes": "'" * N,
    "high": "é" * N,
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_no_text_file_takes_more_time_than_its_length(text: str) -> None:
    started = time.process_time()
    read_text(text).settled()
    assert time.process_time() - started < 5


@pytest.mark.parametrize("data", [bytes(N), b"\xff" * N, b"\x81\x40" * N, b"\x93\xfa" * N])
def test_no_bytes_take_long_to_be_text_or_none(data: bytes) -> None:
    started = time.process_time()
    with contextlib.suppress(ValueError):
        decode_text(data)
    assert time.process_time() - started < 10


def test_many_rows_of_one_image_take_no_longer_than_others(tmp_path: Path) -> None:
    rows = [{"file_name": "a.png", "text": f"caption {i}", "n": i} for i in range(30_000)]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "a.png").write_bytes(b"")
    started = time.process_time()
    (page,) = folder_pages(FolderSource(path=str(tmp_path)), None)
    assert len(page.records[0].captions) == 29_998
    table = TableSource(path=str(tmp_path / "metadata.jsonl"))
    (page,) = table_pages(table, None)
    assert len(page.records[0].captions) == 29_998
    assert time.process_time() - started < 30
