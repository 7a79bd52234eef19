"""Tables of urls, paths and prompts: formats, column names, bad rows, where reading goes on."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support_shards import img2dataset_row
from support_sources import readers

from surd.errors import SourceError
from surd.sources import table, table_rows
from surd.sources.record import Record
from surd.sources.table import TableSource, pages

Rows = list[dict[str, Any]]
MEGABYTE = "duck " * 200_000


def write_csv(path: Path, rows: Rows, delimiter: str = ",") -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0], delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)


def write_jsonl(path: Path, rows: Rows) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_parquet(path: Path, rows: Rows) -> None:
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=70)


WRITERS: dict[str, Callable[[Path, Rows], None]] = {
    "csv": write_csv,
    "tsv": lambda path, rows: write_csv(path, rows, "\t"),
    "jsonl": write_jsonl,
    "parquet": write_parquet,
}
every_format = pytest.mark.parametrize("suffix", list(WRITERS))


all_pages, records = readers(TableSource, pages)


def only(path: Path, **options: Any) -> Record:
    (record,) = records(path, **options)
    return record


def one_row(tmp_path: Path, suffix: str = "jsonl", **row: Any) -> Path:
    path = tmp_path / f"t.{suffix}"
    WRITERS[suffix](path, [row])
    return path


@every_format
def test_a_laion_table_works_as_it_is(tmp_path: Path, suffix: str) -> None:
    row = {
        "SAMPLE_ID": "s1", "URL": "https://a.example/1.jpg", "TEXT": "a duck", "HEIGHT": "512",
        "LICENSE": "CC-BY 4.0", "NSFW": "UNLIKELY", "similarity": "",
    }  # fmt: skip
    record = only(one_row(tmp_path, suffix, **row))
    assert record == Record(
        key="https://a.example/1.jpg",
        url="https://a.example/1.jpg",
        prompt="a duck",
        licence="CC-BY 4.0",
        nsfw_level="none",
        settings={"SAMPLE_ID": "s1", "HEIGHT": "512"},
    )


@every_format
def test_columns_may_be_named(tmp_path: Path, suffix: str) -> None:
    names = {
        "url": "a", "path": "b", "prompt": "c", "negative_prompt": "d", "id": "e", "author": "f",
        "licence": "g", "nsfw": "h", "model": "i",
    }  # fmt: skip
    row = {column: f"the {name}" for name, column in names.items()} | {"h": "Mature", "b": "x.png"}
    path = one_row(tmp_path, suffix, **row, prompt="not this")
    record = only(path, **{f"{name}_column": column for name, column in names.items()})
    assert record == Record(
        key="the id", source_id="the id", url="the url", path=str(tmp_path / "x.png"),
        prompt="the prompt", negative_prompt="the negative_prompt", author="the author",
        licence="the licence", nsfw_level="mature", model="the model",
        settings={"prompt": "not this"},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("row", "options", "prompt", "simple"),
    [
        ({"text": "t"}, {}, "t", None),
        ({"caption": "c"}, {}, "c", None),
        ({"text": "t", "caption": "c"}, {}, "t", None),
        ({"prompt": "p", "text": "t"}, {}, "p", "t"),
        ({"PROMPT": "p", "CAPTION": "c"}, {}, "p", "c"),
        ({"prompt": "p", "text": "t", "caption": "c"}, {}, "p", "t"),
        ({"prompt": "p", "simple_prompt": "s", "text": "t"}, {}, "p", "s"),
        ({"complex_prompt": "p", "simple": "s"}, {}, "p", "s"),
        ({"caption": "c", "blip_caption": "b"}, {}, "c", "b"),
        ({"words": "w", "caption": "c"}, {"prompt_column": "words"}, "w", "c"),
        ({"prompt": "p", "text": "t"}, {"prompt_column": "text"}, "t", None),
        ({"prompt": "p", "a": "s"}, {"simple_prompt_column": "a"}, "p", "s"),
        ({"prompt": "p", "text": ""}, {}, "p", None),
    ],
)
def test_a_caption_beside_a_prompt_is_the_simple_prompt(
    tmp_path: Path, row: dict[str, str], options: dict[str, str], prompt: str, simple: str | None
) -> None:
    record = only(one_row(tmp_path, url="https://a.example/1.jpg", **row), **options)
    assert (record.prompt, record.simple_prompt) == (prompt, simple)
    left = {k: v for k, v in row.items() if v and v not in (prompt, simple)}
    assert record.settings == left


def test_the_tables_of_img2dataset_work_as_they_are(tmp_path: Path) -> None:
    rows = [img2dataset_row(f"{i}", jpg=b"image") for i in range(2)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "00000.parquet")
    first, second = records(tmp_path)
    assert (first.key, first.prompt) == ("https://a.example/0.jpg", "caption 0")
    assert second.path is None
    assert second.settings["status"] == "success" and "jpg" not in second.settings


@every_format
def test_the_key_is_the_id_else_the_url_else_the_path_else_the_row(
    tmp_path: Path, suffix: str
) -> None:
    rows: Rows = [
        {"id": "7", "url": "http://a/1", "path": "1.png", "prompt": "p"},
        {"id": "", "url": "http://a/2", "path": "2.png", "prompt": "p"},
        {"id": "", "url": "", "path": "3.png", "prompt": "p"},
        {"id": " ", "url": "", "path": "", "prompt": "p"},
    ]
    path = tmp_path / f"t.{suffix}"
    WRITERS[suffix](path, rows)
    found = records(path)
    assert [record.key for record in found] == ["7", "http://a/2", "3.png", f"row t.{suffix} 4"]
    assert [record.source_id for record in found] == ["7", None, None, None]


def test_relative_paths_start_from_the_tables_folder_or_the_given_one(tmp_path: Path) -> None:
    path = one_row(tmp_path, file_name="a/b.png")
    assert only(path).path == str(tmp_path / "a" / "b.png")
    assert only(path, images_root="/data").path == "/data/a/b.png"
    assert only(path).key == "a/b.png"


def test_absolute_paths_and_members_of_archives_are_kept(tmp_path: Path) -> None:
    assert only(one_row(tmp_path, path=f"{tmp_path}/b.png")).path == f"{tmp_path}/b.png"
    path = one_row(tmp_path, path="/data/b.png")
    assert only(path, images_root="/").path == "/data/b.png"
    assert only(one_row(tmp_path, path="c.zip::../b.png")).path == f"{tmp_path}/c.zip::../b.png"


def test_beside_a_url_a_path_counts_when_named_or_when_the_file_is_there(tmp_path: Path) -> None:
    path = one_row(tmp_path, url="http://a/1.jpg", filename="1.jpg" + "x" * 300)
    assert only(path).path is None
    assert only(path).settings == {"filename": "1.jpg" + "x" * 300}
    assert only(path, path_column="filename").path is not None
    path = one_row(tmp_path, url="http://a/1.jpg", filename="1.jpg")
    (tmp_path / "1.jpg").touch()
    assert only(path).path == str(tmp_path / "1.jpg")


@pytest.mark.parametrize(
    ("value", "level"),
    [
        ("None", "none"), (False, "none"), ("UNLIKELY", "none"), (0, "none"), ("Soft", "soft"),
        ("MATURE", "mature"), ("X", "x"), (True, "x"), ("NSFW", "x"), (1.0, "x"),
    ],
)  # fmt: skip
def test_nsfw_words_become_levels(tmp_path: Path, value: Any, level: str) -> None:
    record = only(one_row(tmp_path, url="http://a/1", nsfw=value))
    assert (record.nsfw_level, record.settings) == (level, {})


def test_an_unknown_nsfw_word_stays_in_the_settings(tmp_path: Path) -> None:
    record = only(one_row(tmp_path, url="http://a/1", nsfw="UNSURE"))
    assert (record.nsfw_level, record.settings) == (None, {"nsfw": "UNSURE"})


def test_constants_fill_in_for_author_and_licence(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    write_csv(path, [{"url": "http://a/1", "author": "anna"}, {"url": "http://a/2", "author": ""}])
    found = records(path, author="someone", licence="CC0")
    assert [record.author for record in found] == ["anna", "someone"]
    assert [record.licence for record in found] == ["CC0", "CC0"]


def test_a_column_without_a_name_is_a_setting(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "t.jsonl", [{"url": ["http://a/1", "http://a/2"], "": ["x", "y"]}])
    (page,) = all_pages(tmp_path / "t.jsonl")
    assert [(record.key, record.prompt, record.settings) for record in page.records] == [
        ("http://a/1", None, {"": ["x", "y"]}),
        ("http://a/2", None, {"": ["x", "y"]}),
    ]


def test_settings_hold_only_what_json_can(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    columns = {
        "url": ["http://a/1"], "seed": [2**62], "cfg": [float("nan")], "tags": [["a", None]],
        "when": pa.array([1_700_000_000_123_456_789], pa.timestamp("ns")), "raw": [b"\xff"],
        "image": [{"bytes": b"\xff", "path": "x.png"}], "more": [{"inf": float("inf")}],
        "decimal": pa.array([1], pa.decimal128(5, 2)), "date": [datetime(2024, 1, 2).date()],
    }  # fmt: skip
    pq.write_table(pa.table(columns), path)
    settings_ = only(path).settings
    assert json.loads(json.dumps(settings_, allow_nan=False)) == {
        "seed": 2**62, "tags": ["a", None], "when": "2023-11-14T22:13:20.123456",
        "more": {"inf": None}, "decimal": 1.0, "date": "2024-01-02",
    }  # fmt: skip


def test_parquet_text_stored_as_plain_bytes_is_text_where_a_column_is_used(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    columns = {
        "URL": [b"http://a/1", b"http://a/2"],
        "text": [b"a d\xc3\xbcck", b"\xff"],
        "x": [b"1"] * 2,
    }
    pq.write_table(pa.table(columns), path)
    record = only(path)
    assert (record.url, record.prompt, record.settings) == ("http://a/1", "a dück", {})


def test_csv_with_mark_crlf_nul_quotes_and_huge_fields_is_read(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    limit = csv.field_size_limit()
    path.write_bytes(
        b"\xef\xbb\xbfurl,prompt,\r\n"
        b'http://a/1,"two\r\nlines, ""quoted""",x\r\n'
        b"\r\n"
        b"http://a/2,n\0ul,\r\n"
        b"http://a/3," + MEGABYTE.encode() + b","
    )
    found = records(path)
    assert [record.prompt for record in found] == ['two\r\nlines, "quoted"', "nul", MEGABYTE]
    assert found[0].settings == {"column_3": "x"}
    assert csv.field_size_limit() == limit


