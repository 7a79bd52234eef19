"""Files by which the folders that surd writes are known, wherever they lie."""

from __future__ import annotations

from surd.store.workspace import MANIFEST

DATASET = "surd-dataset.json"
EXPORT = ".surd-export"
RUN = ".surd-run"
SAYING = {
    mark: f"surd {name} wrote this folder; folder sources that it lies in pass it over.\n"
    for mark, name in {EXPORT: "export", RUN: "train-adapter"}.items()
}
"""What those say that say nothing else."""

MARKS = frozenset({MANIFEST, DATASET, *SAYING})
