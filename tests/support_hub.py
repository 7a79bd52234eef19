"""A stand-in for the Hugging Face Hub on loopback: what surd push asks of it, and no more.

The routes are those that huggingface_hub calls: https://huggingface.co/docs/hub/api, and for large
files https://github.com/git-lfs/git-lfs/blob/main/docs/api/batch.md.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

TOKEN = "hf_PlantedTokenThatMustNotBeSeen"
_LARGE = (".parquet", ".safetensors")


@dataclass(frozen=True)
class Asked:
    """One request."""

    method: str
    path: str
    body: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Answer:
    """What the hub says, as JSON; a `file` in its place; with `cut` it closes the connection."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    file: Path | None = None
    cut: bool = False


@dataclass
class Repo:
    """Branch -> commit, and commit -> path -> content."""

    private: bool
    branches: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def commit(self, branch: str, files: dict[str, bytes]) -> str:
        oid = hashlib.sha1(f"{branch} {len(self.commits)}".encode()).hexdigest()
        self.commits[oid], self.branches[branch] = files, oid
        return oid


@dataclass
class Hub:
    """What it holds, and what it was asked."""

    url: str = ""
    repos: dict[str, Repo] = field(default_factory=dict)
    """``datasets/user/name`` -> repository."""
    objects: dict[str, bytes] = field(default_factory=dict)
    """Large files that were received whole, by sha256."""
    asked: list[Asked] = field(default_factory=list)
    interfere: Callable[[Asked], Answer | None] = lambda asked: None
    """Answers first where it answers at all: how a test breaks things."""

    def files(self, name: str, branch: str = "main") -> dict[str, bytes]:
        repo = self.repos[name]
        found = repo.commits[repo.branches[branch]]
        return {path: content for path, content in found.items() if path != ".gitattributes"}

    def received(self) -> list[str]:
        """Digests of the large files that were sent, each as often as it was."""
        return [one.path.rpartition("/")[2] for one in self.asked if one.method == "PUT"]

    def commits(self) -> int:
        return sum("/commit/" in one.path for one in self.asked)


@contextmanager
def serving_hub() -> Iterator[Hub]:
    """An empty hub while the block runs."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            asked = Asked(
                self.command, unquote(urlsplit(self.path).path), self._body(), dict(self.headers)
            )
            hub.asked.append(asked)
            given = hub.interfere(asked) or _answer(hub, asked)
            if given.cut:
                self.close_connection = True
                return
            data = b"" if given.body is None else json.dumps(given.body).encode()
            size = given.file.stat().st_size if given.file else len(data)
            first = _first_byte(self.headers.get("Range")) if given.file else 0
            self.send_response(206 if first else given.status)
            for name, value in given.headers.items():
                self.send_header(name, value)
            if first:
                self.send_header("Content-Range", f"bytes {first}-{size - 1}/{size}")
            self.send_header("Content-Length", str(size - first))
            self.end_headers()
            if self.command == "HEAD":
                return
            if given.file is None:
                self.wfile.write(data)
                return
            with given.file.open("rb") as content:
                content.seek(first)
                shutil.copyfileobj(content, self.wfile, 1 << 20)

        do_HEAD = do_GET = do_PUT = do_POST  # noqa: N815

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") == "chunked":
                chunks = []
                while size := int(self.rfile.readline(), 16):
                    chunks.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(chunks)
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.daemon_threads = True
        http.block_on_close = False  # a killed client's connection may stay open
        hub.url = f"http://127.0.0.1:{http.server_port}"
        thread = threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            http.shutdown()
            thread.join()


def _first_byte(asked: str | None) -> int:
    """Of the rest of a file that is asked for: ``bytes=120-``."""
    found = re.fullmatch(r"bytes=(\d+)-", asked or "")
    return int(found[1]) if found else 0


@contextmanager
def taken_for_the_hub(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[Hub]:
    """A hub that this process takes for the real one; its storage speaks LFS, not Xet."""
    from huggingface_hub import constants
    from huggingface_hub.utils import _http, close_session

    with serving_hub() as hub:
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(folder / "no-login"))
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(_http.time, "sleep", lambda seconds: None)  # between its retries
        yield hub
        close_session()


def _answer(hub: Hub, asked: Asked) -> Answer:
    if asked.method == "PUT":
        return _receive(hub, asked)
    if asked.headers.get("authorization") != f"Bearer {TOKEN}":
        return Answer(401, {"error": "Invalid username or password."})
    if asked.path == "/api/repos/create":
        return _create(hub, json.loads(asked.body))
    if asked.path == "/api/validate-yaml":
        return Answer(body={"warnings": [], "errors": []})
    for route, answer in _ROUTES:
        if (found := re.fullmatch(route, asked.path)) is not None:
            name = found["name"].removeprefix("models/")
            if name not in hub.repos:
                return Answer(404, {"error": "Repository not found"})
            return answer(hub, name, found.groupdict().get("rest") or "", asked.body)
    return Answer(501, {"error": f"the stand-in does not know {asked.method} {asked.path}"})


def _create(hub: Hub, said: Mapping[str, Any]) -> Answer:
    prefix = "datasets/" if said["type"] == "dataset" else ""
    name = f"{prefix}{said['organization']}/{said['name']}"
    url = {"url": f"{hub.url}/{name}"}
    if name in hub.repos:
        return Answer(409, url | {"error": "You already created this repo"})
    hub.repos[name] = Repo(private=said.get("visibility") == "private")
    hub.repos[name].commit("main", {".gitattributes": b"*.parquet filter=lfs\n"})
    return Answer(body=url)


def _branch(hub: Hub, name: str, branch: str, body: bytes) -> Answer:
    repo = hub.repos[name]
    if branch in repo.branches:
        return Answer(409, {"error": "Reference already exists"})
    repo.branches[branch] = repo.branches["main"]
    return Answer()


def _info(hub: Hub, name: str, branch: str, body: bytes) -> Answer:
    repo = hub.repos[name]
    if branch not in repo.branches:
        return Answer(404, {"error": f"Invalid rev id: {branch}"})
    return Answer(body={"id": name, "sha": repo.branches[branch], "private": repo.private})


def _tree(hub: Hub, name: str, oid: str, body: bytes) -> Answer:
    return Answer(body=[_entry(path, data) for path, data in hub.repos[name].commits[oid].items()])


def _entry(path: str, data: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "path": path, "size": len(data), "oid": blob_id(data)}
    if path.endswith(_LARGE):
        entry["lfs"] = {"oid": _sha256(data), "size": len(data), "pointerSize": 130}
    return entry


def blob_id(data: bytes) -> str:
    """git's own name for a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _preupload(hub: Hub, name: str, branch: str, body: bytes) -> Answer:
    asked = json.loads(body)["files"]
    files = [
        {
            "path": file["path"],
            "uploadMode": "lfs" if file["path"].endswith(_LARGE) else "regular",
            "shouldIgnore": False,
        }
        for file in asked
    ]
    return Answer(body={"files": files})


