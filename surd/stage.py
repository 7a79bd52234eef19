"""What a stage is: a function from a stream of batches to a stream of batches."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field


class Params(BaseModel):
    """Parameters of a stage or a source: validated, frozen, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def runtime(default: Any, description: str, **constraints: Any) -> Any:
    """A field that changes how fast or how patiently, never what comes out.

    Such fields are left out of the fingerprint, so changing them recomputes nothing.
    """
    return Field(
        default=default,
        description=description,
        json_schema_extra={"runtime": True},
        **constraints,
    )


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive rows of one part.

    ``table`` has the ``id`` column and the columns the stage reads. ``previous`` holds what the
    part's earlier version had for the same rows, from the first on, and may be shorter; it is
    None for stages that do not reuse rows, and where there is no earlier version.
    ``same_settings`` tells whether that version was made with the settings of today.
    """

    table: pa.Table
    previous: pa.Table | None = None
    same_settings: bool = False


StageFunction = Callable[[Iterable[Batch]], Iterator[pa.Table]]
"""Takes batches, yields tables: the same rows in the same order, however they are cut."""


@dataclass(frozen=True)
class Stage:
    """One step of the build. It adds one column group and never touches another."""

    name: str
    """What the recipe and the command line call it."""
    group: str
    """The folder its parts are written to."""
    version: int
    """Raised when the same input and parameters would give other rows than before."""
    reads: Mapping[str, tuple[str, ...]]
    """Group -> columns."""
    schema: pa.Schema
    params: type[Params]
    open: Callable[[Any], StageFunction]
    """Loads what the stage needs (models, pools) and returns the function that does the work."""
    workers: Literal["one", "cores"] = "cores"
    """``one``: the stage is concurrent by itself. ``cores``: one process a core pays off."""
    reuses_rows: bool = False
    """Ask the engine for the earlier version of each part."""
    batch_rows: int = 100
    """Rows in a batch, and in a row group of the part."""


def settings_fingerprint(stage: Stage, params: Params) -> str:
    """Hash of everything but the inputs: stage, version, and each parameter that matters."""
    runtime_fields = {
        name
        for name, field in type(params).model_fields.items()
        if isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("runtime")
    }
    settings = params.model_dump(mode="json", exclude=runtime_fields)
    text = json.dumps([stage.name, stage.version, settings], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def part_fingerprint(settings: str, inputs: Mapping[str, str]) -> str:
    """Hash of the settings and the digests of the parts read. Equal: nothing to do."""
    text = json.dumps([settings, sorted(inputs.items())])
    return hashlib.sha256(text.encode()).hexdigest()[:32]
