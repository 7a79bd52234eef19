"""Sets of prompts to evaluate with: the bundled ones, and files in the formats of others."""

from __future__ import annotations

import codecs
import contextlib
import difflib
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from surd.errors import SurdError
from surd.evaluate.demo_questions import demo_prompts
from surd.evaluate.prompt import Prompt
from surd.evaluate.question_rows import DEPENDENT, dependent, geneval, geneval_2, own, tifa
from surd.files.text_rows import delimited_rows, json_object
from surd.paths import shipped
from surd.untrusted import parse_json

KINDS = ("action", "color", "counting")
"""The bundled sets: one for each kind of semantic prompt in the SUR-adapter paper."""
PAPER = "paper"
"""The name of all bundled sets together."""
DEMO = "demo:"
"""Before the names of the demo's own sets."""
SUFFIXES = (".jsonl", ".json", ".tsv", ".txt", ".csv")
_KIND_COLUMNS = ("kind", "challenge", "category")


def load_prompts(name: str) -> list[Prompt]:
    """The prompts of a bundled set or of a file, in their order and each text once.

    Args:
        name: ``action``, ``color``, ``counting``, ``paper`` (all three), one of the demo's
            (``demo:plain``, whose texts come once for each kind), or the path of a file:

            - ``.jsonl``: a JSON object a line, as data/prompts/README.md describes it: ``prompt``,
              and where wanted ``kind``, ``questions``, ``complex`` and ``scene``; or GenEval's or
              GenEval 2's.
            - ``.json``: TIFA's questions.
            - ``.tsv``: PartiPrompts, https://github.com/google-research/parti, whose columns are
              Prompt, Category, Challenge and Note. The kind is the Challenge ("Quantity",
              "Properties & Positioning"): it says what makes a prompt hard, while the Category
              says only what it is about ("Animals").
            - ``.txt``: T2I-CompBench++, https://github.com/Karine-Huang/T2I-CompBench: a prompt a
              line.
            - ``.csv``: as RFC 4180 has it (https://www.rfc-editor.org/rfc/rfc4180), with a column
              ``prompt``; or the questions of DSG or DPG-Bench.

            Those that come with questions are read by :mod:`surd.evaluate.question_rows`.

            Both kinds of table have a header line. Upper and lower case are alike there; the kind
            is in ``kind``, else ``challenge``, else ``category``; there may be a ``complex``. A
            prompt without a kind has the file's stem. Files are UTF-8.

    Raises:
        SurdError: the set is unknown, or the file is missing or wrong; one line says where.
    """
    if name.startswith(DEMO):
        return demo_prompts(name)
    if name == PAPER:
        return _distinct(prompt for kind in KINDS for prompt in _read(_bundled(kind)))
    return _distinct(_read(_bundled(name) if name in KINDS else _find(name)))


def _bundled(kind: str) -> Path:
    """The file of a bundled set, inside the installed package or in a checkout."""
    return shipped("data/prompts") / f"{kind}.jsonl"