def test_bad_csv_rows_are_skipped_and_the_first_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(
        b"url,prompt\nhttp://a/1,one\nhttp://a/2,two,too many\nhttp://a/3\nhttp://a/4,\xff\n"
        b'http://a/5,"unclosed\nhttp://a/6,six\nhttp://a/7,"seven"\nhttp://a/8,eight\n'
    )
    assert [record.prompt for record in records(path)] == ["one", "eight"]
    assert caplog.messages == [
        f"{path}: line 3: 3 fields, but the header has 2; 4 such rows skipped"
    ]


def test_tsv_that_quotes_nothing_may_hold_quotes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "t.tsv"
    prompts = ["one", '"two" ducks', '"three', "four", '5" high', '"six"s', 'seven"', '"eight']
    path.write_text("url\tprompt\tn\n" + "".join(f"u\t{p}\t1\n" for p in prompts))
    assert [record.prompt for record in records(path, id_column="prompt")] == prompts
    assert caplog.messages == []


def test_bad_json_lines_are_skipped_and_the_first_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_rows, "MAX_CHARS", 1000)
    path = tmp_path / "t.jsonl"
    deep = b'{"url": ' + b"[" * 450 + b"]" * 450 + b"}"
    lines = [
        b'\xef\xbb\xbf{"url": "http://a/1", "n": NaN}', b"{oops", b"", b"[1]", b'{"url": "\xff"}',
        b'{"url": "' + b"x" * 3000 + b'"}', b'{"url": "http://a/2"}', deep,
    ]  # fmt: skip
    path.write_bytes(b"\r\n".join(lines))
    assert [record.url for record in records(path)] == ["http://a/1", "http://a/2"]
    (message,) = caplog.messages
    assert message.startswith(f"{path}: line 2: not JSON: Expecting property name")
    assert message.endswith("; 5 such rows skipped")


