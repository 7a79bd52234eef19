"""The Hugging Face Hub, from which models come: whether it answers, and what the cache holds of it.

Without a network its libraries try each file six times, for half a minute, and tell of every try.
So the hub is asked once before a model is loaded; where it does not answer, they are told to keep
to the cache.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from urllib.parse import urlsplit

from surd.errors import ModelError, one_line
from surd.models.names import identity, resolve
from surd.models.weights import damage_in

PATIENCE_S = 5.0
_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
_TRUE = {"1", "TRUE", "YES", "ON"}

_lock = Lock()
_answered = False
_blocks = 0
"""How many are loading from the cache alone, because the hub does not answer."""


@contextmanager
def loading(
    what: str,
    name: str,
    repo: str | None = None,
    *,
    mend: str = "name a folder that holds the model",
) -> Iterator[str]:
    """The folder or hub id of a model that is loaded in the block.

    `repo` is its id on the hub where that is another, empty where the hub has no part in it; `mend`
    is what else can be done where it is not to be had. What the libraries raise becomes one line.
    Raises ModelError, before the block runs where they could not find the model.
    """
    found = resolve(name)
    repo = found if repo is None else repo
    why = why_offline() if repo and not Path(found).is_dir() else None
    if why is not None and not _snapshots(repo):
        first = f"unset {told_offline()}" if told_offline() else "check network and proxy"
        raise ModelError(
            f"{what} {name!r} is not in the model cache, and {why}; {first}, or {mend}"
        )
    alone = why is not None and told_offline() is None
    where = f" from the cache, and {why}" if why else ""
    with telling(what, name, where, lambda: _folder_of(found, repo)), _from_the_cache(alone):
        yield found


@contextmanager
def telling(
    what: str, name: str, where: str = "", folder: Callable[[], Path | None] = lambda: None
) -> Iterator[None]:
    """Turn what the libraries raise in the block into one line, a ModelError.

    Where a file of weights in the model's `folder` is not whole, that is what the line says.
    """
    try:
        yield
    except ModelError:
        raise
    except Exception as error:  # a folder of anything else makes them raise many kinds
        lies = folder()
        damage = damage_in(lies) if lies is not None else None
        refusal = None if damage else _refusal(name, error)
        if refusal is not None:
            raise ModelError(f"{what} {name!r} {refusal}") from error
        reason = damage or _reason_in(what, error)
        raise ModelError(f"{what} {name!r} cannot be loaded{where}: {reason}") from error


def _reason_in(what: str, error: Exception) -> str:
    """What an error says; of a model or a repository of another kind, that it is one."""
    from huggingface_hub.errors import RemoteEntryNotFoundError

    text = " ".join(str(error).split())
    if isinstance(error, RemoteEntryNotFoundError):
        file = str(error.response.url).partition("/resolve/")[2].partition("/")[2]
        return f"it has no {file}, as a {what} has"
    cause = error
    while isinstance(cause.__cause__, Exception):
        cause = cause.__cause__
    if isinstance(cause, ImportError):
        said = one_line(cause, 300) or "a library cannot be imported"
        return f"{said}; run: surd doctor"
    kind = re.match(r"Unrecognized configuration class <class '[\w.]*\.(\w+)Config'>", text)
    return f"a {kind[1]} is no {what}" if kind else text[:300]


def _refusal(name: str, error: BaseException | None) -> str | None:
    """What the hub said no to, where it did; the libraries wrap its errors in their own."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    while error is not None:
        if isinstance(error, GatedRepoError):
            page = f"{endpoint()}/{name.removeprefix('hf-hub:')}"
            return f"is gated: request access at {page}, then set HF_TOKEN to a token of yours"
        if isinstance(error, RepositoryNotFoundError):
            return (
                f"is not on {endpoint()}, or it is private; check the name, or set HF_TOKEN to a "
                "token that may read it"
            )
        error = error.__cause__ or error.__context__
    return None


@contextmanager
def _from_the_cache(alone: bool) -> Iterator[None]:
    """Have the hub's libraries ask nobody while the block runs."""
    from huggingface_hub import constants

    global _blocks
    with _lock:
        _blocks += alone
        constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE or _blocks > 0
    try:
        yield
    finally:
        with _lock:
            _blocks -= alone
            if alone and not _blocks:
                constants.HF_HUB_OFFLINE = False


def why_offline() -> str | None:
    """Why the hub is asked for nothing; None where it answers, which is remembered."""
    global _answered
    told = told_offline()
    if told is not None:
        return f"{told} is set"
    if not _answered:
        try:
            ask()
        except ConnectionError as error:
            return f"{endpoint()} cannot be reached ({error})"
        _answered = True
    return None


def told_offline() -> str | None:
    """The variable of the environment by which the hub is not to be asked."""
    from huggingface_hub import constants

    named = [name for name in _OFFLINE if os.environ.get(name, "").upper() in _TRUE]
    return named[0] if named else _OFFLINE[0] if constants.HF_HUB_OFFLINE and not _blocks else None


def ask() -> int:
    """The status with which the hub answers, asked as its libraries ask it: through the same
    proxies and certificates. Raises ConnectionError where it does not answer within seconds."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    answers: SimpleQueue[int | Exception] = SimpleQueue()

    def head() -> None:
        try:
            answers.put(get_session().head(constants.ENDPOINT, timeout=PATIENCE_S).status_code)
        except Exception as error:  # of the kinds of whatever library it is that asks
            answers.put(error)

    # apart, since no timeout bounds how long a name is looked up
    Thread(target=head, name="surd-hub", daemon=True).start()
    try:
        found = answers.get(timeout=PATIENCE_S)
    except Empty:
        raise ConnectionError(f"no answer within {PATIENCE_S:g} s") from None
    if isinstance(found, Exception):
        raise ConnectionError(_reason(found)) from found
    return found


def _reason(error: Exception) -> str:
    """In words, unless they may give a password away."""
    text = " ".join(str(error).split())
    return text if text and "@" not in text and len(text) < 100 else type(error).__name__


def endpoint() -> str:
    """The hub's address, or what HF_ENDPOINT names, without a password."""
    from huggingface_hub import constants

    parts = urlsplit(constants.ENDPOINT)
    return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}"


def _folder_of(found: str, repo: str) -> Path | None:
    """Where a model lies: its own folder or file, or the newest snapshot in the cache."""
    if Path(found).exists():
        return Path(found)
    return max(_snapshots(repo), key=lambda folder: folder.stat().st_mtime, default=None)


def _snapshots(repo: str) -> list[Path]:
    """What the cache holds of a repository on the hub, which may be all of it."""
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE, f"models--{repo.replace('/', '--')}", "snapshots")
    return list(folder.iterdir()) if repo and folder.is_dir() else []


def identity_of(name: str, file: str = "model_index.json") -> str:
    """What tells a model from another, as :func:`surd.models.names.identity` does.

    Of a model on the hub also the commit that the cache holds, by its `file`: once it is loaded,
    that is the one in use; before, there may be none.
    """
    from huggingface_hub import try_to_load_from_cache

    found = identity(name)
    if found != name:
        return found
    try:
        path = try_to_load_from_cache(name, file)
    except ValueError:  # not the id of a repository
        return name
    return f"{name}@{Path(path).parent.name}" if isinstance(path, str) else name


def is_same(one: str, other: str) -> bool:
    """Whether two identities may be of one model: a commit that is not known may be any."""
    (name, _, commit), (other_name, _, other_commit) = one.partition("@"), other.partition("@")
    return one == other or (name == other_name and not (commit and other_commit))
