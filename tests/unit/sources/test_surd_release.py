"""The published SURD: lines of metadata.jsonl, their images, and lines that are none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support_sources import readers

from surd.errors import SourceError
from surd.sources.record import Record
from surd.sources.surd_release import SurdReleaseSource, pages


def write(folder: Path, *lines: Any, images: tuple[str, ...] = ()) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    (folder / "metadata.jsonl").write_text("\n".join(texts) + "\n", encoding="utf-8")
    for name in images:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"image " + name.encode())
    return folder


all_pages, records = readers(SurdReleaseSource, pages)


def line(name: str, **fields: Any) -> dict[str, Any]:
    return {"file_name": name, "text": "a red cup", "prompt": "red cup, best quality", **fields}


def test_a_line_becomes_a_record(tmp_path: Path) -> None:
    write(tmp_path, line("0001.png", seed=7), images=("0001.png",))
    assert records(tmp_path, licence="CC BY-NC 4.0", author="many") == [
        Record(
            key="0001",
            source_id="0001.png",
            path=f"{tmp_path}/0001.png",
            prompt="red cup, best quality",
            simple_prompt="a red cup",
            author="many",
            licence="CC BY-NC 4.0",
            settings={"seed": 7},
        )
    ]


@pytest.mark.parametrize("suffix", ["", ".png", ".jpg", ".jpeg", ".webp"])
def test_file_name_may_lack_its_suffix(tmp_path: Path, suffix: str) -> None:
    write(tmp_path, line("0001"), images=(f"0001{suffix}",))
    (record,) = records(tmp_path)
    assert (record.key, record.path) == ("0001", f"{tmp_path}/0001{suffix}")


def test_with_and_without_suffix_the_key_is_the_same(tmp_path: Path) -> None:
    write(tmp_path / "a", line("0001"), line("v1.5-cup"))
    write(tmp_path / "b", line("0001.png"), line("v1.5-cup.png"))
    assert [r.key for r in records(tmp_path / "a")] == [r.key for r in records(tmp_path / "b")]


def test_an_image_that_is_not_there_is_still_a_record(tmp_path: Path) -> None:
    assert records(write(tmp_path, line("0001.png")))[0].path == f"{tmp_path}/0001.png"


def test_metadata_may_lie_in_subfolders(tmp_path: Path) -> None:
    for split in ("train", "test"):
        write(tmp_path / "data" / split, line("1.png"), images=("1.png",))
    assert [record.key for record in records(tmp_path)] == ["data/test/1", "data/train/1"]
    assert records(tmp_path)[0].path == f"{tmp_path}/data/test/1.png"
    assert len(records(tmp_path / "data" / "train")) == 1
    assert len(records(tmp_path / "data" / "train" / "metadata.jsonl")) == 1


def test_a_line_with_text_alone_has_a_prompt_alone(tmp_path: Path) -> None:
    write(tmp_path, {"file_name": "1.png", "text": "a red cup"})
    assert [(r.prompt, r.simple_prompt) for r in records(tmp_path)] == [("a red cup", None)]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("{oops", "line 2: not JSON"),
        ("[]", "line 2: not a JSON object"),
        ({"text": "a"}, "line 2: file_name is missing"),
        ({"file_name": 7}, "line 2: file_name is missing"),
        ({"file_name": " "}, "line 2: file_name is missing"),
        ({"file_name": "../a.png"}, "leads out of its folder"),
        ({"file_name": "a/../../a.png"}, "leads out of its folder"),
        ({"file_name": "/etc/passwd"}, "leads out of its folder"),
        ({"file_name": "..\\a.png"}, "leads out of its folder"),
        ({"file_name": "a\0.png"}, "leads out of its folder"),
        ({"file_name": "link"}, "is a link out of its folder"),
    ],
)
def test_bad_lines_are_skipped_and_the_first_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, bad: Any, reason: str
) -> None:
    (tmp_path / "secret.png").write_bytes(b"secret")
    folder = write(tmp_path / "f", line("1.png"), bad, line("2.png"))
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    assert [record.key for record in records(folder)] == ["1", "2"]
    assert reason in caplog.text and "1 such lines skipped" in caplog.text


def test_a_name_too_long_for_a_file_is_a_record_or_a_bad_line(tmp_path: Path) -> None:
    write(tmp_path, line("x" * 5000), line("2.png"))
    assert records(tmp_path)[-1].key == "2"


def test_reading_resumed_at_any_page_gives_the_same_rest(tmp_path: Path) -> None:
    for split in ("a", "b"):
        write(tmp_path / split, *[line(f"{i}.png") if i % 9 else "bad" for i in range(150)])
    whole = all_pages(tmp_path)
    assert [len(page.records) for page in whole] == [100, 100, 66]
    for i, page in enumerate(whole):
        assert all_pages(tmp_path, page.cursor) == whole[i:]


def test_a_file_cut_off_in_a_line_gives_the_lines_before(tmp_path: Path) -> None:
    path = write(tmp_path, line("1.png"), line("2.png")) / "metadata.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    assert [record.key for record in records(tmp_path)] == ["1"]


def test_nothing_to_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "my_metadata.jsonl").write_text("{}")
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(SourceError, match=r"no metadata\.jsonl file"):
            records(path)


@pytest.mark.parametrize("content", [b"", b"\n\n"])
def test_an_empty_file_has_no_records(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "metadata.jsonl").write_bytes(content)
    assert records(tmp_path) == []


@pytest.mark.parametrize("content", [b"\xff\xfe<\0>\0", b"<html>\n", b"\x89PNG"])
def test_a_file_without_a_single_line_of_json_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "metadata.jsonl").write_bytes(content)
    with pytest.raises(SourceError, match=r"metadata\.jsonl: not (JSON Lines|text)"):
        records(tmp_path)
