"""What a recipe or a flag may name as a model: a hub id, a folder, a file, or one of the demo's."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from surd.errors import ModelError
from surd.params import SERVED, check_address, check_served, without_address
from surd.paths import shipped

_PREFIX = "demo:"
MODEL_FILES = (".safetensors", ".ckpt")
"""How the name of a file ends that holds a whole diffusion model."""
_WHOLE_BYTES = 1 << 24
"""A file up to this size is read as a whole."""
_ENDS_BYTES, _SAMPLES, _SAMPLE_BYTES = 65_536, 256, 4096


def resolve(name: str, files: Sequence[str] = ()) -> str:
    """The folder or hub id `name` means; `demo:clip` is the folder of a shipped demo model.

    With `files`, names that end so mean a file. Raises ModelError when a demo model or a path that
    looks like one is not there, for a url, and for a model on a server.
    """
    if name.startswith(SERVED):
        raise ModelError(
            f"{name}: a server can caption (caption.model), judge (evaluate --vqa) and rewrite "
            "(--rewriter), nothing else; name a model's folder or id on the hub"
        )
    if "://" in name:
        raise ModelError(f"{name}: not a model; name a local folder or an id on the hub")
    if name.startswith(_PREFIX):
        return str(demo_model(name.removeprefix(_PREFIX)))
    looks_like_path = name.startswith(("/", "./", "../", "~"))
    path = Path(name).expanduser()
    of_file = name.endswith(tuple(files))
    if path.is_dir() or (of_file and path.is_file()):
        return str(path)
    if path.is_file():
        ends = f" that does not end in {' or '.join(files)}" if files else ""
        mend = "rename it, or " if files else ""
        raise ModelError(f"{name}: is a file{ends}; {mend}name a model's folder or id on the hub")
    if of_file:
        raise ModelError(f"{name}: no such file; name a model's file, folder or id on the hub")
    if looks_like_path:
        raise ModelError(f"{name}: no such folder; name a model's folder or its id on the hub")
    return name


def server_of(name: str) -> tuple[str, str] | None:
    """Address and model of ``openai:http://localhost:8000/v1#MODEL``; None of any other name.

    Without an address, it is the one in OPENAI_BASE_URL. Raises ModelError where there is none.
    """
    if not name.startswith(SERVED):
        return None
    told, base = name, os.environ.get("OPENAI_BASE_URL", "").strip()
    try:
        check_served(name)
        address, mark, model = name.removeprefix(SERVED).partition("#")
        if not mark:
            address, model, told = base, address, "OPENAI_BASE_URL"
            if not base:
                raise ModelError(
                    f"{name}: name its server, as in {SERVED}http://localhost:8000/v1#MODEL, or "
                    "set OPENAI_BASE_URL"
                )
            check_address(address)
    except ValueError as error:
        raise ModelError(f"{told}: {error}") from error
    return address.rstrip("/"), model


def public_name(name: str) -> str:
    """A model's name without the local folders it may lie in, or the address of its server."""
    if name.startswith(SERVED):
        return without_address(name).removeprefix(SERVED)
    local = name.startswith((".", "/", "~")) or name.count("/") > 1 or name.endswith(MODEL_FILES)
    return Path(name).name if local else name


def config_beside(file: Path) -> Path | None:
    """The folder of a pipeline's configuration beside a model's file, named like it."""
    folder = file.with_suffix("")
    return folder if (folder / "model_index.json").is_file() else None


def identity(name: str) -> str:
    """What tells a model from another: a digest of its file or folder; else the name itself.

    The digest takes every file's name and size, and its content: of a large one the beginning, the
    end and samples between, which differ where a fiftieth of the weights does. Reading gigabytes to
    plan a build would be too much. A folder that is not there, or not any more, is its name. Of a
    model on a server it is the name without the address. Raises ModelError where a file cannot be
    read.
    """
    if name.startswith(SERVED):
        return without_address(name)
    found = Path(name).expanduser()
    if not found.is_file():
        try:
            found = Path(resolve(name))
        except ModelError:
            return name
    if not found.exists():
        return name
    files = [found] if found.is_file() else sorted(p for p in found.rglob("*") if p.is_file())
    digest = hashlib.blake2b(digest_size=16)
    for path in files:
        if not _hidden(path, found):
            try:
                _add(digest, path, path.relative_to(found).as_posix())
            except OSError as error:
                why = error.strerror or error
                raise ModelError(f"{name}: {path} cannot be read: {why}") from error
    beside = config_beside(found) if found.is_file() else None
    if beside is not None:
        digest.update(identity(str(beside)).encode())
    return digest.hexdigest()


def _add(digest: hashlib.blake2b, path: Path, name: str) -> None:
    size = path.stat().st_size
    digest.update(f"{name} {size}\0".encode())
    with path.open("rb") as file:
        if size <= _WHOLE_BYTES:
            digest.update(file.read())
            return
        digest.update(file.read(_ENDS_BYTES))
        for number in range(_SAMPLES):
            file.seek(size * number // _SAMPLES)
            digest.update(file.read(_SAMPLE_BYTES))
        file.seek(size - _ENDS_BYTES)
        digest.update(file.read())


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def demo_models() -> Path:
    """The folder of the demo's models, in a checkout or inside the installed package."""
    return shipped("data/demo/models")


def demo_model(name: str) -> Path:
    """The folder of one demo model; raises ModelError naming those there are."""
    folder = demo_models() / name
    if folder.is_dir():
        return folder
    there = sorted(path.name for path in demo_models().glob("*") if path.is_dir())
    raise ModelError(f"demo:{name}: no such demo model; available: {', '.join(there) or 'none'}")