def test_parquet_text_that_is_not_utf8_loses_only_its_row(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "t.parquet"
    text = pa.array([b"one", b"\xff", b"three"]).view(pa.string())
    pq.write_table(pa.table({"url": ["1", "2", "3"], "text": text}), path)
    assert [record.url for record in records(path)] == ["1", "3"]
    assert "row 2: " in caplog.text
    assert "1 such rows skipped" in caplog.text


def test_lone_surrogates_and_huge_prompts_pass_through(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    write_jsonl(
        path, [{"url": "http://a/1", "prompt": "\ud800 \0"}, {"url": "2", "prompt": MEGABYTE}]
    )
    assert [record.prompt for record in records(path)] == ["\ud800 \0", MEGABYTE]


def test_columns_of_json_lines_may_come_late(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    write_jsonl(path, [{"URL": "http://a/1"}, {"URL": "http://a/2", "caption": "a duck"}])
    assert [record.prompt for record in records(path, prompt_column="caption")] == [None, "a duck"]


@every_format
def test_a_missing_column_is_told_with_the_nearest_one(tmp_path: Path, suffix: str) -> None:
    path = one_row(tmp_path, suffix, url="http://a/1", Prompt_Text="a duck")
    with pytest.raises(SourceError) as caught:
        all_pages(path, prompt_column="promt_text")
    assert str(caught.value) == (
        f"{path}: no column 'promt_text' for prompt_column; did you mean 'Prompt_Text'? "
        "Columns: url, Prompt_Text"
    )


@every_format
def test_a_table_without_urls_or_paths_is_refused(tmp_path: Path, suffix: str) -> None:
    path = one_row(tmp_path, suffix, subject="http://a/1", text="a duck")
    with pytest.raises(SourceError) as caught:
        all_pages(path)
    assert str(caught.value) == (
        f"{path}: no column of urls or paths; name one with url_column or path_column. "
        "Columns: subject, text"
    )
    assert only(path, url_column="subject").url == "http://a/1"


ROWS = [("p0.png", "a kettle, steaming"), ("p1.png", "a spoon")]
OBJECTS = [{"path": path, "text": text} for path, text in ROWS]
COLUMNS = {"path": [path for path, _ in ROWS], "text": [text for _, text in ROWS]}
COCO = {
    "images": [{"id": i, "file_name": path} for i, (path, _) in enumerate(ROWS)],
    "annotations": [{"image_id": i, "caption": text} for i, (_, text) in enumerate(ROWS)],
}
LAYOUTS: list[tuple[str, str, str]] = [
    ("semicolons", "t.csv", "path;prompt;n\np0.png;a kettle, steaming;1\np1.png;a spoon;2\n"),
    ("pipes", "t.csv", "path|prompt\np0.png|a kettle, steaming\np1.png|a spoon\n"),
    ("tabs", "t.csv", "path\tprompt\np0.png\ta kettle, steaming\np1.png\ta spoon\n"),
    ("commas in tsv", "t.tsv", 'path,prompt\np0.png,"a kettle, steaming"\np1.png,a spoon\n'),
    ("Excel", "t.csv", "sep=;\r\npath;prompt\r\np0.png;a kettle, steaming\r\np1.png;a spoon"),
    ("no header", "t.csv", 'p0.png,"a kettle, steaming"\np1.png,a spoon\n'),
    ("no header, semicolons", "t.csv", "p0.png;a kettle, steaming;0.5\np1.png;a spoon;1\n"),
    ("array", "t.json", json.dumps(OBJECTS)),
    ("array in jsonl", "t.jsonl", json.dumps(OBJECTS, indent=1)),
    ("array inside", "t.json", json.dumps({"v": 1, "data": OBJECTS})),
    ("columns", "t.json", json.dumps({k: dict(enumerate(v)) for k, v in COLUMNS.items()})),
    ("lists", "t.json", json.dumps(COLUMNS)),
    ("by name", "t.json", json.dumps({path: {"caption": text} for path, text in ROWS})),
    ("texts by name", "t.json", json.dumps(dict(ROWS))),
    ("lines in json", "t.json", "".join(json.dumps(row) + "\n" for row in OBJECTS)),
    ("coco", "t.json", json.dumps(COCO)),
]


@pytest.mark.parametrize(("name", "content"), [c[1:] for c in LAYOUTS], ids=[c[0] for c in LAYOUTS])
def test_tables_of_every_layout_are_read(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        path.write_bytes(content.encode(encoding))
        found = [(r.path, r.prompt) for r in records(path)]
        assert found == [(str(tmp_path / p), text) for p, text in ROWS]


def test_the_delimiter_may_be_given(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("url~prompt\nhttp://a/1~a, b; c\n")
    assert only(path, delimiter="~").prompt == "a, b; c"


@pytest.mark.parametrize(
    ("encoding", "text"),
    [("cp1252", "a dück"), ("cp932", "桜の木の下で笑う少女"), ("utf-16-le", "a dück")],
)
@pytest.mark.parametrize("suffix", ["csv", "jsonl", "json"])
def test_tables_of_other_encodings_are_read(
    tmp_path: Path, suffix: str, encoding: str, text: str
) -> None:
    path = tmp_path / f"t.{suffix}"
    row = json.dumps({"path": "a.png", "prompt": text}, ensure_ascii=False)
    content = f"path,prompt\na.png,{text}\n" if suffix == "csv" else row + "\n"
    path.write_bytes((f"[{row}]" if suffix == "json" else content).encode(encoding))
    assert only(path).prompt == text


def test_without_a_header_the_column_of_the_prompt_may_have_to_be_named(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("http://a/1,a cup,anna\nhttp://a/2,a mug,ben\n")
    with pytest.raises(SourceError, match=r"no header line.* to one of column_2, column_3"):
        all_pages(path)
    found = records(path, prompt_column="column_2", author_column="column_3")
    assert [(r.url, r.prompt, r.author) for r in found] == [
        ("http://a/1", "a cup", "anna"), ("http://a/2", "a mug", "ben")
    ]  # fmt: skip


@every_format
def test_rows_of_one_image_are_its_captions(tmp_path: Path, suffix: str) -> None:
    rows = [("a", "one"), ("b", "four"), ("a", "two"), ("a", "one"), ("a", "three")]
    path = tmp_path / f"t.{suffix}"
    WRITERS[suffix](path, [{"path": f"{name}.png", "caption": text} for name, text in rows])
    a, b = records(path)
    assert (a.key, a.prompt, a.simple_prompt, a.captions) == ("a.png", "one", "two", ("three",))
    assert (b.key, b.prompt, b.simple_prompt, b.captions) == ("b.png", "four", None, ())
    WRITERS[suffix](path, [{"path": f"{n}.png", "caption": t, "prompt": "p"} for n, t in rows])
    a, b = records(path)
    assert (a.prompt, a.simple_prompt, a.captions) == ("p", "one", ("two", "three"))


@every_format
def test_rows_that_ids_tell_apart_are_samples_of_their_own(tmp_path: Path, suffix: str) -> None:
    rows: Rows = [{"n": f"{i}", "url": "http://a/1", "caption": f"{i}"} for i in range(2)]
    path = tmp_path / f"t.{suffix}"
    WRITERS[suffix](path, rows)
    assert [r.key for r in records(path, id_column="n")] == ["0", "1"]
    assert [r.key for r in records(path)] == ["http://a/1"]


def test_a_table_of_flickr_works_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    rows = "".join(f"{n}.jpg| {i}| Text {i} of {n}.\n" for n in (1, 2) for i in range(3))
    path.write_text(f"image_name| comment_number| comment\n{rows}")
    one, _ = records(path)
    assert one.prompt == "Text 0 of 1."
    assert (one.simple_prompt, one.captions) == ("Text 1 of 1.", ("Text 2 of 1.",))
    assert one.settings == {"comment_number": [" 0", " 1", " 2"]}
    path.write_text(path.read_text().replace("comment\n", "words\n"))
    one, _ = records(path, prompt_column="words")
    assert (one.prompt.strip(), one.simple_prompt) == ("Text 0 of 1.", "Text 1 of 1.")


def test_another_prompt_of_an_image_is_kept_in_the_settings(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    write_jsonl(path, [{"url": "http://a/1", "prompt": text} for text in ("one", "two")])
    record = only(path)
    assert (record.prompt, record.simple_prompt) == ("one", None)
    assert record.settings == {"other_prompts": ["two"]}


@pytest.mark.parametrize(
    "captions",
    [["one", "two"], '["one", "two"]', "['one', 'two']", [{"raw": "one"}, {"raw": "two"}]],
)
def test_a_cell_may_list_captions(tmp_path: Path, captions: Any) -> None:
    record = only(one_row(tmp_path, url="http://a/1", prompt="p", captions=captions))
    assert (record.prompt, record.simple_prompt, record.captions) == ("p", "one", ("two",))
    record = only(one_row(tmp_path, url="http://a/1", captions=captions))
    assert (record.prompt, record.simple_prompt, record.captions) == ("one", "two", ())


def test_a_row_may_list_images(tmp_path: Path) -> None:
    path = one_row(tmp_path, images=["a.png", "b.png"], captions=["one", "two"])
    assert [(r.key, r.prompt) for r in records(path)] == [("a.png", "one"), ("b.png", "two")]
    path = one_row(tmp_path, id=7, images=[{"path": "a.png"}, {"path": "b.png"}], caption="both")
    assert [(r.key, r.prompt) for r in records(path)] == [("7/0", "both"), ("7/1", "both")]
    path = one_row(tmp_path, image={"path": "a.png", "bytes": None}, caption="one")
    assert only(path).path == str(tmp_path / "a.png")
    path = tmp_path / "u.jsonl"
    write_jsonl(path, [{"images": [f"{i}/{j}.png" for j in range(3)]} for i in range(90)])
    whole = all_pages(path)
    assert [len(page.records) for page in whole] == [102, 102, 66]
    assert all_pages(path, whole[1].cursor) == whole[1:]


@pytest.mark.parametrize("column", ["image", "img", "file"])
def test_a_column_of_images_may_hold_urls_or_paths(tmp_path: Path, column: str) -> None:
    assert only(one_row(tmp_path, **{column: "http://a/1.png"})).url == "http://a/1.png"
    assert only(one_row(tmp_path, **{column: "a\\1.png"})).path == str(tmp_path / "a" / "1.png")


def test_bad_rows_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("url,prompt\nhttp://a/1,one\nhttp://a/2\nhttp://a/3,x,y\n")
    (page,) = all_pages(path)
    assert page.seen.files == 1
    assert page.seen.passed == {
        "bad row of a table": (2, "t.csv: line 3: 1 fields, but the header has 2")
    }


@pytest.mark.parametrize(
    ("name", "content", "wanted"),
    [
        ("t.csv", b"\xff\xfeu\0r", "not a table: its first line is not UTF-8 text"),
        ("t.csv", b"\x89PNG\xff,\xfe", "save it as UTF-8"),
        ("t.jsonl", b"{", "not JSON Lines: line 1: not JSON"),
        ("t.jsonl", b"[1]", "no table of JSON objects: not a JSON object in the array"),
        ("t.json", b"[{", "no table of JSON objects: Expecting property name"),
        ("t.json", b'{"a": 1}', "an object without a list of objects in it"),
        ("t.json", b"[" * 100_000, "JSON nested too deeply"),
        ("t.parquet", b"PAR1 no more", "not a Parquet file"),
        ("t.parquet", b"PAR1\xff\xff\xff\xff\4\0\0\0PAR1", "not a Parquet file"),
        ("t.txt", b"url\n", "the file name does not show its format; set format to one of csv"),
    ],
)
def test_what_is_no_table_is_told_in_one_line(
    tmp_path: Path, name: str, content: bytes, wanted: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(SourceError) as caught:
        all_pages(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert wanted in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_damaged_row_group_is_told_after_the_good_ones(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    write_parquet(path, [{"url": f"http://a/{i}", "text": f"{i}" * 50} for i in range(140)])
    data = bytearray(path.read_bytes())
    offset = pq.read_metadata(path).row_group(1).column(0).dictionary_page_offset
    data[offset : offset + 200] = bytes(200)
    path.write_bytes(data)
    with pytest.raises(SourceError, match="row group 1 is damaged"):
        all_pages(path)


def test_nothing_to_read_is_told(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere.csv", tmp_path / "*.csv", tmp_path / ("x" * 300)):
        with pytest.raises(SourceError, match=r"correct the source's path|cannot be read"):
            all_pages(path)


def test_files_of_two_kinds_need_a_format(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", [{"url": "http://a/1"}])
    write_jsonl(tmp_path / "b.jsonl", [{"url": "http://a/2"}])
    with pytest.raises(SourceError, match="contains both csv and jsonl files; set format"):
        all_pages(tmp_path)
    assert only(tmp_path, format="jsonl").url == "http://a/2"


def test_a_file_of_any_name_is_read_as_the_format_says(tmp_path: Path) -> None:
    path = tmp_path / "links.txt"
    write_csv(path, [{"url": "http://a/1"}])
    assert only(path, format="csv").url == "http://a/1"


def test_folders_and_patterns_are_read_in_sorted_order(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("b.csv", "a.csv", "C.CSV", ".hidden.csv", "sub/a.csv"):
        write_csv(tmp_path / name, [{"url": "", "prompt": name}])
    assert [record.prompt for record in records(tmp_path)] == ["C.CSV", "a.csv", "b.csv"]
    found = records(tmp_path / "**" / "*.csv")
    assert [record.key for record in found] == ["row a.csv 1", "row b.csv 1", "row sub/a.csv 1"]


def test_an_empty_file_among_others_is_passed_over(tmp_path: Path) -> None:
    for suffix in ("csv", "jsonl"):
        (tmp_path / f"a.{suffix}").touch()
        WRITERS[suffix](tmp_path / f"b.{suffix}", [{"url": "http://a/1"}])
        assert only(tmp_path, format=suffix, url_column="url").url == "http://a/1"


@every_format
def test_reading_resumed_at_any_page_gives_the_same_rest(tmp_path: Path, suffix: str) -> None:
    for file, count in enumerate([130, 40, 1, 160]):
        rows = [
            {"url": f"http://a/{file}/{i}", "prompt": f"duck\n{i}", "n": str(i)}
            for i in range(count)
        ]
        WRITERS[suffix](tmp_path / f"{file}.{suffix}", rows)
    whole = all_pages(tmp_path)
    assert [len(page.records) for page in whole] == [100, 100, 100, 31]
    assert whole[0].cursor is None
    for i, page in enumerate(whole):
        assert all_pages(tmp_path, page.cursor) == whole[i:]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["good", "bad", "blank", "quoted"]), max_size=400), st.booleans())
def test_bad_rows_do_not_shift_the_cursor(tmp_path: Path, kinds: list[str], as_json: bool) -> None:
    lines = {"good": "N,p", "bad": "N,p,q", "blank": "", "quoted": '"N","p\nq"'}
    if as_json:
        lines = {"good": '{"url": 1}', "bad": "{", "blank": "", "quoted": '{"url": "N", "p": 1}'}
    header = '{"url": 0}' if as_json else "url,prompt"
    path = tmp_path / ("t.jsonl" if as_json else "t.csv")
    rows = [lines[kind].replace("N", f"u{i}") for i, kind in enumerate(kinds)]
    path.write_text("\n".join([header, *rows]), encoding="utf-8")
    whole = all_pages(path)
    good = sum(kind in ("good", "quoted") for kind in kinds) + as_json
    assert sum(len(page.records) for page in whole) == good
    for i, page in enumerate(whole):
        assert all_pages(path, page.cursor) == whole[i:]


def test_rows_before_the_cursor_are_not_reported_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "t.csv"
    path.write_text("url\na,b\n" + "".join(f"http://a/{i}\n" for i in range(150)))
    cursor = all_pages(path)[1].cursor
    caplog.clear()
    all_pages(path, cursor)
    assert caplog.messages == []


@pytest.mark.parametrize("cursor", ["", "x", "[1]", '{"file": 3, "row": 0}'])
def test_a_cursor_of_another_source_is_refused(tmp_path: Path, cursor: str) -> None:
    path = one_row(tmp_path, url="http://a/1")
    with pytest.raises(SourceError, match=r"not a cursor of a table|was read up to file 4"):
        all_pages(path, cursor)


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_the_first_page_comes_without_reading_the_whole_file(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"t.{suffix}"
    WRITERS[suffix](path, [{"url": f"http://a/{i}"} for i in range(5000)])
    seen = []
    original = table._record
    monkeypatch.setattr(table, "_record", lambda *a: seen.append(1) or original(*a))
    next(pages(TableSource(path=str(path)), None))
    assert len(seen) == 101
    assert logging.getLogger("surd") is table.log
