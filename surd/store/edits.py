"""Simple prompts written by hand: what somebody wrote in place of what was proposed.

An edit is a small file, ``edits/TIME-DIGEST.json``, however many samples it changes, and is never
written again. Undoing it is another file, ``TIME-DIGEST.undone.json``, or for one of its samples
``TIME-DIGEST.ID.undone.json``. So several people may edit at once, on an object store too, no kill
leaves half an edit, and all that ever was stays known.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from surd.errors import SurdError, WorkspaceError
from surd.store.author import author, now
from surd.store.ids import ID
from surd.store.workspace import DamagedPartError, Workspace
from surd.untrusted import parse_json

GROUP = "edits"
"""Their folder in a workspace; what a part that heeds them names them by in its footer."""
COLUMN = "edit"
"""What a stage that heeds them is given them as: the text, null where there is none."""
MAX_CHARS = 10_000

Texts = Mapping[str, str]
"""Sample id -> its simple prompt."""

_EDIT = re.compile(r"([0-9]{8}T[0-9]{12}Z-[0-9a-f]{8})\.json")
_UNDONE = re.compile(r"([0-9]{8}T[0-9]{12}Z-[0-9a-f]{8})(?:\.([0-9a-f]{32}))?\.undone\.json")
_NO_TEXT = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters and halves of characters."""
_TIME = "%Y%m%dT%H%M%S%fZ"
_contents: dict[tuple[str, str], dict[str, Any]] = {}
"""Location and name -> content of files read before, which never change."""


@dataclass(frozen=True)
class Edit:
    """One edit, as its file says."""

    name: str
    at: str
    by: str
    what: str
    """What was done, in a few words."""
    texts: Mapping[str, str | None]
    """Sample id -> its new simple prompt; None for the one that is proposed."""


@dataclass(frozen=True)
class Undone:
    """Whether and by whom an edit of one sample was taken back."""

    at: str
    by: str


@dataclass(frozen=True)
class Change:
    """An edit of one sample, for its history."""

    edit: str
    at: str
    by: str
    what: str
    text: str | None
    undone: Undone | None


@dataclass(frozen=True)
class Edits:
    """All edits there are, in their order."""

    edits: Sequence[Edit]
    undone: Mapping[tuple[str, str | None], str]
    """Name of an edit, and a sample's id or None for all of them -> the file that says so."""

    def now(self) -> dict[str, str]:
        """The texts that count today."""
        found: dict[str, str | None] = {}
        for edit in self.edits:
            if (edit.name, None) not in self.undone:
                found |= {
                    id_: text
                    for id_, text in edit.texts.items()
                    if (edit.name, id_) not in self.undone
                }
        return {id_: text for id_, text in found.items() if text is not None}

    def ever(self) -> frozenset[str]:
        """The ids of all samples that somebody edited, undone or not."""
        return frozenset(id_ for edit in self.edits for id_ in edit.texts)

    def last(self, sample_id: str | None) -> Edit | None:
        """The last edit that is not undone: of a sample, or of all."""
        for edit in reversed(self.edits):
            if (edit.name, None) in self.undone:
                continue
            if sample_id is None:
                if any((edit.name, id_) not in self.undone for id_ in edit.texts):
                    return edit
            elif sample_id in edit.texts and (edit.name, sample_id) not in self.undone:
                return edit
        return None


def read(workspace: Workspace) -> Edits:
    """Raises WorkspaceError where a file is damaged."""
    edits: list[Edit] = []
    undone: dict[tuple[str, str | None], str] = {}
    for name in workspace.storage.names(GROUP):
        if match := _EDIT.fullmatch(name):
            edits.append(_read(workspace, match[1]))
        elif match := _UNDONE.fullmatch(name):
            undone[match[1], match[2]] = name
    return Edits(edits, undone)


def current(workspace: Workspace) -> dict[str, str]:
    """Sample id -> the simple prompt that was written for it."""
    return read(workspace).now()


def write(workspace: Workspace, texts: Mapping[str, str | None], what: str) -> str:
    """Write one edit down; returns its name. On the disk before this returns.

    The caller knows that the samples are there. Raises SurdError for a text that is no prompt,
    WorkspaceError where the workspace cannot be written to.
    """
    cleaned = {id_: None if text is None else clean(text) for id_, text in texts.items()}
    content = {"at": now(), "by": author(), "what": what, "simple": cleaned}
    data = json.dumps(content, ensure_ascii=False, indent=1).encode() + b"\n"
    names = [n for n in workspace.storage.names(GROUP) if _EDIT.fullmatch(n)]
    moment = datetime.now(UTC)
    if names:  # a clock that is behind must not put this edit before those that are there
        try:
            last = datetime.strptime(names[-1].split("-")[0], _TIME).replace(tzinfo=UTC)
            moment = max(moment, last + timedelta(microseconds=1))
        except (ValueError, OverflowError) as error:
            raise _damaged(workspace, names[-1], "its name tells no time") from error
    name = f"{moment.strftime(_TIME)}-{hashlib.blake2b(data, digest_size=4).hexdigest()}"
    workspace.storage.write_bytes(f"{GROUP}/{name}.json", data)
    return name


