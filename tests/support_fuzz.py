"""What is fuzzed: bytes of strangers in, and what has to hold of whatever comes out.

A target raises for a fault of surd, and returns for what surd has a verdict on.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import math
import re
import shutil
import tempfile
import unicodedata
import zlib
from base64 import b64decode
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support_publish import description
from yarl import URL

from surd.adapter.files import CONFIG_FILE, WEIGHTS_FILE, save
from surd.adapter.files import load as load_adapter
from surd.adapter.module import Adapter, AdapterConfig, LanguageModel
from surd.build import filter_history
from surd.dataset.atomic_folder import read_description
from surd.dataset.publish.card import card
from surd.dataset.publish.croissant import croissant
from surd.dataset.publish.provenance import Made
from surd.dataset.published import Published, batches, open_published, pictures, row_reader
from surd.errors import ModelError, SurdError
from surd.evaluate import preferences, rewriting
from surd.evaluate.earlier import keep_earlier
from surd.evaluate.preferences import export_preferences
from surd.evaluate.prompt_sets import load_prompts
from surd.files import images
from surd.files.carriers.find import hidden_texts_in, texts_in
from surd.files.local_files import LocalFiles
from surd.files.resize import Resize, needs_resize, resize
from surd.files.strip import without_metadata
from surd.files.text_encoding import CONTROL, decode_text
from surd.models import served
from surd.models.gguf_header import check_gguf
from surd.models.single_file import shapes_of
from surd.models.tagger import load_tagger
from surd.net import chat as chats
from surd.net import robots
from surd.net.headers import retry_after_s
from surd.net.http_api import _BrokenAnswerError, _object
from surd.net.opt_outs import opt_out
from surd.params import lasting
from surd.recipe.publish import PublishParams
from surd.recipe.train_adapter import TrainAdapterParams
from surd.report.page import render
from surd.report.runs.sections import ablation_sections
from surd.report.runs.sections import sections as run_sections
from surd.sources import (
    civitai,
    diffusiondb,
    folder,
    huggingface,
    lexica,
    metadata,
    prompt_pages,
    webdataset,
)
from surd.sources import table as table_source
from surd.sources.record import Page, SourceParams
from surd.sources.sidecar import json_able
from surd.sources.text_file import read_json, read_text
from surd.stages import inventory
from surd.stages.collected import collected
from surd.stages.filter.params import FilterParams
from surd.stages.prompts import _remove_invisible, _repair
from surd.stages.sample_rows import row_of
from surd.stages.source_state import known_states
from surd.store import edits, gone, journal, lease
from surd.store.checksums import FOOTER_KEY, ROW_KEYS
from surd.store.schema import IMAGE_STATUSES, SAMPLES
from surd.store.workspace import Workspace
from surd.text.caption_cleaning import clean_caption
from surd.text.chat_answers import unwrapped, without_thoughts
from surd.text.generation import dialects
from surd.text.generation.found import Text
from surd.text.prompt_reader import SYNTAX
from surd.text.prompt_syntax import ParsedPrompt, parse
from surd.training import card as run_card
from surd.training import logs
from surd.training.settings import check_folder, is_done
from surd.untrusted import parse_json

MAX_PIXELS = 1_000_000
"""A larger picture says nothing new, and takes time."""
APART = ("<", "__", "#", "//", "/*", "--", "embedding")
"""What becomes syntax when a bracket between its characters goes."""
_RESIZE = Resize(size=16, format="jpeg")


def image(data: bytes) -> None:
    """Header, pixels, checks, perceptual hash and resizing of an image file."""
    try:
        _look_at(data)
    except images.ImageProblem as problem:
        _check(problem)


def _look_at(data: bytes) -> None:
    facts = images.read_header(data, max_pixels=MAX_PIXELS)
    grey = images.check_decodes(data, facts)
    assert len(images.perceptual_hash(grey)) == 16
    pixels = images.decode(data)
    assert pixels.shape == (facts.height, facts.width, 3)
    assert pixels.dtype == np.uint8
    images.decode(data, min_side_px=4)
    bare = without_metadata(data, facts.orientation)
    assert not texts_in(bare)
    assert np.array_equal(images.decode(bare), pixels)
    if needs_resize(facts, _RESIZE):
        made, small = resize(data, facts, _RESIZE)
        again = images.read_header(made, max_pixels=MAX_PIXELS)
        assert (again.height, again.width) == small.shape[:2]


def _check(problem: images.ImageProblem) -> None:
    assert problem.status in set(IMAGE_STATUSES) - {"ok"}
    assert "\n" not in problem.detail
    assert len(problem.detail) <= 200


def generation(data: bytes) -> None:
    """What a generator left in an image file."""
    texts = texts_in(data) + hidden_texts_in(data)
    _check_reading(texts)
    found = metadata.read(data)
    json.dumps(found.settings, allow_nan=False)


def _check_reading(texts: list[Text]) -> None:
    """Nothing raises, and no text of some length is lost."""
    reading = dialects.read(texts)
    assert len(reading.used) + len(reading.not_understood) == len(texts)
    if reading.generation is not None:
        for text in (reading.generation.negative_prompt, reading.generation.model):
            assert text is None or (isinstance(text, str) and text)
        json.dumps(json_able(reading.generation.settings), allow_nan=False)


def texts(data: bytes) -> None:
    """The same from texts alone: pairs of a name and a value, each ended by a zero byte."""
    pieces = data.decode("utf-8", "replace").split("\0")
    named = zip(pieces[::2], pieces[1::2], strict=False)
    _check_reading([Text(name, name, value) for name, value in named])


def graph(data: bytes) -> None:
    """A graph of ComfyUI, made of the bytes: nodes with inputs of the names that are known."""
    names = ("positive", "text", "clip", "select", "text_a", "text_b", "delimiter", "seed", "steps")
    nodes: dict[str, dict[str, object]] = {}
    for place in range(0, len(data) - 2, 3):
        key, name, value = data[place : place + 3]
        inputs = nodes.setdefault(str(key % 32), {})
        linked = [str(value % 32), value >> 5]
        inputs[names[name % len(names)]] = linked if name & 0x80 else (chr(value), value)[name & 1]
    text = json.dumps({k: {"class_type": "KSampler", "inputs": v} for k, v in nodes.items()})
    _check_reading([Text("prompt", "prompt", text)])


def beside(data: bytes) -> None:
    """A ``.json`` or ``.txt`` file beside an image."""
    try:
        text = decode_text(data)
    except ValueError:
        return  # which the reader tells as a malformed file
    assert not CONTROL.search(text)
    json.dumps(read_text(text).settled().settings, allow_nan=False)
    try:
        found = read_json(json.loads(text))
    except (ValueError, RecursionError):
        return
    json.dumps(found.settled().settings, allow_nan=False)


def prompt(data: bytes) -> None:
    """The words of a prompt."""
    text = data.decode("utf-8", "replace")
    clean = _remove_invisible(_repair(text)[0])
    acting = {c for c in clean if unicodedata.category(c) in ("Cc", "Cs")} - set("\n\t")
    assert not acting, acting
    for written in (text, clean):
        for generator in SYNTAX:
            parse(written, generator)
        parsed = parse(written)
        assert parsed.segments >= 1
        if "\\" in written or "_(" in written or parsed.text[:1] in ("{", "["):
            continue  # the first two make brackets words, and JSON stays whole
        assert not set(parsed.text) & set("()[]{}")
        if not any(mark in written for mark in APART):
            # what brackets kept apart may become syntax
            assert parse(parsed.text) == ParsedPrompt(parsed.text), f"words read again: {written!r}"
        assert all(abs(some.weight) <= 100 for some in (*parsed.weights, *parsed.networks))
    once = clean_caption(text)
    assert clean_caption(once) == once


def manners(data: bytes) -> None:
    """What a site says of robots: robots.txt, and a header."""
    text = data.decode("utf-8", "surrogateescape")
    rules = robots.parse(data.decode("utf-8", "replace"))
    assert 0 <= rules.delay_s <= 60
    for path in ("/", "/a/b.png?c=%20d*$", "http://a.example/é"):
        robots.allows(rules, path)
        robots.opts_out(rules, path)
    told = opt_out(lambda name: [text])
    for directive in ("noai", "noml"):
        assert opt_out(lambda name, more=directive: [more, text]) is not None
    assert told is None or len(told) < 200
    assert (retry_after_s(text) or 0) >= 0


def table(data: bytes) -> None:
    """A table of urls or paths and prompts; the first byte says of which kind."""
    path = _written(data, ("csv", "tsv", "jsonl", "json", "parquet"))
    _collect(table_source.pages, table_source.TableSource(path=str(path)))


def archive(data: bytes) -> None:
    """A file that holds images and texts; the first byte says of which kind."""
    path = _written(data, ("zip", "tar", "parquet"))
    named = {"path": str(path)}
    if path.suffix == ".zip":
        _collect(folder.pages, folder.FolderSource(**named))
    elif path.suffix == ".tar":
        _collect(webdataset.pages, webdataset.WebDatasetSource(**named))
    else:
        _collect(huggingface.pages, huggingface.HuggingFaceSource(**named))


def _collect(
    pages: Callable[[SourceParams, str | None], Iterator[Page]], params: SourceParams
) -> None:
    """Every record becomes a row, and each page is found again by its cursor."""
    files = LocalFiles()
    try:
        found = list(pages(params, None))
        records = [record for page in found for record in page.records]
        pa.Table.from_pylist([row_of("id", "kind", one) for one in records], schema=SAMPLES)
        if len(found) > 1:
            again = next(pages(params, found[-1].cursor))
            assert again.records == found[-1].records
        for record in records[:20]:
            if record.path is not None:
                files.read(record.path, 10_000)
    except SurdError as error:
        _check_line(error)
    finally:
        files.close()


def rows(data: bytes) -> None:
    """Rows of a published table with images, as JSON; the first byte says whose."""
    try:
        found = pa.Table.from_pylist(_with_bytes(parse_json(data[1:])))
        path = _written(b"\0", ("parquet",))
        pq.write_table(found, path)
    except (ValueError, TypeError, AttributeError, LookupError, OverflowError, pa.ArrowException):
        return  # no rows
    kind = data[0] % 4
    if kind == 0:
        (path.parent / "part-000001").mkdir()
        _collect(diffusiondb.pages, diffusiondb.DiffusionDbSource(path=str(path)))
    elif kind == 1:
        _collect(huggingface.pages, huggingface.HuggingFaceSource(path=str(path)))
    elif kind == 2:
        _collect(table_source.pages, table_source.TableSource(path=str(path)))
    else:
        said = json.dumps(description({"name": path.name, "rows": found.num_rows}))
        Path(path.parent, "surd-dataset.json").write_text(said)
        try:
            _read_published(open_published(str(path.parent)), found.num_rows)
        except SurdError as error:
            _check_line(error)


def _with_bytes(value: Any) -> Any:
    """JSON has none: what is named so."""
    if isinstance(value, dict):
        named = ((name, _with_bytes(inner)) for name, inner in value.items())
        return {
            name: inner.encode() if name == "bytes" and isinstance(inner, str) else inner
            for name, inner in named
        }
    return [_with_bytes(inner) for inner in value] if isinstance(value, list) else value


def _read_published(dataset: Published, count: int) -> None:
    names = ["simple_prompt", "complex_prompt"]
    rows = [row for table in batches(dataset, "train", names) for row in table.to_pylist()]
    assert all(isinstance(text, str | None) for row in rows for text in row.values())
    for picture in pictures(dataset, "train"):
        assert re.fullmatch("[0-9a-f]{32}", picture.id)
        assert isinstance(picture.data, bytes)
        assert isinstance(picture.fields["complex_prompt"], str | None)
    read = row_reader(dataset, "train", ("id", "image"))
    for row in read(range(count)):
        assert isinstance(row["image"]["bytes"], bytes)


def page(data: bytes) -> None:
    """A page of a site with images and prompts; what a chat model answers."""
    text = data.decode("utf-8", "replace")
    cards, _ = prompt_pages.read_cards(text, "https://a.example/b")
    for one in cards:
        assert one.image.startswith(("http://", "https://"))
        assert one.text.strip() or one.prompt
    prompt_pages.read_image_page(text)
    said = without_thoughts(text)
    assert unwrapped(unwrapped(said)) == unwrapped(said)


def answer(data: bytes) -> None:
    """What the API of a site answers, whatever it is asked."""
    try:
        found = _object(data)
    except _BrokenAnswerError:
        return
    for params in (
        civitai.CivitaiSource(limit=10),
        civitai.CivitaiSource(endpoint="models"),
        lexica.LexicaSource(queries=["a"]),
        lexica.LexicaSource(queries=["a"], api="infinite_prompts"),
    ):
        source = civitai if isinstance(params, civitai.CivitaiSource) else lexica
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(source, "open_api", lambda *_, **__: lambda path, query: found)
            try:
                for one in islice(source.pages(params, None), 3):
                    rows = [row_of("id", "kind", record) for record in one.records]
                    pa.Table.from_pylist(rows, schema=SAMPLES)
            except SurdError as error:
                _check_line(error)


class _Response:
    """An answer of a chat server, as far as surd looks at it."""

    def __init__(self, status: int, header: str, body: bytes) -> None:
        self.status, self.content, self._body = status, self, body
        self.url = URL("http://a.example/v1")
        self.headers = {"Retry-After": header, "Location": header} if header else {}

    async def iter_any(self) -> AsyncIterator[bytes]:
        yield self._body

    def request(self, *_: object, **__: object) -> AbstractAsyncContextManager[_Response]:
        """What a session is asked for."""
        return nullcontext(self)


_STATUSES = (200, 301, 400, 401, 404, 429, 500, 503)


def chat(data: bytes) -> None:
    """What a server of models answers: the first byte says with which status, the first line what
    its header says."""
    header, _, body = data[1:].partition(b"\n")
    status = _STATUSES[data[0] % len(_STATUSES)] if data else 200
    server = chats.Chat("http://a.example/v1", "m")
    server._session = cast(Any, _Response(status, header.decode("latin-1"), body))
    try:
        choices = asyncio.run(server._choices(b""))
    except (chats.UnansweredError, chats._Broken, chats._Unready) as error:
        _check_unanswered(error, status)
        return
    assert choices
    assert status == 200
    for choice in choices:
        acting = {c for c in choice.text if unicodedata.category(c) in ("Cc", "Cs")} - set("\n\t")
        assert not acting, acting
        assert not set(served._whole(choice)) & set("\n\t")
        unwrapped(without_thoughts(choice.text))
        for answer in ("yes", "two", "a red cup"):
            likely = served._probability(choice, answer)
            assert math.isnan(likely) or 0 <= likely <= 1


def _check_unanswered(error: Exception, status: int) -> None:
    assert len(str(error)) < 1000
    assert str(error).isprintable()
    assert getattr(error, "http_status", None) in (None, *range(300, 600))
    assert (getattr(error, "wait_s", None) or 0) >= 0
    assert isinstance(error, chats.UnansweredError) or status in (200, 429, 500, 503)


_EDIT = "edits/20260101T000000000000Z-00000000"
_FILES = (
    *("surd.json", ".surd.lock", f"{_EDIT}.json", f"{_EDIT}.undone.json", "samples/gone.json"),
    *("samples/source-0.json", "dataset/surd-dataset.json", "filter-history.json"),
)
"""What a workspace says of itself, apart from its parts."""


def workspace(data: bytes) -> None:
    """A file of a workspace that somebody else made; the first byte says which."""
    number = data[0] % (len(_FILES) + 3) if data else 0
    top = _folder() / "workspace"
    shutil.rmtree(top, ignore_errors=True)
    edits._contents.clear()
    found, content = Workspace(top), data[1:]
    if number < len(_FILES):
        path = top / _FILES[number]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    elif number == len(_FILES):
        head = journal._HEAD.pack(len(content), zlib.crc32(content))
        found.storage.append_bytes("clip/.unfinished/00000-0", head + content)
    else:
        key = FOOTER_KEY if number == len(_FILES) + 1 else ROW_KEYS
        table = pa.table({"id": ["0" * 32]}).replace_schema_metadata({key: content})
        (top / "samples").mkdir(parents=True)
        pq.write_table(table, top / "samples/part-00000.parquet")
    for look in (
        _manifest,
        _lease,
        _edits,
        _gone,
        _states,
        collected,
        _rows,
        _footer,
        _dataset,
        _history,
    ):
        try:
            look(found)
        except SurdError as error:
            _check_line(error)


def _manifest(found: Workspace) -> None:
    found.write_manifest(found.read_manifest())


def _lease(found: Workspace) -> None:
    there = lease._read(found.storage, ".surd.lock")
    lease._is_void(there)
    lease.keep(found.storage, ".surd.lock", "t")


def _edits(found: Workspace) -> None:
    known = edits.read(found)
    assert not [text for text in known.now().values() if edits._NO_TEXT.search(text)]
    ids = pa.chunked_array([pa.array(list(known.ever()), pa.string())])
    edits.column(ids, known.now())
    edits.inputs(ids, known.now())
    for id_ in known.ever():
        edits.history(found, id_, known)
    edits.write(found, {"0" * 32: "a cup"}, "by hand")


def _states(found: Workspace) -> None:
    list(inventory.gaps(found))
    known_states(found)


def _history(found: Workspace) -> None:
    filter_history.settings_before(found, FilterParams())


def _rows(found: Workspace) -> None:
    tables = list(journal.read(found.storage, "clip", [0]))
    rows = [table.to_pylist() for table in tables]
    assert [len(some) for some in rows] == [table.num_rows for table in tables]
    for table, keys in found.keyed("samples", 0):
        assert len(keys) <= table.num_rows


def _footer(found: Workspace) -> None:
    info = found.part_info("samples", 0)
    assert info is None or all(isinstance(one, str) for one in info.inputs.values())


def _dataset(found: Workspace) -> None:
    said = read_description(found.storage)
    if said is not None:
        made = Made("a", "b", [], {}, {})
        card(said, made, PublishParams()).encode()
        croissant(said, made, PublishParams()).encode()
    dataset = open_published(found.location)
    assert all(rows >= 0 for rows in dataset.splits.values())
    for file in dataset.files:
        assert Path(dataset.location, file["name"]).parent == Path(dataset.location)
    for split in dataset.splits:
        list(batches(dataset, split))


def _gone(found: Workspace) -> None:
    ids = gone.read(found)
    gone.column(pa.chunked_array([["0" * 32]]), ids)
    gone.inputs(ids)


def model(data: bytes) -> None:
    """A file of a model, as far as it is read before a library gets it."""
    path = _written(data, ("gguf", "safetensors", "ckpt", "csv", "json"))
    try:
        if path.suffix == ".gguf":
            check_gguf(path)
        elif path.suffix == ".json":
            shutil.copy(_reader() / WEIGHTS_FILE, path.parent)
            load_adapter(path.rename(path.parent / CONFIG_FILE).parent)
        elif path.suffix == ".csv":
            load_tagger(str(path.rename(path.parent / "selected_tags.csv").parent))
        else:
            shapes_of(path)
    except ModelError as error:
        _check_line(error)
    except ValueError:
        assert path.suffix == ".gguf"  # whose reader makes a ModelError of it


def questions(data: bytes) -> None:
    """A file of prompts to evaluate with; the first byte says of which kind."""
    path = _written(data, ("txt", "csv", "tsv", "jsonl", "json"))
    try:
        assert all(one.text.strip() for one in load_prompts(str(path)))
    except SurdError as error:
        _check_line(error)


_OF_RUNS = (
    *("log.jsonl", "validation.jsonl", "settings.json", "adapter_config.json"),
    *("evaluation.json", "ablation.json", "validation/prompts.json", "logs/events.out.tfevents.0"),
    *("evaluation.parquet", "a.json"),
)
"""What a training run and its evaluation leave, apart from weights and pictures."""
_PNG = b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="
)


def run(data: bytes) -> None:
    """The folder of a training run that somebody else made: the first byte says which file of it;
    rows of a table are JSON."""
    top = _folder() / "run"
    shutil.rmtree(top, ignore_errors=True)
    (top / "validation" / "base").mkdir(parents=True)
    (top / "logs").mkdir()
    name = _OF_RUNS[data[0] % len(_OF_RUNS) if data else 0]
    (top / "validation" / "base" / "000-0.png").write_bytes(_PNG)
    (top / "settings.json").write_text('{"diffusion": "a"}')
    (top / "validation" / "prompts.json").write_text('["a cup"]')
    (top / name).write_bytes(data[1:])
    if name.endswith(".parquet"):
        try:
            pq.write_table(pa.Table.from_pylist(parse_json(data[1:])), top / name)
        except (ValueError, TypeError, AttributeError, LookupError, OverflowError):
            return  # no rows
    for look in (_reported, _preferred, _told, _taken_up, _rewritten):
        try:
            look(top)
        except SurdError as error:
            _check_line(error)


def _reported(top: Path) -> None:
    found = [*run_sections(str(top)), *ablation_sections(str(top))]
    assert render("a", found).encode("utf-8", "replace")


def _preferred(top: Path) -> None:
    out = top / "pairs.parquet"
    out.unlink(missing_ok=True)
    export_preferences(top, out)
    assert pq.read_schema(out).equals(preferences.SCHEMA)


def _told(top: Path) -> None:
    keep_earlier(top, "evaluation", {"format": "surd-evaluation-1"})
    (line,) = [one for one in run_card._held_out(top).splitlines() if "%" in one] or [""]
    assert len(line) < 200
    config = run_card.read_config(top)
    assert isinstance(config, dict)


def _taken_up(top: Path) -> None:
    lines = logs.read_log(top / "log.jsonl")
    assert lines == sorted(lines, key=lambda line: line["step"])
    assert all(isinstance(step, int) for step, _ in logs.finite(lines, "loss"))
    json.dumps(lines)
    is_done(top, 4)
    wanted = lasting(TrainAdapterParams()) | {"vectors": None, "sentences": None, "start": None}
    wanted |= {"dataset": [], "diffusion_identity": "a"}
    for settings in (wanted, wanted | _object_in(top / "settings.json") | {"steps": 10**6}):
        try:
            check_folder(top, settings, resume=True)
        except SurdError as error:
            _check_line(error)


def _object_in(path: Path) -> dict[str, Any]:
    try:
        found = parse_json(path.read_bytes())
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _rewritten(top: Path) -> None:
    found = rewriting._read(top / "a.json")
    assert all(isinstance(text, str) for pair in found.items() for text in pair)


def _check_line(error: SurdError) -> None:
    assert "\n" not in str(error)
    assert len(str(error)) < 1000


def _written(data: bytes, suffixes: Sequence[str]) -> Path:
    """A file of what comes after the first byte, which chooses the suffix; alone in a folder."""
    top = _folder()
    shutil.rmtree(top)
    top.mkdir()
    path = top / f"t.{suffixes[data[0] % len(suffixes) if data else 0]}"
    path.write_bytes(data[1:])
    return path


@cache
def _reader() -> Path:
    """A small adapter that reads a language model."""
    top = _folder().with_suffix(".reader")
    atexit.register(shutil.rmtree, top, ignore_errors=True)
    llm = LanguageModel("m", "m", layer=1, width=4, max_tokens=8)
    config = AdapterConfig(
        width=4, network="reader", depth=1, heads=1, feed_forward=4, language_model=llm
    )
    save(Adapter(config), top)
    return top


@cache
def _folder() -> Path:
    top = tempfile.mkdtemp(prefix="fuzz-")
    atexit.register(shutil.rmtree, top, ignore_errors=True)
    return Path(top)


_TARGETS = (image, generation, texts, graph, beside, prompt, manners)
_OF_FILES = (table, archive, page, answer, chat, model, questions, workspace, rows, run)
TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target for target in (*_TARGETS, *_OF_FILES)
}
