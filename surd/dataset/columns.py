"""The columns of a published dataset, and how Hugging Face's libraries are told what they are."""

from __future__ import annotations

import json

import pyarrow as pa

from surd.store.schema import GROUPS

IMAGE = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])
"""How the ``Image`` feature of ``datasets`` is stored."""

ORIGINS: dict[str, str] = {
    "simple_prompt": "clip",
    "complex_prompt": "prompts",
    "dense_caption": "dense",
    "tags": "tags",
    "negative_prompt": "samples",
    "cos_simple": "clip",
    "cos_complex": "clip",
    "aesthetic": "clip",
    "nsfw": "clip",
    "nsfw_level": "samples",
    "width": "images",
    "height": "images",
    "sha256": "images",
    "source": "samples",
    "source_id": "samples",
    "author": "samples",
    "licence": "samples",
    "page_url": "samples",
    "url": "samples",
    "cluster": "duplicates",
}
"""Column -> the group it comes from, in order; ``id`` and ``image`` come before them."""

_DOCS = {
    "image": "the picture: its bytes, and a file name made from id and format",
    "simple_prompt": "a plain sentence that describes the picture",
    "complex_prompt": "the words of the prompt the picture was made from, without generator syntax",
    "cluster": "shared by near-duplicates, which are always in the same split",
}
"""Where a reader needs other words than who builds the dataset."""


def doc(column: str) -> str:
    """What a column holds, in one line."""
    if column in _DOCS:
        return _DOCS[column]
    field = GROUPS["samples" if column == "id" else ORIGINS[column]].field(column)
    text: str = field.metadata[b"doc"].decode()
    return text


def _schema() -> pa.Schema:
    fields = [pa.field("id", pa.string()), pa.field("image", IMAGE)]
    fields += [pa.field(name, GROUPS[group].field(name).type) for name, group in ORIGINS.items()]
    # https://huggingface.co/docs/datasets: features, as datasets writes them into Arrow metadata
    features = {
        field.name: {"_type": "Image"} if field.name == "image" else _value(field.type)
        for field in fields
    }
    return pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": features}})})


def _value(type_: pa.DataType) -> dict[str, str]:
    dtype = {"float": "float32", "double": "float64"}.get(str(type_), str(type_))
    return {"dtype": dtype, "_type": "Value"}


PUBLISHED: pa.Schema = _schema()
"""The schema of every file of a published dataset."""

LATER = ("dense_caption", "tags")
"""Columns that files of earlier versions lack, and which are null there."""

EXTENSIONS = {
    "image/jpeg": "jpg",
    "image/png": "png",
    "image/webp": "webp",
    "image/gif": "gif",
    "image/bmp": "bmp",
    "image/tiff": "tif",
    "image/avif": "avif",
    "image/heif": "heic",
    "image/jxl": "jxl",
}
"""Media type -> how the file's name ends."""
