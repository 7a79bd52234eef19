"""``surd push``: one commit on the hub that holds all of a dataset or an adapter, or none of it."""

from __future__ import annotations

import hashlib
import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token
from huggingface_hub.errors import HFValidationError
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import (
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
    validate_repo_id,
)

from surd import __version__
from surd.dataset.hub.contents import Contents, File
from surd.dataset.hub.refusals import host_of, telling
from surd.errors import SurdError
from surd.progress import Tick

_MAIN = "main"


@dataclass(frozen=True)
class Pushed:
    """What the hub has now."""

    url: str
    revision: str
    commit: str
    sent: tuple[str, ...]
    there: tuple[str, ...]
    """Files it had already, with the same content."""
    removed: tuple[str, ...]
    """Shards of an earlier state that this dataset no longer has."""
    bytes: int
    """Of the files that were sent."""


def push(
    contents: Contents,
    repo: str,
    *,
    private: bool = False,
    revision: str | None = None,
    tick: Tick = lambda counts: None,
) -> Pushed:
    """Bring the repository `repo` to the state of `contents`; nothing local is written.

    By `HfApi.preupload_lfs_files`, a large file a call, and then one `create_commit`, of
    https://huggingface.co/docs/huggingface_hub/package_reference/hf_api. `upload_folder` makes
    several commits of one folder, between which readers would find a new card with old shards,
    and `upload_large_folder` keeps its notes inside the folder. Here the hub holds each large
    file from the moment its call returns, so a push that is cut off sends only the others when
    it is repeated; and the commit changes everything at once, the shards included that an
    earlier state had and this one has not.

    Raises SurdError: no token, one the hub refuses, a malformed `repo`, no network, or a private
    push to what is public.
    """
    check_repo(repo)
    token = _token()
    api = HfApi(token=token, library_name="surd", library_version=__version__)
    with telling(repo, api.endpoint, token), _silent():
        return _push(api, contents, repo, private, revision or _MAIN, tick)


def check_repo(repo: str) -> None:
    """Raises SurdError for what cannot be a repository's name."""
    try:
        validate_repo_id(repo)
    except HFValidationError:
        sound = False
    else:
        sound = "/" in repo
    if not sound:
        raise SurdError(
            f"--repo {repo!r}: not a repository name; write it as user/name, using letters, "
            "digits, '-', '_' and '.'"
        )


def _token() -> str:
    try:
        token = get_token()
    except Exception as error:  # a login that is expired, or of which the file is broken
        raise SurdError(
            f"cannot read the stored login of the hub ({type(error).__name__}); run: hf auth login"
        ) from None
    if not token:
        raise SurdError(
            "no token for the hub; set HF_TOKEN to one with write access, or run: hf auth login"
        )
    if not re.fullmatch("[!-~]+", token):
        raise SurdError("HF_TOKEN contains characters that no token has; set it again")
    return token


def _push(
    api: HfApi, contents: Contents, repo: str, private: bool, branch: str, tick: Tick
) -> Pushed:
    kind = contents.kind
    api.create_repo(repo, repo_type=kind, private=private or None, exist_ok=True)
    if branch != _MAIN:
        api.create_branch(repo, branch=branch, repo_type=kind, exist_ok=True)
    info = api.repo_info(repo, repo_type=kind, revision=branch)
    if private and not info.private:
        raise SurdError(
            f"{repo}: already public, and --private applies to new repositories only; make it "
            "private in its settings on the hub, or push without --private"
        )
    head = str(info.sha)
    listed = api.list_repo_tree(repo, repo_type=kind, revision=head)
    there = {entry.path: entry for entry in listed if isinstance(entry, RepoFile)}
    new = [file for file in contents.files if not _is_same(file, there.get(file.name))]
    kept = {file.name for file in contents.files} - {file.name for file in new}
    tick({"there": len(kept)} if kept else {})
    gone = _gone(contents, there)
    if new or gone:
        head = _commit(api, contents, repo, branch, head, new, gone, tick)
    return Pushed(
        url=f"{host_of(api.endpoint)}/{'datasets/' if kind == 'dataset' else ''}{repo}",
        revision=branch,
        commit=head,
        sent=tuple(file.name for file in new),
        there=tuple(file.name for file in contents.files if file.name in kept),
        removed=tuple(gone),
        bytes=sum(file.size for file in new),
    )


def _gone(contents: Contents, there: dict[str, RepoFile]) -> list[str]:
    names = {file.name for file in contents.files}
    return sorted(name for name in there if contents.was_ours(name) and name not in names)


def _commit(
    api: HfApi,
    contents: Contents,
    repo: str,
    branch: str,
    head: str,
    new: Sequence[File],
    gone: Sequence[str],
    tick: Tick,
) -> str:
    kind = contents.kind
    adds = []
    for file in new:
        add = CommitOperationAdd(file.name, file.content)
        adds.append(add)
        if isinstance(file.content, Path):
            api.preupload_lfs_files(repo, [add], repo_type=kind, revision=branch)
            if file.sha256 not in (None, add.upload_info.sha256.hex()):
                raise SurdError(
                    f"{file.content}: has changed since it was published; delete it, run surd "
                    "publish again, and rerun the same command"
                )
            tick({"ok": 1})
    done = api.create_commit(
        repo,
        [*adds, *(CommitOperationDelete(name, is_folder=False) for name in gone)],
        commit_message=f"Upload with surd {__version__}",
        repo_type=kind,
        revision=branch,
        parent_commit=head,  # so that two who push at once do not mix their files
    )
    tick({"ok": sum(isinstance(file.content, bytes) for file in new)})
    return str(done.oid)


def _is_same(file: File, there: RepoFile | None) -> bool:
    """Whether the hub has that content: by sha256 of large files, by git's blob id of others."""
    if there is None or there.size != file.size:
        return False
    if there.lfs is not None:
        return there.lfs.sha256 == (file.sha256 or _digest(file, hashlib.sha256()))
    head = f"blob {file.size}\0".encode()
    return there.blob_id == _digest(file, hashlib.sha1(head, usedforsecurity=False))


def _digest(file: File, digest: hashlib._Hash) -> str:
    if isinstance(file.content, bytes):
        digest.update(file.content)
    else:
        with file.content.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


@contextmanager
def _silent() -> Iterator[None]:
    """Keep the library's bars, retries and hints to itself; its logs name signed urls."""
    log = logging.getLogger("huggingface_hub")
    level, bars = log.level, not are_progress_bars_disabled()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        log.setLevel(logging.CRITICAL)
        disable_progress_bars()
        try:
            yield
        finally:
            log.setLevel(level)
            if bars:
                enable_progress_bars()
