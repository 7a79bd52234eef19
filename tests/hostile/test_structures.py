"""Files whose structure goes on and on: headers in a row, JSON in JSON, counts that lie."""

from __future__ import annotations

import io
import json
import os
import struct
import tarfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file
from support_bombs import in_a_gigabyte

from surd.adapter import files as adapters
from surd.adapter.module import Adapter, AdapterConfig
from surd.errors import ModelError, SurdError, WorkspaceError
from surd.files.tar_members import members
from surd.models.gguf_header import check_gguf
from surd.report.runs.sections import ablation_sections, sections
from surd.sources.kinds import SOURCES
from surd.sources.record import Page, Record
from surd.sources.table import TableSource
from surd.sources.webdataset import WebDatasetSource
from surd.stages.collect import collect
from surd.store.workspace import MANIFEST, Workspace
from surd.training.settings import check_folder, is_done
from surd.untrusted import MAX_DEPTH, TooDeepError, parse_json

DEEP = "[" * 100_000

# JSON


@pytest.mark.parametrize("text", [DEEP, "[" * 200 + "]" * 200, '{"a":' * 200 + "1" + "}" * 200])
def test_json_nested_deeply_is_a_value_error(text: str) -> None:
    with pytest.raises(TooDeepError, match="nested too deeply"):
        parse_json(text)


def test_json_as_deep_as_anybody_writes_is_read() -> None:
    assert parse_json("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    assert parse_json('{"a": [1, 2.5, {"b": null}]}'.encode("utf-16")) == {
        "a": [1, 2.5, {"b": None}]
    }


def test_numbers_that_are_none_are_null() -> None:
    assert parse_json("[NaN, -Infinity, 1e999, 1e99]") == [None, None, None, 1e99]
    with pytest.raises(ValueError, match="digits"):
        parse_json("1" * 5000)


@pytest.mark.parametrize(
    "text", [DEEP, '{"format_version": 1e999}', '{"format_version": 1, "recipe": ' + DEEP]
)
def test_a_manifest_that_is_none_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(WorkspaceError):
        Workspace(tmp_path).read_manifest()


def test_an_endless_time_in_a_manifest_is_one_line(tmp_path: Path) -> None:
    run = {"parts": 1, "rows": 1, "counts": {}, "finished_at": "", "settings": {}, "seconds": 0}
    text = json.dumps({"format_version": 1, "recipe": {}, "stages": {"collect": run}})
    (tmp_path / MANIFEST).write_text(text.replace('"seconds": 0', '"seconds": 1e999'))
    with pytest.raises(WorkspaceError, match=r"stages\.collect\.seconds"):
        Workspace(tmp_path).read_manifest()


# parts


def test_files_with_other_names_are_no_parts(tmp_path: Path) -> None:
    (tmp_path / "samples").mkdir()
    for number in ("00001", "123456", "²", "1", "000001", "0000²", "٠٠٠٠١", "1" * 40):
        (tmp_path / "samples" / f"part-{number}.parquet").touch()
        (tmp_path / "samples" / f"part-{number}.damaged.txt").touch()
    workspace = Workspace(tmp_path)
    assert workspace.parts("samples") == [1, 123456]
    assert list(workspace.damage("samples")) == [1, 123456]


def test_a_pipe_for_a_part_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "samples").mkdir()
    os.mkfifo(tmp_path / "samples" / "part-00000.parquet")
    os.mkfifo(tmp_path / MANIFEST)
    workspace = Workspace(tmp_path)
    for read in (lambda: workspace.part_info("samples", 0), workspace.read_manifest):
        with pytest.raises(WorkspaceError):
            read()


OF_A_RUN = (
    *("settings.json", "adapter_config.json", "adapter_model.safetensors", "evaluation.json"),
    *("evaluation.parquet", "ablation.json", "log.jsonl", "validation.jsonl"),
    *("validation/prompts.json", "logs/events.out.tfevents.0"),
)


@pytest.mark.parametrize("name", OF_A_RUN)
def test_a_pipe_in_a_training_run_is_not_waited_for(tmp_path: Path, name: str) -> None:
    path = write_adapter(tmp_path / "run") / name
    path.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True)
    os.mkfifo(path)
    looks: list[Callable[[], object]] = [
        lambda: sections(str(tmp_path / "run")),
        lambda: ablation_sections(str(tmp_path / "run")),
        lambda: adapters.load(tmp_path / "run"),
        lambda: is_done(tmp_path / "run", 1),
        lambda: check_folder(tmp_path / "run", {"vectors": None}, resume=True),
    ]
    for look in looks:
        with suppress(SurdError):
            look()


# tar


def extended(size: int, kind: bytes) -> bytes:
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = kind, size
    return info.tobuf(tarfile.USTAR_FORMAT)


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XGLTYPE])
def test_chained_headers_are_damage(tmp_path: Path, kind: bytes) -> None:
    body = b"12 path=abc\n".ljust(512, b"\0") if kind != tarfile.GNUTYPE_LONGNAME else bytes(512)
    path = tmp_path / "a.tar"
    path.write_bytes((extended(12, kind) + body) * 5000 + bytes(1024))
    with pytest.raises(ValueError, match="damaged"):
        list(members(path))