def _find(name: str) -> Path:
    """The file that `name` means. Raises SurdError."""
    with contextlib.suppress(OSError, RuntimeError):  # a name too long for a file; ~nobody
        path = Path(name).expanduser()
        if path.is_file():
            if path.suffix.lower() in SUFFIXES:
                return path
            raise SurdError(
                f"{path}: unknown format; the name must end in one of {', '.join(SUFFIXES)}"
            )
    sets = (*KINDS, PAPER)
    near = difflib.get_close_matches(name.lower(), sets, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise SurdError(
        f"{name}: neither a prompt file nor a bundled set; {hint}bundled sets: {', '.join(sets)}"
    )


def _distinct(prompts: Iterator[Prompt]) -> list[Prompt]:
    first: dict[str, Prompt] = {}
    for prompt in prompts:
        first.setdefault(prompt.text, prompt)
    return list(first.values())


def _read(path: Path) -> Iterator[Prompt]:
    """The prompts of a file, with doubles. Raises SurdError, also when there are none."""
    text = _text(path)
    suffix = path.suffix.lower()
    if suffix == ".jsonl":
        prompts = _read_jsonl(path, text)
    elif suffix == ".json":
        prompts = _read_json(path, text)
    elif suffix == ".txt":
        prompts = (Prompt(line, path.stem) for _, line in _lines(text))
    else:
        prompts = _read_table(path, text, "\t" if suffix == ".tsv" else ",")
    first = next(prompts, None)
    if first is None:
        raise SurdError(f"{path}: contains no prompts; write one per line")
    yield first
    yield from prompts


def _text(path: Path) -> str:
    """A file's text, its lines ending in a newline each, without a byte order mark."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SurdError(f"{path}: cannot be read: {error.strerror or error}") from error
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise SurdError(f"{path}: UTF-16 text; save it as UTF-8")
    data = data.removeprefix(codecs.BOM_UTF8)
    position, what = data.find(0), "a NUL byte, so this is not plain text"
    if position < 0:
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            position, what = error.start, "not UTF-8"
        else:
            # not splitlines later on: it also cuts at characters which may stand in a prompt
            return text.replace("\r\n", "\n").replace("\r", "\n")
    line = data.count(b"\n", 0, position) + 1
    raise SurdError(f"{path}: line {line}: {what}; save it as UTF-8 text")


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines that are not empty, trimmed, with their numbers."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, line.strip()


def _read_jsonl(path: Path, text: str) -> Iterator[Prompt]:
    for number, line in _lines(text):
        where = f"{path}: line {number}"
        row = json_object(line)
        if isinstance(row, str):
            raise SurdError(f'{where}: {row}; write one object per line: {{"prompt": "..."}}')
        if "prompt" not in row:
            raise SurdError(f"{where}: prompt: missing; this line has {_listed(row)}")
        if "vqa_list" in row:
            yield geneval_2(row, where)
        elif "include" in row:
            yield geneval(row, where)
        else:
            yield own(row, where, path.stem)


def _read_json(path: Path, text: str) -> Iterator[Prompt]:
    """TIFA's questions."""
    try:
        rows = parse_json(text)
    except ValueError as error:
        raise SurdError(f"{path}: not JSON: {error}") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise SurdError(f"{path}: not a list of objects, as TIFA's questions are")
    return tifa(((f"{path}: [{n}]", row) for n, row in enumerate(rows)), path.stem)


def _read_table(path: Path, text: str, delimiter: str) -> Iterator[Prompt]:
    rows = _rows(path, text, delimiter)
    line, header = next(rows, (1, []))
    names = [name.strip().lower() for name in header]
    if set(names) >= DEPENDENT:
        located = (
            (f"{path}: line {line}", {n: _cell(row, i) for i, n in enumerate(names)})
            for line, row in rows
        )
        yield from dependent(located, path.stem)
        return
    columns = {name.strip().lower(): index for index, name in reversed([*enumerate(header)])}
    if header and "prompt" not in columns:
        raise SurdError(f"{path}: line {line}: no prompt column; the header has {_listed(header)}")
    kind = next((columns[name] for name in _KIND_COLUMNS if name in columns), None)
    for line, row in rows:
        where = f"{path}: line {line}"
        if len(row) > len(header):
            raise SurdError(
                f"{where}: {len(row)} values for {len(header)} columns; quote any text that "
                "contains the separator"
            )
        text = _cell(row, columns["prompt"])
        if not text:
            raise SurdError(f"{where}: prompt: empty; write some text or delete the line")
        complex_ = _cell(row, columns.get("complex"))
        yield Prompt(text, _cell(row, kind) or path.stem, complex=complex_ or None)


def _rows(path: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The rows of a table that hold anything, each with the number of its first line."""
    for line, row in delimited_rows(io.StringIO(text), delimiter):
        if isinstance(row, str):
            raise SurdError(f"{path}: line {line}: not CSV: {row}; double any quotes inside a text")
        if any(cell.strip() for cell in row):
            yield line, row


def _cell(row: Sequence[str], index: int | None) -> str:
    """A cell's text, trimmed; editors cut empty cells off the end of a line."""
    return row[index].strip() if index is not None and index < len(row) else ""


def _listed(names: Sequence[str] | Mapping[str, object]) -> str:
    """Names for a message, quoted since they may hold anything, and not too many of them."""
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return (", ".join(f"{name!r:.40}" for name in list(names)[:10]) or "none") + more
