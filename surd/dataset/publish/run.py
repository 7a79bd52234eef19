"""publish: from the samples that the verdicts keep to ``dataset/``."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any, Literal

import pyarrow.compute as pc

from surd.dataset.atomic_folder import (
    CARD,
    CROISSANT,
    DESCRIPTION,
    FOLDER,
    is_whole,
    new_folder,
    put_in_place,
    read_description,
    remove,
    tidy,
)
from surd.dataset.description import SPLITS, splits_of
from surd.dataset.publish.card import card
from surd.dataset.publish.croissant import croissant
from surd.dataset.publish.provenance import Made, how_made
from surd.dataset.publish.rows import groups_there, publishable, read_part, with_images
from surd.dataset.publish.shards import Shard, temporary_name, writing_split
from surd.dataset.publish.split import assign
from surd.dataset.publish.statistics import Statistics
from surd.errors import SurdError, WorkspaceError, command
from surd.params import lasting
from surd.progress import Tick
from surd.recipe.publish import CARD_ONLY, PublishParams
from surd.stages import inventory
from surd.store.prefetch import FOOTERS, ahead
from surd.store.workspace import Workspace

VERSION = 3
"""Raised when the same input and parameters would give other files or another description."""


@dataclass(frozen=True)
class PublishSummary:
    """What a run did."""

    state: str
    """``written``; ``fresh`` when nothing had changed; ``card`` when only the texts had."""
    location: str
    collected: int
    splits: dict[str, int]
    """Split -> samples."""
    files: int
    bytes: int
    dropped: dict[str, int]
    """Reason -> samples; a sample may be dropped for several."""


def publish(
    workspace: Workspace,
    params: PublishParams,
    tick: Tick = lambda counts: None,
    *,
    styles: Collection[str] = (),
) -> PublishSummary:
    """Bring ``dataset/`` up to date with the verdicts; of the groups ``dense`` and ``tags``, it has
    those in `styles`. The caller holds the workspace's lock.

    Raises SurdError when a group is missing (naming the command that makes it), when samples were
    lost, are another workspace's or are there twice, when none is kept, or when a text that would
    be replaced is somebody's own.
    """
    storage = workspace.storage
    parts, groups, fingerprint = _wanted(workspace, params, styles)
    made = how_made(workspace)
    folder = new_folder(fingerprint)
    tidy(storage, folder)
    storage.remove_leftovers(FOLDER)
    said = read_description(storage)
    if said and said.get("fingerprint") == fingerprint and is_whole(storage, said):
        state = "card" if _refresh(workspace, said, made, params) else "fresh"
        return _summary(workspace, said, state)
    if said:
        _check_texts(workspace, said, _texts(said, made, params))
    said = read_description(storage, folder)
    if said is None:
        try:
            written = _write(workspace, params, parts, groups, folder, tick)
            said = _described(fingerprint, *written)
            _write_texts(workspace, folder, said, made, params)
        except BaseException:
            remove(storage, folder)
            raise
    put_in_place(storage, folder, said)
    _refresh(workspace, said, made, params)
    return _summary(workspace, said, "written")


def compare(
    workspace: Workspace, params: PublishParams, *, styles: Collection[str] = ()
) -> Literal["fresh", "card", "stale"]:
    """Whether there is what :func:`publish` would write: ``card`` where only the texts would come
    out otherwise, ``stale`` where there is no dataset too. Reads footers; raises as it does."""
    said = read_description(workspace.storage)
    *_, fingerprint = _wanted(workspace, params, styles)
    if said is None or said.get("fingerprint") != fingerprint:
        return "stale"
    texts = _texts(said, how_made(workspace), params)
    return "fresh" if _digests(texts) == said.get("texts") else "card"


def _wanted(
    workspace: Workspace, params: PublishParams, styles: Collection[str]
) -> tuple[list[int], list[str], str]:
    """The parts and groups to read, and the fingerprint of what comes of them."""
    for problem in inventory.part_problems(workspace):
        raise WorkspaceError(problem)
    parts = workspace.parts("samples")
    groups = groups_there(workspace, parts, styles)
    return parts, groups, _fingerprint(workspace, params, parts, groups)


def _fingerprint(
    workspace: Workspace, params: PublishParams, parts: Sequence[int], groups: Sequence[str]
) -> str:
    """Hash of everything the files depend on: the digest of each part read, and the parameters."""
    settings = {key: value for key, value in lasting(params).items() if key not in CARD_ONLY}
    digest = hashlib.sha256(json.dumps([VERSION, settings], sort_keys=True).encode())
    places = [(group, part) for part in parts for group in groups]
    look = workspace.part_infos(*groups)
    infos = ahead(workspace.storage, places, lambda place: look(*place), FOOTERS)
    for (group, part), info in zip(places, infos, strict=True):
        digest.update(f"\n{group} {part} {info.digest if info else ''}".encode())
    return digest.hexdigest()[:32]


def _write(
    workspace: Workspace,
    params: PublishParams,
    parts: Sequence[int],
    groups: Sequence[str],
    folder: str,
    tick: Tick,
) -> tuple[list[Shard], Statistics]:
    """Write the shards of every split into ``folder``, one part at a time."""
    for problem in inventory.doubles(workspace):
        raise WorkspaceError(problem)
    strip = params.metadata == "strip"
    statistics = Statistics(captions_only="complex_prompt" not in params.require)
    splits = assign(workspace, parts, groups, params)
    with ExitStack() as stack:
        writers = {
            split: stack.enter_context(writing_split(workspace.storage, folder, split, params))
            for split in SPLITS
        }
        for part in parts:
            rows = read_part(workspace, part, groups)
            mask = publishable(rows, params.require)
            statistics.add(rows, mask)
            kept, start = splits.pop(part).filter(mask), 0
            for batch in with_images(workspace, part, rows, mask, strip=strip):
                statistics.add_files(batch)
                here = kept.slice(start, batch.num_rows)
                start += batch.num_rows
                for split in here.unique().to_pylist():
                    writers[split].write(batch.filter(pc.equal(here, split)))
                tick({"ok": batch.num_rows})
            tick({"dropped": rows.num_rows - (pc.sum(mask).as_py() or 0)})
        if statistics.published == 0:
            raise SurdError(_nothing_kept(workspace, statistics))
    return [shard for split in SPLITS for shard in writers[split].shards], statistics


def _nothing_kept(workspace: Workspace, statistics: Statistics) -> str:
    reasons = ", ".join(f"{name} {count:,}" for name, count in statistics.reasons.most_common(3))
    return (
        f"{workspace.location}: nothing to publish: none of the {statistics.collected:,} "
        f"samples is kept{f' (dropped for {reasons})' if reasons else ''}; change the "
        "thresholds of the filter, or look at samples with: "
        + command("inspect", workspace.location)
    )


def _described(fingerprint: str, shards: Sequence[Shard], found: Statistics) -> dict[str, Any]:
    """What ``surd-dataset.json`` holds, but the digests of the texts."""
    counts = Counter(shard.split for shard in shards)
    files = [
        {
            "name": f"{shard.split}-{shard.index:05d}-of-{counts[shard.split]:05d}.parquet",
            "written_as": temporary_name(shard.split, shard.index),
            **asdict(shard),
        }
        for shard in shards
    ]
    return {
        "format_version": 1,
        "complete": True,
        "fingerprint": fingerprint,
        "splits": splits_of(files),
        "files": files,
        "statistics": found.as_json(),
    }


def _texts(said: dict[str, Any], made: Made, params: PublishParams) -> dict[str, bytes]:
    return {
        CARD: card(said, made, params).encode(),
        CROISSANT: croissant(said, made, params).encode(),
    }


def _write_texts(
    workspace: Workspace, folder: str, said: dict[str, Any], made: Made, params: PublishParams
) -> None:
    """Write card and Croissant, and last the description, which makes the folder complete."""
    texts = _texts(said, made, params)
    for name, content in texts.items():
        workspace.storage.write_bytes(f"{folder}/{name}", content)
    said["texts"] = _digests(texts)
    content = json.dumps(said, indent=2, ensure_ascii=False).encode() + b"\n"
    workspace.storage.write_bytes(f"{folder}/{DESCRIPTION}", content)


def _refresh(workspace: Workspace, said: dict[str, Any], made: Made, params: PublishParams) -> bool:
    """Write the texts anew where they would come out otherwise than last time."""
    texts = _texts(said, made, params)
    now = _digests(texts)
    if now == said.get("texts") and set(now) <= set(workspace.storage.names(FOLDER)):
        return False
    _check_texts(workspace, said, texts)
    _write_texts(workspace, FOLDER, said, made, params)
    return True


def _check_texts(workspace: Workspace, said: dict[str, Any], texts: Mapping[str, bytes]) -> None:
    """Raise WorkspaceError for a text that is about to be replaced and neither is as it was
    published nor among `texts`, which a killed run may have written: it is somebody's own."""
    known = said.get("texts")
    for name, content in texts.items():
        try:
            there = workspace.storage.read_bytes(f"{FOLDER}/{name}")
        except FileNotFoundError:
            continue
        wrote = known.get(name) if isinstance(known, dict) else None
        if wrote is not None and there != content and _digests({name: there})[name] != wrote:
            own = "; text of your own for it: publish.introduction" if name == CARD else ""
            raise WorkspaceError(
                f"{workspace.location}/{FOLDER}/{name}: not as surd publish left it; move it away, "
                f"or delete it, and rerun the same command{own}"
            )


def _digests(texts: Mapping[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(content).hexdigest() for name, content in texts.items()}


def _summary(workspace: Workspace, said: dict[str, Any], state: str) -> PublishSummary:
    found = said["statistics"]
    return PublishSummary(
        state,
        workspace.storage.path(FOLDER) if workspace.storage.is_local else workspace.location,
        found["collected"],
        {split: counts["rows"] for split, counts in said["splits"].items()},
        len(said["files"]),
        sum(file["bytes"] for file in said["files"]),
        {reason: counts["samples"] for reason, counts in found["reasons"].items()},
    )
