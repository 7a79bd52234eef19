"""Tar shards: how members make samples, what is said of them, and what may be wrong."""

from __future__ import annotations

import logging
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, PngImagePlugin
from support_shards import Files, img2dataset_row, write_tar
from support_sources import readers

from surd.errors import SourceError
from surd.sources.record import Record
from surd.sources.tar_samples import split_name
from surd.sources.webdataset import MAX_TEXT_BYTES, WebDatasetSource, pages

all_pages, records = readers(WebDatasetSource, pages)


def only(tmp_path: Path, files: Files, **options: Any) -> Record:
    (record,) = records(write_tar(tmp_path / "a.tar", files), **options)
    return record


def test_a_sample_of_img2dataset_becomes_a_record(tmp_path: Path) -> None:
    row = img2dataset_row("000000017", nsfw="UNLIKELY", author="anna", license="CC0")
    files = {"000000017.jpg": b"image", "000000017.txt": "caption 000000017", "000000017.json": row}
    path = tmp_path / "00000.tar"
    assert only(tmp_path, files).prompt == "caption 000000017"
    (record,) = records(write_tar(path, files))
    assert record == Record(
        key="00000.tar/000000017",
        source_id="000000017",
        url="https://a.example/000000017.jpg",
        path=f"{path}::000000017.jpg",
        prompt="caption 000000017",
        author="anna",
        licence="CC0",
        nsfw_level="none",
        settings={
            "key": "000000017",
            "status": "success",
            "width": 64,
            "height": 48,
            "original_width": 640,
            "original_height": 480,
            "exif": "{}",
            "sha256": "0" * 64,
        },
    )


@pytest.mark.parametrize(
    ("files", "prompt", "simple"),
    [
        ({"1.txt": " a cup\n"}, "a cup", None),
        ({"1.caption": "a cup"}, "a cup", None),
        ({"1.txt": b"\xff\xfea\x00"}, "a", None),
        ({"1.txt": "a d\xfcck".encode("latin-1")}, "a dück", None),
        ({"1.txt": ""}, None, None),
        ({}, None, None),
        ({"1.json": {"prompt": "cup, best"}}, "cup, best", None),
        ({"1.json": {"caption": "a cup"}}, "a cup", None),
        ({"1.json": {"prompt": "cup, best", "caption": "a cup"}}, "cup, best", "a cup"),
        ({"1.json": {"prompt": "cup, best"}, "1.txt": "a cup"}, "cup, best", "a cup"),
        ({"1.json": {"prompt": "a cup"}, "1.txt": "a cup"}, "a cup", None),
        ({"1.json": {"caption": "cup"}, "1.txt": "a cup"}, "a cup", "cup"),
        ({"1.json": {"simple_prompt": "a cup"}, "1.txt": "cup, best"}, "cup, best", "a cup"),
        ({"1.prompt.txt": "cup, best", "1.simple_prompt.txt": "a cup"}, "cup, best", "a cup"),
        ({"1.prompt": "cup, best", "1.txt": "a cup"}, "cup, best", "a cup"),
        ({"1.json": {"meta": {"prompt": "cup, best"}}}, "cup, best", None),
        ({"1.json": "[1]", "1.txt": "a cup"}, "a cup", None),
        ({"1.json": "{", "1.txt": "a cup"}, "a cup", None),
        ({"1.json": "[" * 100_000, "1.txt": "a cup"}, "a cup", None),
        ({"1.json": {"prompt": ["x"]}, "1.txt": "a cup"}, "x", "a cup"),
    ],
)
def test_prompts_come_from_text_and_json_members(
    tmp_path: Path, files: dict[str, Any], prompt: str | None, simple: str | None
) -> None:
    record = only(tmp_path, {"1.png": b"image", **files})
    assert (record.prompt, record.simple_prompt) == (prompt, simple)


@pytest.mark.parametrize(
    "files",
    [
        {"1.txt": "a cup", "1.json": {"caption": ["mug", "beaker"]}},
        {"1.txt": '["a cup", "mug", "beaker"]'},
        {"1.json": ["a cup", "mug", "beaker"]},
        {"1.json": {"captions": [{"raw": "a cup"}, {"raw": "mug"}, {"raw": "beaker"}]}},
        {"1.caption.txt": "a cup", "1.txt": "mug", "1.text": "beaker"},
    ],
)
def test_every_caption_of_a_sample_is_kept(tmp_path: Path, files: dict[str, Any]) -> None:
    record = only(tmp_path, {"1.jpg": b"x", **files})
    assert (record.prompt, record.simple_prompt) == ("a cup", "mug")
    assert (record.captions, record.settings) == (("beaker",), {})


