"""The rows in a JSON document, whatever its shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def rows_of(document: Any) -> list[Any]:
    """Rows of an array of objects; of an object that holds such an array; of columns, as pandas
    writes them; of objects by the name of their file, as kohya's scripts write them; of COCO's
    images and annotations (https://cocodataset.org/#format-data), which are joined.

    Raises ValueError for anything else.
    """
    if isinstance(document, list):
        if any(isinstance(row, dict) for row in document) or not document:
            return document
        raise ValueError("not a JSON object in the array")
    if not isinstance(document, dict):
        raise ValueError(f"not an array or object but {type(document).__name__}")
    if _is_table(document.get("images")) and _is_table(document.get("annotations")):
        return _joined(document["images"], document["annotations"])
    tables = [value for value in document.values() if _is_table(value)]
    if len(tables) == 1:
        return list(tables[0])
    values = list(document.values())
    columns = _columns(document)
    if columns is not None:
        return columns
    if values and all(isinstance(value, dict) for value in values):
        return [{"file_name": name, **row} for name, row in document.items()]
    if values and all(isinstance(value, str) for value in values):
        return [{"file_name": name, "caption": text} for name, text in document.items()]
    raise ValueError("an object without a list of objects in it")


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def _columns(document: Mapping[str, Any]) -> list[Any] | None:
    """Rows of columns that are lists of one length, or objects with the same row numbers."""
    values = list(document.values())
    if len(values) < 2:
        return None
    if all(isinstance(value, list) and len(value) == len(values[0]) for value in values):
        return [dict(zip(document, row, strict=True)) for row in zip(*values, strict=True)]
    if all(isinstance(value, dict) and value.keys() == values[0].keys() for value in values):
        numbers = list(values[0])
        if all(number.isdecimal() for number in numbers):
            return [{name: column[i] for name, column in document.items()} for i in numbers]
    return None


def _joined(images: list[dict[str, Any]], annotations: list[dict[str, Any]]) -> list[Any]:
    captions: dict[Any, list[Any]] = {}
    for annotation in annotations:
        if isinstance(annotation.get("caption"), str):
            captions.setdefault(str(annotation.get("image_id")), []).append(annotation["caption"])
    return [{**image, "caption": captions.get(str(image.get("id")), [])} for image in images]
