"""What parameters of stages and sources are, and which of them can change a result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo


class Params(BaseModel):
    """Parameters of a stage or a source: frozen, without unknown keys or infinite numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    removed: ClassVar[Mapping[str, Any]] = {}
    """Keys that earlier versions had, with the value that holds for everything now."""


def _model_name(name: str) -> str:
    if not name.strip():
        raise ValueError("name a hub id or a folder")
    return name.rstrip("/") or name  # which shells add to folders


ModelName = Annotated[str, AfterValidator(_model_name)]
"""What names a model: with and without a slash at its end, a folder is the same."""


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


def is_runtime(field: FieldInfo) -> bool:
    """Whether a field was declared with :func:`runtime`."""
    return isinstance(field.json_schema_extra, dict) and "runtime" in field.json_schema_extra


def lasting(params: Params) -> dict[str, Any]:
    """The parameters that can change a result, as JSON values."""
    fields = type(params).model_fields
    return params.model_dump(
        mode="json", exclude={name for name, field in fields.items() if is_runtime(field)}
    )
