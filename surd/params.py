"""What parameters of stages and sources are, and which of them can change a result."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Annotated, Any, ClassVar, get_args
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import InitErrorDetails, PydanticCustomError

from surd.url_secrets import secret_in


class Params(BaseModel):
    """Parameters of a stage or a source: frozen, without unknown keys or infinite numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    token_variable: ClassVar[str | None] = None
    """The environment variable that an API key belongs into."""
    removed: ClassVar[Mapping[str, Any]] = {}
    """Keys that earlier versions had, with the value that holds for everything now."""
    null: ClassVar[str] = ""
    """What null means for all keys that take it, where their descriptions do not say."""

    @model_validator(mode="before")
    @classmethod
    def _without_yes_for_numbers(cls, raw: Any) -> Any:
        """YAML's yes and no, which pydantic takes for 1 and 0."""
        wrong = [
            InitErrorDetails(type=_NO_NUMBER, loc=(name,), input=raw[name])
            for name, field in cls.model_fields.items()
            if isinstance(raw, Mapping) and name in raw and _holds_bool(raw[name])
            if _is_number({*_types_in(field.annotation)})
        ]
        if wrong:
            raise ValidationError.from_exception_data(cls.__name__, wrong)
        return raw

    @field_validator("*")
    @classmethod
    def _without_secrets(cls, value: Any) -> Any:
        """Whatever a field is called, it is written into the manifest."""
        for text in _texts_in(value):
            if (secret := secret_in(text)) is not None:
                where = cls.token_variable or "the environment"
                raise ValueError(
                    f"holds {secret}; a recipe must not contain secrets, put it into {where}"
                )
        return value


_NO_NUMBER = PydanticCustomError("no_number", "input should be a number")


def _is_number(types: Collection[Any]) -> bool:
    """Whether these take numbers, and neither yes nor no."""
    return (int in types or float in types) and bool not in types


def _types_in(annotation: Any) -> Iterator[Any]:
    """What an annotation is made of; True and False of a Literal are bool."""
    yield type(annotation) if isinstance(annotation, bool) else annotation
    for part in get_args(annotation):
        yield from _types_in(part)


def _holds_bool(value: Any) -> bool:
    """Whether a value is True or False, or a list or mapping has one of them."""
    if isinstance(value, Mapping):
        return any(map(_holds_bool, value.values()))
    if isinstance(value, (list, tuple)):
        return any(map(_holds_bool, value))
    return isinstance(value, bool)


def _texts_in(value: Any) -> Iterator[str]:
    """The texts of a field, within its lists and mappings."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts_in(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _texts_in(inner)


SERVED = "openai:"
"""Before what a server has: ``openai:http://localhost:8000/v1#MODEL``, or ``openai:MODEL`` at the
address that OPENAI_BASE_URL names."""


def without_address(name: str) -> str:
    """``openai:MODEL`` of a model on a server, wherever that is; any other name as it is."""
    if not name.startswith(SERVED):
        return name
    address, mark, model = name.removeprefix(SERVED).partition("#")
    return SERVED + (model if mark else address)


def _model_name(name: str) -> str:
    if not name.strip():
        raise ValueError("name a hub id or a folder")
    if name.startswith(SERVED):
        check_served(name)
        return name
    return name.rstrip("/") or name  # which shells add to folders


def check_served(name: str) -> None:
    """Raises ValueError for what names no model on a server."""
    address, mark, model = name.removeprefix(SERVED).partition("#")
    if "://" in address and not model:
        raise ValueError(f"name the server's model behind a #: {SERVED}{address}#MODEL")
    if not (model if mark else address).strip():
        raise ValueError(f"name the server's model, as in {SERVED}http://localhost:8000/v1#MODEL")
    if mark:
        check_address(address)


def check_address(address: str) -> None:
    """Raises ValueError for what is no address of a server."""
    if "@" in address.partition("://")[2].partition("/")[0]:
        raise ValueError("holds a user or password; a key belongs into OPENAI_API_KEY")
    if not _is_url(address):
        raise ValueError(f"{address!r:.80} is not an address such as http://localhost:8000/v1")


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        is_whole = bool(parts.hostname) and parts.port != 0
    except ValueError:  # a bracket that stays open; a port out of range
        return False
    return is_whole and parts.scheme in ("http", "https") and not re.search(r"[\s\x00-\x1f]", text)


ModelName = Annotated[str, AfterValidator(_model_name)]
"""What names a model: with and without a slash at its end, a folder is the same."""


def added(default: Any, description: str, **constraints: Any) -> Any:
    """A field that earlier versions did not have, and whose default is what they did.

    Left out of the fingerprint while it has its default, so parts of earlier versions stay fresh.
    """
    return Field(
        default=default,
        description=description,
        json_schema_extra={"added": True},
        **constraints,
    )


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


def apart(default: Any, description: str, **constraints: Any) -> Any:
    """A field of what a stage does beside its own rows, in groups with fingerprints of their own.

    Left out of the stage's own fingerprint.
    """
    return Field(
        default=default,
        description=description,
        json_schema_extra={"apart": True},
        **constraints,
    )


def is_runtime(field: FieldInfo) -> bool:
    """Whether a field was declared with :func:`runtime`."""
    return _is(field, "runtime")


def lasting(params: Params) -> dict[str, Any]:
    """The parameters that can change a result, as JSON values; a server's address cannot."""
    fields = type(params).model_fields
    idle = {
        name
        for name, field in fields.items()
        if is_runtime(field)
        or _is(field, "apart")
        or (_is(field, "added") and getattr(params, name) == field.default)
    }
    values = params.model_dump(mode="json", exclude=idle)
    return {
        name: without_address(value) if isinstance(value, str) else value
        for name, value in values.items()
    }


def _is(field: FieldInfo, kind: str) -> bool:
    return isinstance(field.json_schema_extra, dict) and kind in field.json_schema_extra
