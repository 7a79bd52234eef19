"""Folders and zips: which images are found, what is said of them, where reading goes on."""

from __future__ import annotations

import gc
import hashlib
import json
import logging
import os
import warnings
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, PngImagePlugin
from support_shards import img2dataset_row
from support_sources import readers

from surd.errors import SourceError
from surd.files.formats import IMAGE_SUFFIXES
from surd.sources import folder
from surd.sources.folder import FolderSource, pages
from surd.sources.in_processes import in_processes
from surd.sources.record import Record

PARAMETERS = (
    "embedded duck\nNegative prompt: blurry\n"
    "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 42, Size: 512x512, Model: duckMix"
)


def image(seed: int = 0, parameters: str | None = None) -> bytes:
    info = PngImagePlugin.PngInfo()
    if parameters is not None:
        info.add_text("parameters", parameters)
    file = BytesIO()
    Image.new("RGB", (2, 2), (seed % 256, seed // 256, 0)).save(file, "PNG", pnginfo=info)
    return file.getvalue()


def write(root: Path, files: dict[str, bytes | str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def write_zip(
    path: Path, files: dict[str, bytes | str], method: int = zipfile.ZIP_DEFLATED
) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


all_pages, records = readers(FolderSource, pages)


def names(path: Path, **options: Any) -> list[str | None]:
    return [record.source_id for record in records(path, **options)]


def only(path: Path, **options: Any) -> Record:
    (record,) = records(path, **options)
    return record


def test_a_record_tells_where_the_file_is_and_what_its_generator_wrote(tmp_path: Path) -> None:
    data = image(parameters=PARAMETERS)
    write(tmp_path, {"a/duck.png": data})
    record = only(tmp_path, author="me", licence="CC0")
    assert record.key == hashlib.sha256(data).hexdigest()
    assert record.source_id == "a/duck.png"
    assert record.path == str(tmp_path / "a" / "duck.png")
    assert record.url is None
    assert (record.prompt, record.negative_prompt) == ("embedded duck", "blurry")
    assert record.model == "duckMix"
    assert (record.author, record.licence) == ("me", "CC0")
    wanted = {"generator": "AUTOMATIC1111", "seed": 42, "steps": 20, "width": 512}
    assert {key: record.settings[key] for key in wanted} == wanted


def test_identical_files_have_one_key(tmp_path: Path) -> None:
    write(tmp_path, {"a.png": image(1), "b.png": image(1), "c.png": image(2)})
    assert len({record.key for record in records(tmp_path)}) == 2


FOUND = ["B.PNG", "a-b/1.png", "a.jpeg", "a/1.jpg", "a/2.WebP", "a0.png", "ä.png"]
LEFT_ALONE = [
    "notes.txt", "a.psd", ".hidden.png", "._a.png", "__MACOSX/a/._1.jpg", "__MACOSX/b.png",
    ".git/c.png", "png",
]  # fmt: skip


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_images_come_in_the_bytewise_order_of_their_paths(tmp_path: Path, kind: str) -> None:
    files = dict.fromkeys([*reversed(FOUND), *LEFT_ALONE], image())
    path = (
        write(tmp_path / "f", files) if kind == "folder" else write_zip(tmp_path / "f.zip", files)
    )
    assert names(path) == sorted(FOUND, key=os.fsencode) == FOUND
    assert names(path, recursive=False) == ["B.PNG", "a.jpeg", "a0.png", "ä.png"]


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_images_of_every_format_are_found(tmp_path: Path, suffix: str) -> None:
    write(tmp_path, {f"a{suffix}": image(), f"b{suffix.upper()}": image()})
    assert names(tmp_path) == [f"a{suffix}", f"b{suffix.upper()}"]


def test_links_that_lead_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    outside = write(tmp_path / "outside", {"secret.png": image(), "secret.txt": "my password"})
    inside = write(tmp_path / "inside", {"a.png": image()})
    (inside / "b.png").symlink_to(inside / "a.png")
    (inside / "c.png").symlink_to(outside / "secret.png")
    (inside / "d.png").symlink_to("d.png")
    (inside / "e").symlink_to(outside, target_is_directory=True)
    (inside / "a.txt").symlink_to(outside / "secret.txt")
    assert names(inside) == ["a.png", "b.png"]
    assert only_prompts(inside) == [None, None]


def only_prompts(path: Path, **options: Any) -> list[str | None]:
    return [record.prompt for record in records(path, **options)]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_named_pipe_does_not_stop_the_reading(tmp_path: Path) -> None:
    write(tmp_path, {"b.png": image()})
    os.mkfifo(tmp_path / "a.png")
    os.mkfifo(tmp_path / "b.txt")
    assert names(tmp_path) == ["b.png"]


CAPTIONS: list[tuple[str, dict[str, bytes | str]]] = [
    ("kohya text", {"d.txt": "a dück\n"}),
    ("caption", {"d.caption": "a dück"}),
    ("another suffix", {"d.cap": "a dück"}),
    ("upper case", {"d.TXT": "a dück"}),
    ("after the whole name", {"d.png.txt": "a dück"}),
    ("a word more in the name", {"d_meta.txt": "a dück"}),
    ("another word", {"d.caption.txt": "a dück"}),
    ("utf-8 with mark", {"d.txt": b"\xef\xbb\xbfa d\xc3\xbcck"}),
    ("utf-16", {"d.txt": "a dück".encode("utf-16")}),
    ("utf-16 without mark", {"d.txt": "a dück".encode("utf-16-le")}),
    ("cp1252", {"d.txt": "a dück".encode("cp1252")}),
    ("json caption", {"d.png.json": '{"caption": "a dück"}'}),
    ("json text", {"d.json": '{"prompt": "", "text": "a dück"}'}),
    ("json in text", {"d.txt": '{"caption": "a dück"}'}),
    ("imagefolder", {"/metadata.jsonl": '{"file_name": "sub/d.png", "text": "a dück"}'}),
    ("backslash", {"/metadata.jsonl": r'{"file_name": "sub\\d.png", "text": "a dück"}'}),
    ("from the parent", {"metadata.jsonl": '{"file_name": "sub/d.png", "text": "a dück"}'}),
    ("other keys", {"metadata.jsonl": '{"image": "d.png", "Caption": "a dück"}'}),
    ("csv", {"metadata.csv": "file_name,text\nd.png,a dück\n"}),
    ("csv of a German Excel", {"metadata.csv": "sep=;\r\nfile;caption\r\nd.png;a dück\r\n"}),
    ("csv without a header", {"metadata.csv": "d.png,a dück\ne.png,a cup"}),
    ("kohya meta", {"/meta_cap.json": '{"sub/d": {"caption": "a dück"}}'}),
    ("kohya meta of Windows", {"meta_cap.json": r'{"C:\\sub\\d.png": {"caption": "a dück"}}'}),
    ("list of objects", {"metadata.json": '[{"file_name": "d.png", "text": "a dück"}]'}),
]
PROMPTS: list[tuple[str, dict[str, bytes | str]]] = [
    ("json", {"d.json": '{"prompt": "a duck", "n": NaN}'}),
    ("another case", {"d.json": '{"Prompt": "a duck"}'}),
    ("civitai", {"d.json": '{"id": 1, "meta": {"prompt": "a duck"}}'}),
    ("civitai twice", {"d.json": '{"meta": {"id": 1, "meta": {"prompt": "a duck"}}}'}),
    ("swarm", {"d.swarm.json": '{"sui_image_params": {"prompt": "a duck"}}'}),
    ("text beside json", {"d.txt": "a cup", "d.json": '{"prompt": "a duck"}'}),
    ("csv", {"metadata.csv": "file_name,prompt\nd.png,a duck\n"}),
]


def beside(
    tmp_path: Path, kind: str, files: dict[str, bytes | str], parameters: str | None = PARAMETERS
) -> Path:
    """A folder or zip with sub/d.png, and files beside it, or at the top after a slash."""
    placed = {k[1:] if k.startswith("/") else f"sub/{k}": v for k, v in files.items()}
    placed["sub/d.png"] = image(parameters=parameters)
    if kind == "folder":
        return write(tmp_path / "f", placed)
    return write_zip(tmp_path / "f.zip", placed)


@pytest.mark.parametrize("kind", ["folder", "zip"])
@pytest.mark.parametrize("files", [c[1] for c in CAPTIONS], ids=[c[0] for c in CAPTIONS])
def test_a_caption_is_the_prompt_but_beside_the_images_own_the_simple_prompt(
    tmp_path: Path, kind: str, files: dict[str, bytes | str]
) -> None:
    path = beside(tmp_path, kind, files)
    record = only(path)
    assert (record.prompt, record.simple_prompt) == ("embedded duck", "a dück")
    assert (record.negative_prompt, record.settings["seed"]) == ("blurry", 42)
    record = only(path, captions="sidecar")
    assert (record.prompt, record.simple_prompt) == ("a dück", None)
    record = only(path, captions="metadata")
    assert (record.prompt, record.simple_prompt) == ("embedded duck", None)


@pytest.mark.parametrize("kind", ["folder", "zip"])
@pytest.mark.parametrize("files", [c[1] for c in PROMPTS], ids=[c[0] for c in PROMPTS])
def test_a_field_called_prompt_counts_more_than_the_images_own(
    tmp_path: Path, kind: str, files: dict[str, bytes | str]
) -> None:
    path = beside(tmp_path, kind, files)
    assert only(path).prompt == "a duck"
    assert only(path, captions="metadata").prompt == "embedded duck"
    json.dumps(dict(only(path).settings), allow_nan=False)


INFOTEXT = (
    "an old tin robot, ferns, <lora:tin:0.7>\nNegative prompt: blurry, extra fingers\n"
    "Steps: 22, CFG scale: 6.5, Seed: 90210, Size: 320x320, Model: someModel"
)


@pytest.mark.parametrize(
    ("text", "prompt", "negative", "model"),
    [
        (INFOTEXT, "an old tin robot, ferns, <lora:tin:0.7>", "blurry, extra fingers", "someModel"),
        ("a cup\r\nSteps: 5, Seed: 1, Model: m\r\n", "a cup", None, "m"),
        ("a cup\nNegative prompt: text", "a cup", "text", None),
        ("prompt: a cup,\nred\nnegativePrompt: text\nseed: 4", "a cup,\nred", "text", None),
        (
            "Prompt: a cup\nSeed: 5\nStable Diffusion model: m\nNegative Prompt: u",
            "a cup",
            "u",
            "m",
        ),
        ('{"prompt": "a cup", "negative_prompt": "text"}', "a cup", "text", None),
        ('{"parameters": "a cup\\nSteps: 5, Seed: 1, Model: m"}', "a cup", None, "m"),
        ("1girl, solo, long hair", "1girl, solo, long hair", None, None),
        ("[cat|dog] in a field", "[cat|dog] in a field", None, None),
    ],
)
def test_a_text_file_is_what_it_looks_like(
    tmp_path: Path, text: str, prompt: str, negative: str | None, model: str | None
) -> None:
    record = only(beside(tmp_path, "folder", {"d.txt": text}, parameters=None))
    assert (record.prompt, record.simple_prompt) == (prompt, None)
    assert (record.negative_prompt, record.model) == (negative, model)


def test_texts_that_are_no_captions_do_not_become_simple_prompts(tmp_path: Path) -> None:
    own = PARAMETERS.replace("embedded duck", "(embedded:1.2) duck <lora:x:1>")
    for text in ("embedded duck", "1girl, solo, long hair", INFOTEXT, "a (cup:1.2)"):
        record = only(beside(tmp_path, "folder", {"d.txt": text}, own))
        assert (record.prompt, record.simple_prompt) == ("(embedded:1.2) duck <lora:x:1>", None)
        kept = {k: v for k, v in record.settings.items() if k in ("tags", "other_prompt")}
        assert list(kept.values()) == ([] if text == "embedded duck" else [text.split("\n")[0]])


def test_tags_are_the_prompt_of_a_caption_beside_them(tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {"d.txt": "1girl, solo, hat", "d.caption": "a girl in a hat"}
    record = only(beside(tmp_path, "folder", files, parameters=None))
    assert (record.prompt, record.simple_prompt) == ("1girl, solo, hat", "a girl in a hat")
    record = only(beside(tmp_path, "folder", {"d.tags": "hat", **files}))
    assert (record.prompt, record.simple_prompt) == ("embedded duck", "a girl in a hat")


def test_every_caption_of_an_image_is_kept(tmp_path: Path) -> None:
    lines = [{"file_name": "d.png", "text": text} for text in ("one cup", "two", "three")]
    files: dict[str, bytes | str] = {"metadata.jsonl": "\n".join(map(json.dumps, lines))}
    record = only(beside(tmp_path, "folder", files))
    assert record.prompt == "embedded duck"
    assert (record.simple_prompt, record.captions) == ("one cup", ("two", "three"))
    record = only(beside(tmp_path, "folder", {"d.json": '{"captions": ["a", "b", "b"]}'}, None))
    assert record.prompt == "a"
    assert {record.simple_prompt, *record.captions} >= {"b"}


@pytest.mark.parametrize(
    "data",
    [b"\x89PNG\r\n\x1a\n\0\0", b"a duck\x00\x01\x02", bytes(range(1, 256)), b"a \x1b[0m cup"],
)
def test_a_text_that_is_none_is_told_and_is_no_prompt(tmp_path: Path, data: bytes) -> None:
    record = only(beside(tmp_path, "folder", {"d.txt": data}, parameters=None))
    assert record.prompt is None
    assert record.settings["sidecar_error"].startswith("d.txt: ")


def test_what_is_passed_over_is_counted_with_the_first_of_its_kind(tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {
        "a.png": image(1), "a.txt": "x", "b.psd": "", "c/d.psd": "", "c/e.txt": "", "f": "",
        ".g": "", "meta_cap.json": "{}", "c/h.HEIC": "",
    }  # fmt: skip
    for path in (write(tmp_path / "f", files), write_zip(tmp_path / "f.zip", files)):
        (page,) = all_pages(path)
        assert len(page.records) == 2
        assert page.seen.files == 9
        assert page.seen.passed == {
            "hidden": (1, ".g"), ".psd": (2, "b.psd"), ".txt of no image": (1, "c/e.txt"),
            "no suffix": (1, "f"),
        }  # fmt: skip


def test_files_are_counted_once_wherever_reading_goes_on(tmp_path: Path) -> None:
    write(tmp_path, {f"{i:03}.{suffix}": image(i) for i in range(250) for suffix in ("png", "psd")})
    whole = all_pages(tmp_path)
    assert [page.seen.files for page in whole] == [200, 200, 100]
    assert [page.seen.passed[".psd"][0] for page in whole] == [100, 100, 50]
    assert all_pages(tmp_path, whole[1].cursor) == whole[1:]


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_folders_inside_that_surd_wrote_are_passed_over_and_counted(
    tmp_path: Path, kind: str
) -> None:
    own = {
        "b/out/.surd-export": "",
        "b/out/train/2.png": image(2),
        "b/out/train/2.txt": "a cup",
        "w/surd.json": "{}",
        "w/adapter/run/validation/3.png": image(3),
        "w/dataset/surd-dataset.json": "{}",
        "x/.surd-run": "",
        "x/validation/0001/0.png": image(6),
        "z/surd-dataset.json": "{}",
    }
    found = {"a.png": image(0), "b/1.png": image(1), "c.png": image(5), "w2/4.png": image(4)}
    where = tmp_path / "f"
    where = write(where, own | found) if kind == "folder" else write_zip(where, own | found)
    (page,) = all_pages(where)
    assert [record.source_id for record in page.records] == [
        "a.png",
        "b/1.png",
        "c.png",
        "w2/4.png",
    ]
    assert page.seen.passed == {"folder that surd wrote": (4, "b/out/")}
    assert page.seen.files == 4
    (rest,) = pages(FolderSource(path=str(where)), "c.png")
    assert rest.seen.passed == {"folder that surd wrote": (3, "w/")}
    flat = all_pages(where, recursive=False)[0].seen
    assert flat.passed == {}


def test_a_folder_that_surd_wrote_is_read_where_it_is_the_source_itself(tmp_path: Path) -> None:
    write(tmp_path, {".surd-export": "", ".surd-run": "", "train/1.png": image(1)})
    (page,) = all_pages(tmp_path)
    assert [record.source_id for record in page.records] == ["train/1.png"]
    assert page.seen.passed == {}


def test_a_folder_with_nothing_but_what_surd_wrote_says_so(tmp_path: Path) -> None:
    write(tmp_path, {"out/.surd-export": "", "out/1.png": image(1)})
    (page,) = all_pages(tmp_path)
    assert (page.records, page.seen.passed) == ([], {"folder that surd wrote": (1, "out/")})


def test_other_fields_of_a_json_sidecar_become_settings(tmp_path: Path) -> None:
    fields = {
        "username": "anna",
        "meta": {"prompt": "a duck", "negativePrompt": "blurry", "Model": "duckMix", "seed": 7},
    }
    write(tmp_path, {"d.png": image(), "d.json": json.dumps(fields)})
    record = only(tmp_path)
    assert (record.negative_prompt, record.model) == ("blurry", "duckMix")
    assert record.settings == {"username": "anna", "seed": 7}


@pytest.mark.parametrize(
    ("fields", "prompt", "simple"),
    [
        ({"prompt": "p", "text": "t"}, "p", "t"),
        ({"prompt": "p", "caption": "c", "text": "t"}, "p", "c"),
        ({"complex_prompt": "p", "simple_prompt": "s", "text": "t"}, "p", "s"),
        ({"text": "t", "blip_caption": "b"}, "t", "b"),
        ({"text": "t"}, "t", None),
    ],
)
def test_a_caption_beside_a_prompt_is_the_simple_prompt(
    tmp_path: Path, fields: dict[str, str], prompt: str, simple: str | None
) -> None:
    write(tmp_path, {"d.png": image(), "d.json": json.dumps(fields)})
    assert (only(tmp_path).prompt, only(tmp_path).simple_prompt) == (prompt, simple)


def test_the_files_of_img2dataset_work_as_they_are(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "00000/000000000.jpg": image(),
            "00000/000000000.txt": "caption 0",
            "00000/000000000.json": json.dumps(img2dataset_row("0")),
            "00000.parquet": b"PAR1",
            "00000_stats.json": "{}",
        },
    )
    record = only(tmp_path)
    assert (record.prompt, record.simple_prompt) == ("caption 0", None)
    assert record.settings["url"] == "https://a.example/0.jpg"


def test_the_nearest_metadata_jsonl_that_names_the_image_counts(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "a/b/1.png": image(1), "a/b/2.png": image(2), "c/3.png": image(3),
            "metadata.jsonl": '\ufeff{"file_name": "a/b/1.png", "prompt": "far"}\n'
            '{"file_name": "c/3.png", "prompt": "three", "text": "simple", "seed": 5}\n',
            "a/metadata.jsonl": '{"file_name": "./b/1.png", "prompt": "near"}',
        },
    )  # fmt: skip
    assert only_prompts(tmp_path) == ["near", None, "three"]
    three = records(tmp_path)[2]
    assert (three.simple_prompt, three.settings) == ("simple", {"seed": 5})


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{broken", "d.json: Expecting property name"),
        ("[1]", "d.json: expected a JSON object, not list"),
        ("[" * 100_000, "d.json: "),
        (" " * 2000, "d.json: more than 1500 bytes"),
    ],
)
def test_a_malformed_sidecar_is_ignored_and_the_reason_kept(
    tmp_path: Path, content: str, reason: str
) -> None:
    write(tmp_path, {"d.png": image(parameters=PARAMETERS), "d.json": content})
    record = only(tmp_path, max_bytes=1500)
    assert record.prompt == "embedded duck"
    assert record.settings["sidecar_error"].startswith(reason)


def test_bad_lines_of_metadata_jsonl_are_skipped_and_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = (
        '{"file_name": "a.png", "text": "one"}\n{oops\n[]\n\n{"file_name": "b.png", "text": "two"}'
    )
    write(tmp_path, {"a.png": image(1), "b.png": image(2), "metadata.jsonl": lines})
    with caplog.at_level(logging.WARNING, "surd"):
        assert only_prompts(tmp_path) == ["one", "two"]
    (message,) = caplog.messages
    assert "metadata.jsonl: line 2:" in message
    assert "2 such lines skipped" in message


def test_rows_of_a_table_that_no_image_takes_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [{"file_name": name, "text": name} for name in ("1.png", "in/2.png", "gone.png")]
    table = "\n".join(map(json.dumps, rows))
    files = {"a/metadata.jsonl": table, "a/1.png": image(1), "a/in/2.png": image(2)}
    folder = write(tmp_path / "f", files | {"b/3.png": image(3)})
    with caplog.at_level(logging.WARNING, "surd"):
        assert names(folder) == ["a/1.png", "a/in/2.png", "b/3.png"]
    (message,) = caplog.messages
    assert message.startswith("a/metadata.jsonl: the rows of 1 of 3 names were not used")
    assert "such as gone.png" in message


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_a_table_where_no_image_can_be_is_passed_over(tmp_path: Path, kind: str) -> None:
    table = json.dumps({"file_name": "1.png", "text": "a cup"})
    files: dict[str, bytes | str] = {"metadata.csv": "file_name,text\nin/1.png,a cup\n"}
    files |= {"in/deep/1.png": image(1), "labels/metadata.jsonl": table}
    made = write if kind == "folder" else write_zip
    (page,) = pages(FolderSource(path=str(made(tmp_path / f"f.{kind}", files))), None)
    assert page.seen.passed == {".jsonl": (1, "labels/metadata.jsonl")}


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_files_over_max_bytes_are_named_by_their_path_and_not_read(
    tmp_path: Path, kind: str
) -> None:
    files: dict[str, bytes | str] = {
        "big.png": image(1) + bytes(5000), "big.txt": "words", "small.png": image(2),
    }  # fmt: skip
    path = (
        write(tmp_path / "f", files) if kind == "folder" else write_zip(tmp_path / "f.zip", files)
    )
    big, small = records(path, max_bytes=4000)
    assert big.key == hashlib.sha256(b"big.png").hexdigest()
    assert (big.prompt, big.settings) == (None, {})
    assert small.key == hashlib.sha256(image(2)).hexdigest()


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root reads every file")
def test_unreadable_files_are_named_by_their_path(tmp_path: Path) -> None:
    write(tmp_path, {"a.png": image()})
    (tmp_path / "a.png").chmod(0)
    assert only(tmp_path).key == hashlib.sha256(b"a.png").hexdigest()


def test_files_that_are_no_images_are_left_to_the_download_stage(tmp_path: Path) -> None:
    write(tmp_path, {"a.png": "<html>", "b.jpg": b""})
    assert [record.key for record in records(tmp_path)] == [
        hashlib.sha256(b"<html>").hexdigest(), hashlib.sha256(b"").hexdigest()
    ]  # fmt: skip


def test_a_zip_is_read_without_unpacking(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "f.zip", {"a/b.png": image(parameters=PARAMETERS)})
    record = only(path)
    assert record.path == f"{path}::a/b.png"
    assert record.prompt == "embedded duck"
    assert list(tmp_path.iterdir()) == [path]


def test_names_in_a_zip_that_point_elsewhere_stay_plain_names(tmp_path: Path) -> None:
    path = write_zip(
        tmp_path / "f.zip",
        {"../../a.png": image(1), "/etc/b.png": image(2), "../../a.txt": "a duck"},
    )
    assert names(path) == ["../../a.png", "/etc/b.png"]
    assert records(path)[0].prompt == "a duck"


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_members_that_expand_without_bound_are_not_read(tmp_path: Path, method: int) -> None:
    path = write_zip(tmp_path / "f.zip", {"a.png": image()}, method)
    assert records(path)[0].key == hashlib.sha256(b"a.png").hexdigest()


def test_a_zip_bomb_is_expanded_no_further_than_max_bytes(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "f.zip", {"a.png": bytes(20_000_000), "b.png": image()}, 8)
    bomb, good = records(path, max_bytes=100_000)
    assert bomb.key == hashlib.sha256(b"a.png").hexdigest()
    assert good.key == hashlib.sha256(image()).hexdigest()


def test_a_damaged_member_does_not_stop_the_reading(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "f.zip", {"a.png": image(1) * 20, "b.png": image(2)})
    data = bytearray(path.read_bytes())
    data[60:70] = bytes(10)
    path.write_bytes(data)
    damaged, good = records(path)
    assert damaged.key == hashlib.sha256(b"a.png").hexdigest()
    assert good.key == hashlib.sha256(image(2)).hexdigest()


def encrypted(path: Path) -> Path:
    """Marks every member as encrypted, in both of its headers."""
    data = bytearray(write_zip(path, {"a.png": image()}).read_bytes())
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    return path


def test_what_cannot_be_read_at_all_is_told_in_one_line(tmp_path: Path) -> None:
    broken = write_zip(tmp_path / "broken.zip", {"a.png": image()})
    broken.write_bytes(broken.read_bytes()[:-30])
    plain = write(tmp_path, {"plain.txt": "words"}) / "plain.txt"
    for path, wanted in [
        (tmp_path / "nowhere", "no such folder or .zip file"),
        (plain, "neither a folder nor a readable zip"),
        (broken, "neither a folder nor a readable zip"),
        (encrypted(tmp_path / "locked.zip"), "a.png is encrypted; unpack the archive"),
    ]:
        with pytest.raises(SourceError) as caught:
            all_pages(path)
        message = str(caught.value)
        assert message.startswith(f"{path}: ")
        assert wanted in message
        assert "\n" not in message


def test_an_empty_folder_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert all_pages(tmp_path) == []
    assert "no image files" in caplog.text


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_reading_resumed_at_any_page_gives_the_same_rest(tmp_path: Path, kind: str) -> None:
    odd = ["%41.png", "a b.png", "c?.png", "ü/ö.png", "a.b/1.png", "a/1.png", "a0/1.png"]
    many = [f"{folder}/{i:03}.png" for folder in ("a", "b", "a-b") for i in range(90)]
    files: dict[str, bytes | str] = {name: image(i) for i, name in enumerate(odd + many)}
    path = (
        write(tmp_path / "f", files) if kind == "folder" else write_zip(tmp_path / "f.zip", files)
    )
    whole = all_pages(path)
    assert [len(page.records) for page in whole] == [100, 100, 77]
    assert whole[0].cursor is None
    for i, page in enumerate(whole):
        assert all_pages(path, page.cursor) == whole[i:]


def test_files_that_come_before_the_cursor_later_on_do_not_shift_the_pages(tmp_path: Path) -> None:
    write(tmp_path, {f"b{i:03}.png": image(i) for i in range(150)})
    cursor = all_pages(tmp_path)[1].cursor
    rest = all_pages(tmp_path, cursor)
    write(tmp_path, {"a.png": image(999)})
    assert all_pages(tmp_path, cursor) == rest


@pytest.mark.skipif(os.name != "posix", reason="only there names are plain bytes")
def test_file_names_need_not_be_text(tmp_path: Path) -> None:
    for i in range(101):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff%03d.png" % i)).write_bytes(image(i))
    whole = all_pages(tmp_path)
    assert len(whole) == 2
    assert (whole[1].cursor or "").isascii()
    assert all_pages(tmp_path, whole[1].cursor) == whole[1:]


def test_a_reader_that_is_closed_early_closes_its_archive(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "f.zip", {f"{i:03}.png": image(i) for i in range(150)})
    reader = pages(FolderSource(path=str(path)), None)
    next(reader)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        reader.close()  # type: ignore[attr-defined]
        del reader
        gc.collect()


def test_many_images_are_read_by_processes_with_the_same_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, {f"{n}/{n}.png": image(n, f"{PARAMETERS}, n: {n}") for n in range(12)})
    write(tmp_path, {"1/1.txt": "a duck", "2/2.png": b"no image", "note.md": "nothing"})
    monkeypatch.setattr(folder, "PAGE_RECORDS", 2)
    alone = list(pages(FolderSource(path=str(tmp_path)), None))
    calls = []

    def watched(*arguments: Any) -> Any:
        calls.append(arguments[2])
        return in_processes(*arguments)

    monkeypatch.setattr(folder, "_PAGES_ALONE", 1)
    monkeypatch.setattr(folder, "in_processes", watched)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    assert list(pages(FolderSource(path=str(tmp_path)), None)) == alone and calls == [2]
