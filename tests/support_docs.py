"""What the pages say: their links, their headings, their blocks of code."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
_FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)
_CODE = re.compile(r"`[^`\n]*`")
_LINK = re.compile(r"\]\((?P<to>[^)\s]+)\)")
_HEADING = re.compile(r"^#+ (?P<words>.+)$", re.MULTILINE)


def built(folder: Path) -> Path:
    """The pages, built into the folder; a page left out, a broken link or a broken anchor fails."""
    pytest.importorskip("material", reason="mkdocs-material is not installed")
    run = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return folder


@dataclass(frozen=True)
class Block:
    """A fenced block of code."""

    language: str
    text: str
    line: int
    """Of the page, on which its text begins."""


@dataclass(frozen=True)
class Command:
    """One command of a shell block, without comment and continuation."""

    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(found["language"], found["text"], text[: found.start("text")].count("\n") + 1)
        for found in _FENCE.finditer(text)
    ]


def commands(block: Block) -> Iterator[Command]:
    """The commands of a shell block: one a line, longer where a line ends in a backslash."""
    pending, begun = "", 0
    for number, line in enumerate(block.text.splitlines(), block.line):
        pending, begun = pending + line, begun or number
        if pending.endswith("\\"):
            pending = pending[:-1].rstrip() + " "
            continue
        text = re.sub(r"(^|\s)#.*", "", pending).strip()
        if text:
            yield Command(" ".join(text.split()), begun)
        pending, begun = "", 0


def links(page: Path) -> list[str]:
    """Where a page's links lead, those in code left out."""
    text = _CODE.sub("", _FENCE.sub("", page.read_text(encoding="utf-8")))
    return [found["to"] for found in _LINK.finditer(text)]


def anchors(page: Path) -> set[str]:
    """Of a page's headings, as git hosts name them."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    return {slug(found["words"]) for found in _HEADING.finditer(text)}


def slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
