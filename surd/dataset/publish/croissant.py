"""The dataset in Croissant 1.0: http://mlcommons.org/croissant/1.0."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from surd.dataset.columns import PUBLISHED, doc
from surd.dataset.publish.card import CITATION, licence_of
from surd.dataset.publish.provenance import Made
from surd.pages.markdown import plain
from surd.recipe.publish import PublishParams

_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
_FILES = "parquet-files"


def croissant(said: Mapping[str, Any], made: Made, params: PublishParams) -> str:
    """The text of ``croissant.json``; ``said`` is what ``surd-dataset.json`` holds."""
    metadata = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": plain(made.name),
        "description": plain(made.description)
        or "Generated images, each with a simple and a complex prompt",
        "citeAs": CITATION,
        "license": licence_of(said, params),
        "version": "1.0.0",
        "distribution": [
            {
                "@type": "cr:FileSet",
                "@id": _FILES,
                "name": _FILES,
                "description": "the files of all splits",
                "encodingFormat": "application/x-parquet",
                "includes": [f"{split}-*.parquet" for split in said["splits"]],
            }
        ],
        "recordSet": [_splits(said), _samples()],
    }
    return json.dumps(metadata, indent=2) + "\n"


def _splits(said: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": "splits",
        "name": "splits",
        "description": "the names of the splits",
        "dataType": "cr:Split",
        "key": {"@id": "splits/name"},
        "field": [
            {
                "@type": "cr:Field",
                "@id": "splits/name",
                "name": "name",
                "dataType": "sc:Text",
            }
        ],
        "data": [{"splits/name": split} for split in said["splits"]],
    }


def _samples() -> dict[str, Any]:
    split = {
        "@type": "cr:Field",
        "@id": "samples/split",
        "name": "split",
        "description": "train, validation or test",
        "dataType": "sc:Text",
        "source": {
            "fileSet": {"@id": _FILES},
            "extract": {"fileProperty": "filename"},
            "transform": {"regex": "^(train|validation|test)(?:-.*)?$"},
        },
        "references": {"field": {"@id": "splits/name"}},
    }
    return {
        "@type": "cr:RecordSet",
        "@id": "samples",
        "name": "samples",
        "description": "an image with its simple and its complex prompt, scores and provenance",
        "key": {"@id": "samples/id"},
        "field": [split, *(_field(field) for field in PUBLISHED)],
    }


def _field(field: pa.Field) -> dict[str, Any]:
    source: dict[str, Any] = {"fileSet": {"@id": _FILES}, "extract": {"column": field.name}}
    if field.name == "image":
        source["transform"] = {"jsonPath": "bytes"}
    return {
        "@type": "cr:Field",
        "@id": f"samples/{field.name}",
        "name": field.name,
        "description": doc(field.name),
        "dataType": _data_type(field),
        "source": source,
    }


def _data_type(field: pa.Field) -> str:
    if field.name == "image":
        return "sc:ImageObject"
    if pa.types.is_integer(field.type):
        return "sc:Integer"
    return "sc:Float" if pa.types.is_floating(field.type) else "sc:Text"
