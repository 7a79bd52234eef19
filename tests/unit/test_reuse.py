"""Which rows of a part need not be computed again."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from surd.engine.reuse import known_rows, look, settings_of
from surd.stages.caption import STAGE, CaptionParams
from surd.store.schema import CAPTIONS
from surd.store.workspace import Workspace


def test_rows_of_a_version_that_lacked_a_column_are_reused_without_it(tmp_path: Path) -> None:
    workspace = Workspace(str(tmp_path))
    ids = [f"{number:032x}" for number in range(3)]
    inputs = pa.table({"id": ids, "sha256": ["a", "b", "c"], "simple_prompt": pa.nulls(3)})
    settings = settings_of(STAGE, CaptionParams())
    keys = look(workspace, settings, 0, inputs).keys
    whole = pa.Table.from_pylist(
        [{"id": id_, "status": "ok", "candidates": [{"text": id_}]} for id_ in ids], CAPTIONS
    )
    older = whole.drop_columns(["detail"])
    with workspace.writing_part("captions", 0, older.schema, 64) as writer:
        writer.write(older)
        writer.describe(fingerprint="", settings="", inputs={}, extra={}, row_keys=keys)
    found = look(workspace, settings, 0, inputs)
    assert found.known.all()
    assert known_rows(workspace, settings, 0, found).equals(whole)