READ_TAR = """
from surd.files.tar_members import members
try:
    list(members(Path(sys.argv[1])))
except ValueError as error:
    print(error)
"""


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_of_600_megabytes_is_not_read(tmp_path: Path, kind: bytes) -> None:
    path = tmp_path / "a.tar"
    with path.open("wb") as file:
        file.write(extended(600 << 20, kind))
        file.truncate(601 << 20)
    assert "a header of more than" in in_a_gigabyte(READ_TAR, path, mb=300)


def test_a_long_name_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for i in range(50):
            info = tarfile.TarInfo(f"{'x' * 50_000}{i}.jpg")
            info.size = 3
            archive.addfile(info, io.BytesIO(b"abc"))
    assert len(list(members(path))) == 50


# one bad source


def test_a_source_that_breaks_does_not_end_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bad(params: Any, cursor: str | None) -> Iterator[Page]:
        yield Page(None, [Record(key="a", url="http://a/1")])
        raise RecursionError("maximum recursion depth exceeded")

    monkeypatch.setitem(SOURCES, "webdataset", (WebDatasetSource, bad))
    (tmp_path / "t.csv").write_text("url,prompt\nhttp://a/2,p\n")
    sources = [WebDatasetSource(path="a"), TableSource(path=str(tmp_path / "t.csv"))]
    first, second = collect(Workspace(tmp_path / "w"), sources, 10)
    assert (first.new, first.problem) == (
        1,
        "webdataset: RecursionError: maximum recursion depth exceeded",
    )
    assert (second.new, second.problem) == (1, None)


# models


def gguf(tensors: int = 0, pairs: int = 0, body: bytes = b"") -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, pairs) + body


def key(kind: int, rest: bytes) -> bytes:
    return struct.pack("<Q", 1) + b"k" + struct.pack("<I", kind) + rest


TENSOR = struct.pack("<Q", 1) + b"t" + struct.pack("<IQ", 1, 1 << 60) + struct.pack("<IQ", 0, 0)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"GGML" + bytes(100), "no GGUF"),
        (gguf(pairs=1 << 60), "claims 1,152,921,504,606,846,976 values"),
        (gguf(tensors=1 << 60), "tensors"),
        (gguf(pairs=1, body=key(8, struct.pack("<Q", 1 << 60))), "characters"),
        (gguf(pairs=1, body=key(9, struct.pack("<IQ", 4, 1 << 60))), "bytes"),
        (gguf(pairs=1, body=key(9, struct.pack("<IQ", 8, 1 << 60))), "items"),
        (gguf(pairs=1, body=key(9, struct.pack("<IQ", 9, 1) * 5)), "type 9"),
        (gguf(pairs=1, body=key(77, b"") + bytes(20)), "type 77"),
        (gguf(tensors=1, body=TENSOR), "a tensor of 1,152,921,504,606,846,976 weights"),
        (gguf(pairs=1, body=b"\1"), "claims 1 values"),
    ],
)
def test_a_gguf_that_claims_more_than_it_holds_is_refused(
    tmp_path: Path, data: bytes, message: str
) -> None:
    (tmp_path / "a.gguf").write_bytes(data)
    with pytest.raises(ValueError, match=message):
        check_gguf(tmp_path / "a.gguf")


def write_adapter(folder: Path, **claims: Any) -> Path:
    own = {"width": 8, "feed_forward": 16, "heads": 2, "depth": 1}
    adapter = Adapter(AdapterConfig(**own))
    folder.mkdir()
    save_file(adapter.state_dict(), folder / adapters.WEIGHTS_FILE)
    config = {"format": "surd-adapter-1", **own, **claims}
    (folder / adapters.CONFIG_FILE).write_text(json.dumps(config))
    return folder


def test_an_adapter_is_loaded_as_it_was_saved(tmp_path: Path) -> None:
    assert adapters.load(write_adapter(tmp_path / "a")).config.depth == 1


@pytest.mark.parametrize("name", ["depth", "width", "feed_forward", "heads"])
@pytest.mark.parametrize("value", [10**9, -1, "many", [1]])
def test_an_adapter_that_claims_more_than_its_weights_is_not_built(
    tmp_path: Path, name: str, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_adapter(tmp_path / "a", **{name: value})
    monkeypatch.setattr(adapters, "Adapter", lambda *_: pytest.fail("was built"))
    with pytest.raises(ModelError, match=f"{name}( is|: )"):
        adapters.load(folder)


def test_an_adapter_with_a_deep_configuration_is_one_line(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a")
    (folder / adapters.CONFIG_FILE).write_text(DEEP)
    with pytest.raises(ModelError, match="nested too deeply"):
        adapters.load(folder)
