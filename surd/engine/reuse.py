"""Which rows of a part need not be computed: their inputs and settings are those of a row that the
part's earlier version has, or that a run kept which did not get to the part's end.

A row's key is 64 bits of a BLAKE2b hash of the settings and of the columns the stage names in
``row_inputs``. Keys are compared of one sample only, by its id. Rows of an earlier version of the
stage are known too, where the stage says how they become today's.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from surd.params import Params
from surd.stages.base import Stage, settings_fingerprint
from surd.store import edits, journal
from surd.store.workspace import DamagedPartError, MissingPartError, Workspace

Keys = npt.NDArray[np.uint64]
_Pair = tuple[str, int]
"""Id and key of a row."""
_Rekeyed = Mapping[int, Mapping[_Pair, int]]
"""Earlier version of the stage -> its key of a row -> today's."""
_ROWS_AT_ONCE = 1000
_KEY = "row_key"
"""Column of the journal's tables, beside those of the part."""


@dataclass(frozen=True)
class Settings:
    """A stage with its parameters, and the hashes of both."""

    stage: Stage
    params: Params
    today: str
    earlier: Mapping[int, str]
    """Version whose rows can be upgraded -> the hash that it gave."""


def settings_of(stage: Stage, params: Params) -> Settings:
    """Look at models and parameters once for many parts."""
    earlier = {
        version: settings_fingerprint(replace(stage, version=version), params)
        for version in stage.upgrades
    }
    return Settings(stage, params, settings_fingerprint(stage, params), earlier)


@dataclass(frozen=True)
class PartRows:
    """The rows a part is to have."""

    ids: list[str]
    keys: Keys
    known: npt.NDArray[np.bool_]
    """Those that need not be computed."""
    earlier: _Rekeyed


def look(workspace: Workspace, settings: Settings, part: int, inputs: pa.Table) -> PartRows:
    """Find out what is known of a part, whose ``row_inputs`` are given."""
    keys = _keys(settings.today, inputs)
    earlier = {
        version: dict(zip(_pairs(inputs["id"], _keys(hash_, inputs)), keys.tolist(), strict=True))
        for version, hash_ in settings.earlier.items()
    }
    have = {
        pair
        for some, their in _found(workspace, settings, part, earlier)
        for pair in _pairs(some["id"], their)
    }
    known = [pair in have for pair in _pairs(inputs["id"], keys)]
    return PartRows(inputs["id"].to_pylist(), keys, np.array(known, bool), earlier)


def known_rows(workspace: Workspace, settings: Settings, part: int, rows: PartRows) -> pa.Table:
    """The rows that need not be computed, in order. They are read again: only of the part that is
    being written they are held. Raises DamagedPartError where they have gone since."""
    stage = settings.stage
    tables: list[pa.Table] = [stage.schema.empty_table()]
    places: dict[_Pair, int] = {}
    first = 0
    for table, keys in _found(workspace, settings, part, rows.earlier):
        tables.append(table)
        for row, pair in enumerate(_pairs(table["id"], keys), first):
            places.setdefault(pair, row)
        first += table.num_rows
    wanted = np.flatnonzero(rows.known)
    pairs = [(rows.ids[row], int(rows.keys[row])) for row in wanted]
    if not places.keys() >= set(pairs):
        why = "rows that were present a moment ago are gone"
        raise DamagedPartError(workspace.location, stage.group, part, why)
    chosen = np.array([places[pair] for pair in pairs], np.int64)
    return pa.concat_tables(tables).take(chosen)


def keep(kept: journal.Journal, stage: Stage, table: pa.Table, keys: Keys) -> None:
    """Take down rows that were computed."""
    column = pa.array(keys, pa.uint64())
    kept.append(table.cast(stage.schema).append_column(_KEY, column))


def _found(
    workspace: Workspace, settings: Settings, part: int, earlier: _Rekeyed
) -> Iterator[tuple[pa.Table, Keys]]:
    """Rows with a final status; those of earlier versions upgraded, and by today's keys."""
    stage = settings.stage
    for table, keys in _stored(workspace, stage, part):
        yield table, keys
        for version, today in earlier.items():
            new = pa.array([today.get(pair) for pair in _pairs(table["id"], keys)], pa.uint64())
            old = table.filter(new.is_valid())
            if old.num_rows:
                yield stage.upgrades[version](old, settings.params), new.drop_null().to_numpy()


def _stored(workspace: Workspace, stage: Stage, part: int) -> Iterator[tuple[pa.Table, Keys]]:
    """Rows with a final status, of the part's earlier version and of runs that were cut off."""
    with contextlib.suppress(MissingPartError, DamagedPartError):
        for table, keys in workspace.keyed(stage.group, part):
            yield from _final(stage, table, keys)
    for table in journal.read(workspace.storage, stage.group, [part]):
        if _KEY in table.column_names:
            yield from _final(stage, table.drop_columns([_KEY]), table[_KEY].to_numpy())


def _final(stage: Stage, table: pa.Table, keys: Keys) -> Iterator[tuple[pa.Table, Keys]]:
    table = _with_new_columns(table, stage.schema)
    if not table.schema.equals(stage.schema) or len(keys) != table.num_rows:
        return
    if "status" in table.column_names:
        final = pc.is_in(table["status"], pa.array(stage.final)).to_numpy()
        table, keys = table.filter(final), keys[final]
    yield table, keys


def _with_new_columns(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """With those that the table's version did not have, which its rows lack: they are null."""
    for place, field in enumerate(schema):
        if field.name not in table.column_names and field.nullable:
            table = table.add_column(place, field, pa.nulls(table.num_rows, field.type))
    return table


def _pairs(ids: pa.ChunkedArray, keys: Keys) -> Iterator[_Pair]:
    return zip(ids.to_pylist(), keys.tolist(), strict=True)


def _keys(settings: str, table: pa.Table) -> Keys:
    """An edit counts where there is one: rows without have the keys that they had before there
    could be any."""
    digests = []
    edited = edits.COLUMN in table.column_names
    for first in range(0, table.num_rows, _ROWS_AT_ONCE):
        some = table.slice(first, _ROWS_AT_ONCE).drop_columns(["id"])
        for values in zip(*(column.to_pylist() for column in some.columns), strict=True):
            counted = values[:-1] if edited and values[-1] is None else values
            content = json.dumps([settings, *counted]).encode()
            digests.append(blake2b(content, digest_size=8).digest())
    return np.frombuffer(b"".join(digests), "<u8")