Samples = list[tuple[str, str, str | None]]
SHARDS: list[tuple[str, list[str], Samples]] = [
    ("dots in keys", ["22.05.jpg", "22.05.txt", "22.06.jpg", "22.06.txt"],
     [("22.05", "22.05.jpg", "22.05.txt"), ("22.06", "22.06.jpg", "22.06.txt")]),
    ("dots in words", ["Dr.Jones.jpg", "Dr.Smith.jpg", "Dr.Jones.txt", "Dr.Smith.txt"],
     [("Dr.Jones", "Dr.Jones.jpg", "Dr.Jones.txt"), ("Dr.Smith", "Dr.Smith.jpg", "Dr.Smith.txt")]),
    ("dots and a space", ["a b. c.jpg", "a b. c.json.txt", "a b. d.jpg"],
     [("a b. c", "a b. c.jpg", "a b. c.json.txt"), ("a b. d", "a b. d.jpg", None)]),
    ("dots and no text", ["v1.0.jpg", "v1.1.jpg"],
     [("v1.0", "v1.0.jpg", None), ("v1.1", "v1.1.jpg", None)]),
    ("a field of a key with dots", ["1.5.jpg", "1.5.caption.txt"],
     [("1.5", "1.5.jpg", "1.5.caption.txt")]),
    ("not adjacent", ["0.jpg", "1.jpg", "0.txt", "1.txt"],
     [("0", "0.jpg", "0.txt"), ("1", "1.jpg", "1.txt")]),
    ("prefixed", ["s0.input.jpg", "s0.outputs.txt"], [("s0", "s0.input.jpg", "s0.outputs.txt")]),
    ("upper case", ["0.JPG", "0.TXT"], [("0", "0.JPG", "0.TXT")]),
    ("named words", ["1.jpeg", "1.caption.txt"], [("1", "1.jpeg", "1.caption.txt")]),
    ("a prompt", ["2.jpg", "2.prompt"], [("2", "2.jpg", "2.prompt")]),
    ("words of any name", ["2.jpg", "2.llava.txt"], [("2", "2.jpg", "2.llava.txt")]),
    ("several fields", ["3.seg.png", "3.jpg", "3.txt"], [("3", "3.jpg", "3.txt")]),
    ("before and after", ["3.input.jpg", "3.output.jpg", "3.txt"],
     [("3", "3.output.jpg", "3.txt")]),
    ("another format", ["4.avif", "4.txt"], [("4", "4.avif", "4.txt")]),
]  # fmt: skip


@pytest.mark.parametrize(("names", "wanted"), [c[1:] for c in SHARDS], ids=[c[0] for c in SHARDS])
def test_members_make_samples_and_no_image_is_lost(
    tmp_path: Path, names: list[str], wanted: Samples
) -> None:
    path = write_tar(tmp_path / "a.tar", {name: f"words of {name}" for name in names})
    (page,) = all_pages(path)
    found = [
        (r.source_id, r.path.partition("::")[2], r.prompt)  # type: ignore[union-attr]
        for r in page.records
    ]
    assert found == [(k, image, text and f"words of {text}") for k, image, text in wanted]
    images = sum(not name.lower().endswith(("txt", "prompt")) for name in names)
    passed = page.seen.passed.get("a further image of a sample", (0, ""))[0]
    assert len(found) + passed == images
    assert page.seen.files == len(names)


def test_members_that_are_no_part_of_a_sample_are_counted(tmp_path: Path) -> None:
    files = {
        "1.jpg": b"x",
        "1.npy": b"x",
        "2.txt": "b",
        "3.mp4": b"x",
        ".h": b"",
        "__MACOSX/1.jpg": b"",
    }
    (page,) = all_pages(write_tar(tmp_path / "a.tar", files))
    assert page.seen.files == 6
    assert page.seen.passed == {
        "hidden": (2, "a.tar::.h"), ".npy": (1, "a.tar::1.npy"), ".mp4": (1, "a.tar::3.mp4"),
        ".txt of no image": (1, "a.tar::2.txt"),
    }  # fmt: skip