def undo(
    workspace: Workspace, ids: Iterable[str] | None = None, *, name: str | None = None
) -> dict[str, str]:
    """Take back the last edit of each sample; without `ids` that of a name, or the last one, of all
    its samples.

    Sample id -> name of the edit that was taken back; empty where there is none.
    """
    edits = read(workspace)
    if ids is None:
        named = (one for one in edits.edits if one.name == name)
        edit = edits.last(None) if name is None else next(named, None)
        if edit is None or (edit.name, None) in edits.undone:
            return {}
        _mark(workspace, f"{edit.name}.undone.json")
        return {id_: edit.name for id_ in edit.texts if (edit.name, id_) not in edits.undone}
    last = {id_: edits.last(id_) for id_ in ids}
    for id_, edit in last.items():
        if edit is not None:
            _mark(workspace, f"{edit.name}.{id_}.undone.json")
    return {id_: edit.name for id_, edit in last.items() if edit is not None}


def history(workspace: Workspace, sample_id: str, edits: Edits | None = None) -> list[Change]:
    """Every edit of a sample, the first one first."""
    edits = edits or read(workspace)
    found = []
    for edit in edits.edits:
        if sample_id not in edit.texts:
            continue
        files = (edits.undone.get((edit.name, which)) for which in (sample_id, None))
        file = next((name for name in files if name), None)
        said = _content(workspace, file) if file else None
        undone = Undone(str(said.get("at", "")), str(said.get("by", ""))) if said else None
        text = edit.texts[sample_id]
        found.append(Change(edit.name, edit.at, edit.by, edit.what, text, undone))
    return found


def clean(text: str) -> str:
    """The text on one line. Raises SurdError for what is no prompt."""
    line = " ".join(text.split())
    if not line:
        raise SurdError(
            "an empty simple prompt; write one, or drop the sample with surd filter --drop"
        )
    if len(line) > MAX_CHARS:
        raise SurdError(f"a simple prompt of {len(line):,} characters; at most {MAX_CHARS:,}")
    if _NO_TEXT.search(line):
        raise SurdError("a simple prompt with control characters or half characters; remove them")
    return line


def column(ids: pa.ChunkedArray, texts: Texts) -> pa.Array:
    """The text of each id, null where there is none."""
    return pa.array([texts.get(id_) for id_ in ids.to_pylist()], pa.string())


def inputs(ids: pa.ChunkedArray, texts: Texts) -> dict[str, str]:
    """For a part's footer and fingerprint: a digest of the edits of its samples.

    Nothing where there are none, so that such a part is as fresh as before there could be some.
    """
    here = [(id_, texts[id_]) for id_ in ids.to_pylist() if id_ in texts] if texts else []
    if not here:
        return {}
    return {GROUP: digest(here)}


def digest(texts: Sequence[tuple[str, str]]) -> str:
    """Of ids with their texts, in this order."""
    return hashlib.blake2b(json.dumps(texts).encode(), digest_size=16).hexdigest()


def unscored(workspace: Workspace, texts: Texts | None = None) -> list[int]:
    """Parts whose simple prompts are not those of the edits of today, since ``surd score`` has
    not seen these yet."""
    texts = current(workspace) if texts is None else texts
    found, look = [], workspace.part_infos("clip")
    for part in workspace.parts("clip"):
        try:
            info = look("clip", part)
        except DamagedPartError:
            continue
        applied = info.inputs.get(GROUP) if info else None
        if not texts and applied is None:
            continue
        ids = workspace.read("samples", part, ["id"])["id"]
        if inputs(ids, texts).get(GROUP) != applied:
            found.append(part)
    return found


def _mark(workspace: Workspace, name: str) -> None:
    content = json.dumps({"at": now(), "by": author()}, ensure_ascii=False).encode() + b"\n"
    workspace.storage.write_bytes(f"{GROUP}/{name}", content)


def _read(workspace: Workspace, name: str) -> Edit:
    said = _content(workspace, f"{name}.json")
    texts = said.get("simple")
    if not isinstance(texts, dict) or not all(map(_is_prompt, texts.values())):
        raise _damaged(workspace, f"{name}.json", "simple is no object of simple prompts")
    if not all(map(ID.fullmatch, texts)):
        raise _damaged(workspace, f"{name}.json", "simple names what is no id of a sample")
    at, by, what = (str(said.get(key, "")) for key in ("at", "by", "what"))
    return Edit(name, at, by, what, texts)


def _is_prompt(text: Any) -> bool:
    """Whether it is what :func:`clean` makes, or None."""
    if not isinstance(text, str):
        return text is None
    return 0 < len(text.strip()) == len(text) <= MAX_CHARS and not _NO_TEXT.search(text)


def _content(workspace: Workspace, name: str) -> dict[str, Any]:
    key = workspace.location, name
    if key not in _contents:
        try:
            said = parse_json(workspace.storage.read_bytes(f"{GROUP}/{name}"))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise _damaged(workspace, name, str(error)) from error
        if not isinstance(said, dict):
            raise _damaged(workspace, name, "no JSON object")
        _contents[key] = said
    return _contents[key]


def _damaged(workspace: Workspace, name: str, why: str) -> WorkspaceError:
    return WorkspaceError(
        f"{workspace.location}/{GROUP}/{name}: damaged ({why}); repair it, or delete it to do "
        "without this edit"
    )
