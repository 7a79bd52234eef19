"""Files by which the folders that surd writes are known, wherever they lie."""

from __future__ import annotations

from surd.store.workspace import MANIFEST

DATASET = "surd-dataset.json"
EXPORT = ".surd-export"
EXPORT_TEXT = "surd export wrote this folder; folder sources that it lies in pass it over.\n"

MARKS = frozenset({MANIFEST, DATASET, EXPORT})