def _batch(hub: Hub, name: str, _: str, body: bytes) -> Answer:
    objects = []
    for one in json.loads(body)["objects"]:
        upload = {"upload": {"href": f"{hub.url}/lfs/{one['oid']}", "header": {}}}
        objects.append(one if one["oid"] in hub.objects else one | {"actions": upload})
    return Answer(body={"transfer": "basic", "objects": objects})


def _receive(hub: Hub, asked: Asked) -> Answer:
    oid = asked.path.rpartition("/")[2]
    if _sha256(asked.body) != oid:
        return Answer(400, {"error": "not what was announced"})
    hub.objects[oid] = asked.body
    return Answer()


def _commit(hub: Hub, name: str, branch: str, body: bytes) -> Answer:
    repo = hub.repos[name]
    head = repo.branches[branch]
    files = dict(repo.commits[head])
    for line in map(json.loads, body.splitlines()):
        value = line["value"]
        match line["key"]:
            case "header":
                if value.get("parentCommit", head) != head:
                    return Answer(412, {"error": "the branch moved on"})
            case "file":
                files[value["path"]] = base64.b64decode(value["content"])
            case "lfsFile":
                if value["oid"] not in hub.objects:
                    return Answer(400, {"error": f"{value['path']} was never sent"})
                files[value["path"]] = hub.objects[value["oid"]]
            case "deletedFile":
                del files[value["path"]]
            case other:
                return Answer(501, {"error": f"the stand-in does not know {other}"})
    oid = repo.commit(branch, files)
    return Answer(body={"commitUrl": f"{hub.url}/{name}/commit/{oid}", "commitOid": oid})


_API = r"/api/(?P<name>(datasets|models)/[^/]+/[^/]+)"
_ROUTES: tuple[tuple[str, Callable[[Hub, str, str, bytes], Answer]], ...] = (
    (rf"{_API}/branch/(?P<rest>.+)", _branch),
    (rf"{_API}/revision/(?P<rest>.+)", _info),
    (rf"{_API}/tree/(?P<rest>[0-9a-f]+)", _tree),
    (rf"{_API}/preupload/(?P<rest>.+)", _preupload),
    (rf"{_API}/commit/(?P<rest>.+)", _commit),
    (r"/(?P<name>.+)\.git/info/lfs/objects/batch", _batch),
)