def test_the_prompt_may_be_inside_the_image(tmp_path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text(
        "parameters", "a cup\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 42, Size: 8x8"
    )
    file = BytesIO()
    Image.new("RGB", (2, 2)).save(file, "PNG", pnginfo=info)
    record = only(tmp_path, {"1.png": file.getvalue()})
    assert (record.prompt, record.settings["seed"]) == ("a cup", 42)
    assert only(tmp_path, {"1.png": file.getvalue(), "1.txt": "a mug"}).prompt == "a mug"


def test_infotext_in_a_text_member_is_taken_apart(tmp_path: Path) -> None:
    text = "a cup\nNegative prompt: text\nSteps: 20, Seed: 42, Size: 8x8"
    record = only(tmp_path, {"1.png": b"x", "1.txt": text})
    assert (record.prompt, record.negative_prompt) == ("a cup", "text")


def test_text_that_is_none_is_told_and_is_no_prompt(tmp_path: Path) -> None:
    record = only(tmp_path, {"1.png": b"x", "1.txt": b"a\x01\x02 cup"})
    assert record.prompt is None
    assert "1.txt: holds control characters" in record.settings["sidecar_error"]


def test_fields_may_be_named_and_need_not_be_in_every_sample(tmp_path: Path) -> None:
    files = {"1.jpg": b"x", "1.json": {"p": "one"}, "2.jpg": b"x", "2.json": {"q": "two"}}
    path = write_tar(tmp_path / "a.tar", files)
    assert [record.prompt for record in records(path, prompt_column="p")] == ["one", None]


@pytest.mark.parametrize(
    ("name", "key", "extension"),
    [
        ("1.jpg", "1", "jpg"),
        ("a/b.c/1.seg.PNG", "a/b.c/1", "seg.PNG"),
        ("./1.jpg", "1", "jpg"),
        ("1", "1", ""),
        (".DS_Store", "", ""),
        ("a/._1.jpg", "", ""),
        ("__MACOSX/1.jpg", "", ""),
    ],
)
def test_names_split_at_the_first_dot_of_the_last_part(name: str, key: str, extension: str) -> None:
    assert split_name(name) == (key, extension)


@pytest.mark.parametrize("name", ["1.jpg", "1.JPEG", "1.png", "1.webp", "1.image.png", "d/1.jpg"])
def test_images_of_any_usual_extension_are_found(tmp_path: Path, name: str) -> None:
    assert only(tmp_path, {name: b"x"}).path == f"{tmp_path}/a.tar::{name}"


def test_samples_without_an_image_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = {"1.txt": "a", "2.jpg": b"x", "2.txt": "b", "3.mp4": b"x"}
    assert only(tmp_path, files).prompt == "b"
    assert "skipped 2 samples without an image" in caplog.text


def test_texts_too_large_are_told_and_not_read(tmp_path: Path) -> None:
    record = only(tmp_path, {"1.jpg": b"x", "1.txt": b"x" * (MAX_TEXT_BYTES + 1)})
    assert record.prompt is None
    assert "more than 4,000,000 bytes" in record.settings["sidecar_error"]


def test_reading_resumed_at_any_page_gives_the_same_rest(tmp_path: Path) -> None:
    for shard in range(3):
        files = {f"{i:04}.{e}": f"{shard} {i}" for i in range(130) for e in ("jpg", "txt")}
        write_tar(tmp_path / f"{shard:05}.tar", files)
    write_tar(tmp_path / "sub" / "x.tar", {"1.jpg": b"x"})
    whole = all_pages(tmp_path)
    assert [len(page.records) for page in whole] == [100, 100, 100, 91]
    keys = [record.key for page in whole for record in page.records]
    assert len(set(keys)) == 391 and keys[-1] == "sub/x.tar/1"
    for i, page in enumerate(whole):
        assert all_pages(tmp_path, page.cursor) == whole[i:]


def test_a_shard_that_comes_later_does_not_shift_the_cursor(tmp_path: Path) -> None:
    write_tar(tmp_path / "b.tar", {f"{i:04}.jpg": b"x" for i in range(150)})
    second = all_pages(tmp_path)[1]
    write_tar(tmp_path / "a.tar", {"1.jpg": b"x"})
    assert all_pages(tmp_path, second.cursor) == [second]


def test_a_damaged_shard_is_told_and_the_others_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damaged = write_tar(tmp_path / "a.tar", {f"{i}.jpg": b"x" * 600 for i in range(3)})
    damaged.write_bytes(damaged.read_bytes()[:2000])
    (tmp_path / "b.tar").write_bytes(b"")
    (tmp_path / "c.tar").write_bytes(b"\x1f\x8b" + bytes(600))
    write_tar(tmp_path / "d.tar", {"1.jpg": b"x"})
    with caplog.at_level(logging.WARNING):
        assert [record.key for record in records(tmp_path)] == ["a.tar/0", "d.tar/1"]
    assert caplog.text.count("fix that, then run surd collect again") == 3
    assert "compressed with gzip" in caplog.text


def test_a_shard_may_be_empty(tmp_path: Path) -> None:
    assert records(write_tar(tmp_path / "a.tar", {})) == []


def test_files_folders_and_patterns_are_read(tmp_path: Path) -> None:
    for name in ("a1.tar", "a2.tar", "b1.tar", ".hidden.tar"):
        write_tar(tmp_path / name, {"1.jpg": b"x"})
    (tmp_path / "a3.txt").write_text("no tar")
    assert [r.key for r in records(tmp_path)] == ["a1.tar/1", "a2.tar/1", "b1.tar/1"]
    assert [r.key for r in records(tmp_path / "a*.tar")] == ["a1.tar/1", "a2.tar/1"]
    assert [r.key for r in records(tmp_path / "b1.tar")] == ["b1.tar/1"]


@pytest.mark.parametrize("path", ["", "none", "none/*.tar"])
def test_nothing_to_read_is_told(tmp_path: Path, path: str) -> None:
    with pytest.raises(SourceError, match=r"no \.tar file; correct the source's path"):
        all_pages(tmp_path / path)


@pytest.mark.parametrize("cursor", ["", "x", "[1]", '{"file": 3}', '{"file": "a", "number": "x"}'])
def test_a_cursor_of_another_source_is_refused(tmp_path: Path, cursor: str) -> None:
    write_tar(tmp_path / "a.tar", {"1.jpg": b"x"})
    with pytest.raises(SourceError, match="not a cursor of this source"):
        all_pages(tmp_path, cursor)
