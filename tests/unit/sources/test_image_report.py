"""``surd inspect FILE``: what an image holds, how it was read, and what was not understood."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image, PngImagePlugin

INFOTEXT = "a clay fox, (lamp:1.2)\nNegative prompt: blurry\nSteps: 12, Seed: 3, Model: base"


def write(path: Path, **texts: str) -> Path:
    info = PngImagePlugin.PngInfo()
    for keyword, text in texts.items():
        info.add_text(keyword, text)
    Image.new("RGB", (8, 6)).save(path, pnginfo=info)
    return path


def test_an_image_file_is_shown_with_all_it_tells(surd: Any, tmp_path: Path) -> None:
    file = write(
        tmp_path / "fox.png", parameters=INFOTEXT, Note="seen near the old\x1b harbour wall"
    )
    ran = surd("inspect", file)
    assert ran.code == 0
    for line in (
        "image/png, 8 x 6",
        "  PNG parameters (78 characters): a clay fox, (lamp:1.2)\\nNegative",
        "read as: AUTOMATIC1111",
        "prompt from: PNG parameters",
        "complex prompt: a clay fox, lamp",
        "negative prompt: blurry",
        "model: base",
        "  seed: 3",
        "not understood:\n  PNG Note: seen near the old\\x1b harbour wall",
        "collected:\n  prompt: a clay fox, (lamp:1.2)",
    ):
        assert line in ran.out, ran.out
    told = surd("inspect", file, "--json").json
    assert told["prompt"] == told["collected"]["prompt"] == "a clay fox, (lamp:1.2)"
    assert [text["where"] for text in told["texts"]] == ["PNG parameters", "PNG Note"]


def test_what_lies_beside_the_file_is_shown_too(surd: Any, tmp_path: Path) -> None:
    write(tmp_path / "a.png")
    (tmp_path / "b.txt").write_text("a red kite")
    told = surd("inspect", write(tmp_path / "b.png"), "--json").json
    assert (told["texts"], told["generator"], told["prompt"]) == ([], None, None)
    assert told["collected"]["prompt"] == "a red kite"
    assert told["collected"]["beside"] == ["b.txt"]
    ran = surd("inspect", tmp_path / "a.png")
    assert ran.out.endswith(
        "texts: none\ncollected:\n  no prompt; surd found none in the file and none beside it\n"
    )


def test_the_files_that_were_read_beside_it_are_named(surd: Any, tmp_path: Path) -> None:
    write(tmp_path / "a.png")
    (tmp_path / "a.txt").write_bytes(b"\x01\x02 a cup\x00\x03")
    (tmp_path / "a.json").write_text('{"tags": "cup, mug"}')
    (tmp_path / "metadata.csv").write_text("file_name,text\na.png,a cup\n")
    (tmp_path / "captions.jsonl").write_text('{"file_name": "b.png", "text": "of another"}')
    ran = surd("inspect", tmp_path / "a.png")
    assert "  beside: a.txt, a.json, metadata.csv\n" in ran.out
    assert "  problem: a.txt: holds zero bytes" in ran.out


@pytest.mark.parametrize(
    ("content", "arguments", "told"),
    [
        (b"name: x\n", [], "no image"),
        (b"", [], "no image (empty: zero bytes); give an image or a workspace"),
        (b"\x89PNG", ["red"], "a file takes no QUERY"),
    ],
)
def test_a_file_that_is_no_image_is_refused_in_one_line(
    surd: Any, tmp_path: Path, content: bytes, arguments: list[str], told: str
) -> None:
    (tmp_path / "x.yaml").write_bytes(content)
    ran = surd("inspect", tmp_path / "x.yaml", *arguments)
    assert ran.code == 2
    assert told in ran.err
    assert ran.err.count("\n") == 1
