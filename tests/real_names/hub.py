"""The stand-in hub with models on it: what huggingface_hub asks for to download them.

A model is built when it is first asked for, and lies in one folder for all processes of a run.
What is asked is in https://huggingface.co/docs/hub/api, what is answered in
huggingface_hub's file_download.py and utils/_http.py.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support_hub import TOKEN, Answer, Asked, Hub, blob_id, serving_hub

from real_names.zoo import GATED, Zoo

_LARGE = (".safetensors", ".bin", ".ckpt", ".onnx", ".model")
_FILE = re.compile(r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
_API = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+)(?P<rest>/.*)?")
_TREE = re.compile(r"/tree/(?P<revision>[^/]+)(?P<under>/.*)?")
_STORED = re.compile(r"/stored/(?P<repo>[^/]+/[^/]+)/(?P<path>.+)")


@contextmanager
def serving_models(zoo: Zoo) -> Iterator[Hub]:
    """A hub with the zoo's models, while the block runs; it takes uploads too."""
    with serving_hub() as hub:
        hub.interfere = lambda asked: _answer(hub, zoo, asked)
        yield hub


def surroundings(hub: Hub, home: Path, token: str | None = TOKEN) -> dict[str, str]:
    """What a command needs in its environment to take the stand-in for the hub."""
    told = {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    return told | ({"HF_TOKEN": token} if token else {})


def _answer(hub: Hub, zoo: Zoo, asked: Asked) -> Answer | None:
    if asked.method not in ("GET", "HEAD"):
        return None
    if (found := _STORED.fullmatch(asked.path)) is not None:
        return Answer(file=zoo.folder(found["repo"]) / found["path"])
    if (found := _FILE.fullmatch(asked.path)) is not None:
        return _repo(zoo, found["repo"], asked) or _file(hub, zoo, **found.groupdict())
    if (found := _API.fullmatch(asked.path)) is not None:
        refused = _repo(zoo, found["repo"], asked, about=found["rest"] is None)
        return refused or _about(zoo, found["repo"], found["rest"] or "")
    return Answer() if asked.path == "/" else None


def _repo(zoo: Zoo, repo: str, asked: Asked, about: bool = False) -> Answer | None:
    """The refusal of a model that is not there or not for everyone; a gated one's page is."""
    authorized = asked.headers.get("authorization") == f"Bearer {TOKEN}"
    if not zoo.has(repo):
        said = "Repository not found" if authorized else "Invalid username or password."
        status = 404 if authorized else 401
        return Answer(status, {"error": said}, _refusal("RepoNotFound", said))
    if repo in GATED and not authorized and not about:
        said = (
            f"Access to model {repo} is restricted. You must have access to it and be "
            "authenticated to access it. Please log in."
        )
        return Answer(401, {"error": said}, _refusal("GatedRepo", said))
    return None


def _refusal(code: str, message: str, **more: str) -> dict[str, str]:
    return {"X-Error-Code": code, "X-Error-Message": message, **more}


def _file(hub: Hub, zoo: Zoo, repo: str, revision: str, path: str) -> Answer:
    commit = commit_of(zoo, repo)
    headers = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
    if revision not in ("main", commit):
        said = f"Invalid rev id: {revision}"
        return Answer(404, {"error": said}, _refusal("RevisionNotFound", said))
    file = zoo.folder(repo) / path
    if not file.is_file():
        said = "Entry not found"
        return Answer(404, {"error": said}, headers | _refusal("EntryNotFound", said))
    entry = _entry(zoo.folder(repo), file)
    if "lfs" not in entry:
        return Answer(file=file, headers=headers | {"ETag": f'"{entry["oid"]}"'})
    linked = {"X-Linked-Etag": f'"{entry["lfs"]["oid"]}"', "X-Linked-Size": str(entry["size"])}
    storage = hub.url.replace("127.0.0.1", "localhost")  # another host, as the real one's is
    away = {"Location": f"{storage}/stored/{repo}/{path}"}
    return Answer(302, None, headers | linked | away)


def _about(zoo: Zoo, repo: str, rest: str) -> Answer:
    folder, commit = zoo.folder(repo), commit_of(zoo, repo)
    if (found := _TREE.fullmatch(rest)) is not None:
        return _tree(folder, (found["under"] or "").strip("/"))
    if rest == "/discussions":
        return Answer(body={"discussions": [], "count": 0, "start": 0})
    if rest in ("", "/revision/main", f"/revision/{commit}"):
        files = [file.relative_to(folder).as_posix() for file in _files(folder)]
        return Answer(body={
            "_id": commit[:24], "id": repo, "modelId": repo, "sha": commit, "private": False,
            "gated": "manual" if repo in GATED else False, "disabled": False, "tags": [],
            "downloads": 1, "likes": 1, "lastModified": "2026-01-01T00:00:00.000Z",
            "createdAt": "2026-01-01T00:00:00.000Z",
            "siblings": [{"rfilename": path} for path in files],
        })  # fmt: skip
    said = f"Invalid rev id: {rest.rpartition('/')[2]}"
    return Answer(404, {"error": said}, _refusal("RevisionNotFound", said))


def _tree(folder: Path, under: str) -> Answer:
    if not (folder / under).is_dir():
        said = f"{under} does not exist on main"
        return Answer(404, {"error": said}, _refusal("EntryNotFound", said))
    return Answer(body=[_entry(folder, file) for file in _files(folder / under)])


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


_entries: dict[Path, dict[str, Any]] = {}


def _entry(folder: Path, file: Path) -> Mapping[str, Any]:
    """What the hub lists of a file; a large one's content is known by its sha256."""
    if file not in _entries:
        about: dict[str, Any] = {
            "type": "file",
            "path": file.relative_to(folder).as_posix(),
            "size": file.stat().st_size,
        }
        if file.suffix in _LARGE:
            with file.open("rb") as content:
                oid = hashlib.file_digest(content, "sha256").hexdigest()
            about["lfs"] = {"oid": oid, "size": about["size"], "pointerSize": 134}
            about["oid"] = hashlib.sha1(oid.encode()).hexdigest()
        else:
            about["oid"] = blob_id(file.read_bytes())
        _entries[file] = about
    return _entries[file]


def commit_of(zoo: Zoo, repo: str) -> str:
    """The commit that a model's files are in: another where one of them is another."""
    folder = zoo.folder(repo)
    listed = [(str(f.relative_to(folder)), f.stat().st_size) for f in _files(folder)]
    return hashlib.sha1(json.dumps([repo, listed]).encode()).hexdigest()
