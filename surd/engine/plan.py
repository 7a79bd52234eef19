"""What is fresh, stale, missing or failed, and why."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from surd.params import Params
from surd.stages.base import Stage, StageParams, part_fingerprint, settings_fingerprint
from surd.store import edits, gone, manual
from surd.store.prefetch import FOOTERS, ahead
from surd.store.workspace import DamagedPartError, PartInfo, PartInfos, Workspace

Freshness = Literal["fresh", "stale", "missing", "failed", "damaged", "waiting"]


@dataclass(frozen=True)
class PartState:
    """One part of one stage's group."""

    part: int
    state: Freshness
    why: str = ""
    inputs: Mapping[str, str] | None = None
    """Group -> digest of the part to read, and what the stage leaves out; None while a group is not
    there."""
    info: PartInfo | None = None
    rows: int = 0
    """Samples in the part."""


def plan(
    workspace: Workspace, stage: Stage, params: Params, parts: Sequence[int] | None = None
) -> list[PartState]:
    """The state of every part this stage should have, judged by what its inputs are now; of a
    stage whose parts depend on one each, of some ``parts``."""
    settings = settings_fingerprint(stage, params)
    storage = workspace.storage
    look: PartInfos = workspace.part_info
    if parts is None:
        parts = workspace.parts("samples")
        look = workspace.part_infos("samples", *stage.reads, stage.group)
    texts = edits.current(workspace) if stage.edited else {}
    leaves = stage.leaves(params)
    found = ahead(
        storage, parts, lambda part: _inputs(workspace, look, stage, part, texts), FOOTERS
    )
    inputs = {
        part: one if isinstance(one, str) else {**one, **leaves}
        for part, one in zip(parts, found, strict=True)
    }
    if stage.scope == "table":
        whole = _joined(list(inputs.values()))
        if stage.by_hand and not isinstance(whole, str):
            whole |= manual.inputs(manual.read(workspace)) | gone.inputs(gone.read(workspace))
        inputs = dict.fromkeys(parts, whole)
    damage = workspace.damage(stage.group)

    def state_of(part: int) -> PartState:
        state = _part_state(workspace, look, stage, settings, part, inputs[part])
        if part in damage and state.state != "waiting":
            state = replace(state, state="damaged", why=damage[part])
        try:
            samples = look("samples", part)
        except DamagedPartError:
            samples = None
        return replace(state, rows=samples.rows if samples else 0)

    return list(ahead(storage, parts, state_of, FOOTERS))


def plan_all(
    workspace: Workspace, stages: Iterable[StageParams]
) -> Iterator[tuple[Stage, list[PartState]]]:
    """The states of every part of stages in their order. What is fresh by what it reads now waits
    where that is to be computed first."""
    behind: dict[str, dict[int, str]] = {}
    for stage, params in stages:
        states = [_behind(state, stage, behind) for state in plan(workspace, stage, params)]
        behind[stage.group] = {
            state.part: state.why if state.state == "waiting" else f"{stage.group} is {state.state}"
            for state in states
            if state.state != "fresh"
        }
        yield stage, states


def _behind(state: PartState, stage: Stage, behind: Mapping[str, Mapping[int, str]]) -> PartState:
    """A state in view of the parts of each group that are not fresh, with the reason why."""
    for group in stage.reads if state.state == "fresh" else ():
        parts = behind.get(group, {})
        part = min(parts, default=-1) if stage.scope == "table" else state.part
        if part in parts:
            return replace(state, state="waiting", why=parts[part])
    return state


def _inputs(
    workspace: Workspace, look: PartInfos, stage: Stage, part: int, texts: edits.Texts
) -> dict[str, str] | str:
    """Group -> digest of the part to read; or why one of them cannot be read."""
    inputs: dict[str, str] = {}
    for group in stage.reads:
        try:
            source = look(group, part)
        except DamagedPartError:
            return f"{group} is damaged"
        if source is None:
            return f"{group} is missing"
        inputs[group] = source.digest
    if texts:
        try:
            inputs |= edits.inputs(workspace.read("samples", part, ["id"])["id"], texts)
        except DamagedPartError:
            return "samples is damaged"
    return inputs


def _joined(inputs: Sequence[dict[str, str] | str]) -> dict[str, str] | str:
    """Group -> digest of all its parts together."""
    digests: dict[str, list[str]] = {}
    for one in inputs:
        if isinstance(one, str):
            return one
        for group, digest in one.items():
            digests.setdefault(group, []).append(digest)
    return {
        group: hashlib.blake2b(" ".join(some).encode(), digest_size=16).hexdigest()
        for group, some in digests.items()
    }


def _part_state(
    workspace: Workspace,
    look: PartInfos,
    stage: Stage,
    settings: str,
    part: int,
    inputs: dict[str, str] | str,
) -> PartState:
    if isinstance(inputs, str):
        return PartState(part, "waiting", inputs)
    try:
        info = look(stage.group, part)
    except DamagedPartError as error:
        return PartState(part, "damaged", str(error), inputs)
    if info is not None and info.fingerprint == part_fingerprint(settings, inputs):
        return PartState(part, "fresh", "", inputs, info)
    failure = workspace.failure(stage.group, part)
    if failure is not None:
        return PartState(part, "failed", failure, inputs, info)
    if info is None:
        return PartState(part, "missing", "", inputs)
    return PartState(part, "stale", _why_stale(info, settings, inputs), inputs, info)


def _why_stale(info: PartInfo, settings: str, inputs: Mapping[str, str]) -> str:
    groups = [*inputs, *(info.inputs.keys() - inputs.keys())]
    changed = [group for group in groups if info.inputs.get(group) != inputs.get(group)]
    reasons = ["settings changed"] if info.settings != settings else []
    reasons += [f"{group} changed" for group in changed]
    return ", ".join(reasons) or "made by another version"
