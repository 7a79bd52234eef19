"""Tags by a model in ONNX."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from support_tagger import BIAS, ROWS, SIDE, WEIGHTS, save_tagger

from surd.engine.plan import plan
from surd.engine.select import LocalEngine
from surd.engine.stages import run_stage
from surd.errors import ModelError
from surd.models.tagger import load_tagger
from surd.stages.base import Batch, settings_fingerprint
from surd.stages.tags import STAGE, TagParams, open_
from surd.store.schema import IMAGES, SAMPLES
from surd.store.workspace import Workspace

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


def png(colour: tuple[int, ...], size: tuple[int, int] = (40, 40)) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", size, colour).save(data, "PNG")
    return data.getvalue()


def tagged(folder: Path, pictures: list[bytes | None], **params: Any) -> list[dict[str, Any]]:
    ids = [f"{number:032x}" for number in range(len(pictures))]
    batch = Batch(pa.table({"id": ids, "bytes": pa.array(pictures, pa.large_binary())}))
    tables = open_(TagParams(model=str(folder), device="cpu", **params))([batch])
    return [row for table in tables for row in table.to_pylist()]


@pytest.mark.parametrize("batch", [None, 1, 4])
def test_tags_are_those_that_are_likely_enough_characters_first(
    tmp_path: Path, batch: int | None
) -> None:
    folder = save_tagger(tmp_path / "m", batch=batch)
    red, blue, grey, none, broken = tagged(
        folder, [png(RED), png(BLUE), png((90, 90, 90)), None, b"\x89PNG\r\n broken"]
    )
    assert (red["status"], red["tags"]) == ("ok", "red theme")
    assert (blue["status"], blue["tags"]) == ("ok", "miku (blue), blue theme")
    assert [one["category"] for one in blue["scores"]] == ["character", "general", "rating"]
    assert [one["tag"] for one in red["scores"]] == ["red theme", "explicit"]
    assert (grey["status"], grey["tags"]) == ("empty", None)
    assert [one["tag"] for one in grey["scores"]] == ["general"]
    assert (none["status"], broken["status"]) == ("no_image", "decode_error")
    assert none["scores"] is None and none["tags"] is None


def test_thresholds_are_those_of_the_category(tmp_path: Path) -> None:
    folder = save_tagger(tmp_path / "m")
    [all_] = tagged(folder, [png(WHITE)], min_general=0, min_character=0)
    assert all_["tags"] == "miku (blue), red theme, ^_^, blue theme"
    [few] = tagged(folder, [png(BLUE)], min_character=1)
    assert few["tags"] == "blue theme"


def test_a_picture_lies_on_a_white_square_and_blue_comes_first(tmp_path: Path) -> None:
    tagger = load_tagger(str(save_tagger(tmp_path / "m")))
    prepared = tagger.prepare(Image.new("RGB", (80, 40), RED))
    assert prepared.shape == (SIDE, SIDE, 3) and prepared.dtype == np.float32
    assert prepared[0, 0].tolist() == [255, 255, 255]
    assert prepared[SIDE // 2, 0].tolist() == [0, 0, 255]
    mean = prepared.mean(axis=(0, 1), dtype=np.float64)
    expected = 1 / (1 + np.exp(-(mean @ WEIGHTS + BIAS)))
    np.testing.assert_allclose(tagger.score([prepared])[0], expected, atol=1e-6)
    assert tagger.score([]).shape == (0, len(ROWS))


def test_what_is_no_tag_model_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has no selected_tags\.csv"):
        load_tagger(str(tmp_path))
    folder = save_tagger(tmp_path / "short", ROWS[:-1])
    with pytest.raises(ModelError, match=r"has 6 outputs, but its selected_tags\.csv has 5 tags"):
        load_tagger(str(folder))
    with pytest.raises(ModelError, match=r"not pictures \[b, side, side, 3\]"):
        load_tagger(str(save_tagger(tmp_path / "flat", shape=(SIDE, 8, 3))))
    for batch, side in ((None, 10**6), (10**6, 448), (None, 0), (0, SIDE)):
        folder_ = save_tagger(tmp_path / "claims", batch=batch, shape=(side, side, 3))
        with pytest.raises(ModelError, match=r"takes \[.*\], but may take at most 2,048 pixels"):
            load_tagger(str(folder_))
    for row in ("1,a,zero", "1,a,\u00b2", '1,"a\nb",0', "1,a\x1bb,0", f"1,{'a' * 201},0"):
        (folder / "selected_tags.csv").write_text(f"tag_id,name,category\n{row}\n")
        with pytest.raises(ModelError, match=r"selected_tags\.csv: line 2: no name and category"):
            load_tagger(str(folder))
    (folder / "selected_tags.csv").write_bytes(b"\xff\xfe,name\n")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_tagger(str(folder))
    (folder / "model.onnx").write_bytes(b"no model")
    save_tagger(tmp_path / "good")
    (folder / "selected_tags.csv").write_text((tmp_path / "good/selected_tags.csv").read_text())
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_tagger(str(folder))


def test_scores_of_another_shape_are_told_in_one_line(tmp_path: Path) -> None:
    tagger = load_tagger(str(save_tagger(tmp_path, ROWS[:-1], says_tags=False)))
    with pytest.raises(ModelError, match=r"made scores \[1, 6\] of 1 pictures, not one for"):
        tagger.score([tagger.prepare(Image.new("RGB", (8, 8)))])


def test_a_picture_of_a_hair_is_laid_on_no_square_of_its_length(tmp_path: Path) -> None:
    tagger = load_tagger(str(save_tagger(tmp_path)))
    pixels = tagger.prepare(Image.new("RGB", (900_000, 100)))
    assert pixels.shape == (SIDE, SIDE, 3)
    assert (pixels[(SIDE - 1) // 2] == 0).all() and (pixels[:2] == 255).all()


def test_thresholds_and_weights_are_in_the_fingerprint_and_the_batch_size_is_not(
    tmp_path: Path,
) -> None:
    folder = save_tagger(tmp_path / "m")
    one = settings_fingerprint(STAGE, TagParams(model=str(folder)))
    assert one == settings_fingerprint(STAGE, TagParams(model=str(folder), batch_size=3))
    assert one != settings_fingerprint(STAGE, TagParams(model=str(folder), min_general=0.4))
    save_tagger(folder, [(*row[:3], 0) for row in ROWS])
    assert one != settings_fingerprint(STAGE, TagParams(model=str(folder)))


def test_after_an_interruption_in_a_part_the_pictures_of_its_journal_are_not_tagged_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count, rows_at_once, stop_at = 12, 3, 7
    params = TagParams(model=str(save_tagger(tmp_path / "m")), device="cpu")
    workspace = Workspace(tmp_path / "w")
    write_pictures(workspace, [png((20 * number, 0, 0)) for number in range(count)])
    stage = replace(STAGE, batch_rows=rows_at_once)
    scored: list[float] = []

    def counting(*arguments: Any, **named: Any) -> Any:
        tagger = load_tagger(*arguments, **named)

        def score(pictures: Sequence[Any]) -> Any:
            if len(scored) + len(pictures) > stop_at:
                raise KeyboardInterrupt
            scored.extend(float(picture.max()) for picture in pictures)
            return tagger.score(pictures)

        return replace(tagger, score=score)

    def run() -> None:
        jobs = [job for job in plan(workspace, stage, params) if job.state != "fresh"]
        list(run_stage(LocalEngine(), workspace, stage, params, jobs, lambda counts: None))

    monkeypatch.setattr("surd.models.tagger.load_tagger", counting)
    with pytest.raises(KeyboardInterrupt):
        run()
    assert scored == [20.0 * number for number in range(6)]
    stop_at = 2 * count
    run()
    assert scored == [20.0 * number for number in range(count)]
    assert workspace.read("tags", 0).num_rows == count


def write_pictures(workspace: Workspace, pictures: list[bytes]) -> None:
    ids = [f"{number:032x}" for number in range(len(pictures))]
    images = [
        {"id": id_, "status": "ok", "bytes": data, "sha256": hashlib.sha256(data).hexdigest()}
        for id_, data in zip(ids, pictures, strict=True)
    ]
    samples = [{"id": id_, "source": "test"} for id_ in ids]
    for group, schema, rows in (("samples", SAMPLES, samples), ("images", IMAGES, images)):
        with workspace.writing_part(group, 0, schema, 64) as writer:
            writer.write(pa.Table.from_pylist(rows, schema=schema))
            writer.describe(fingerprint="by hand", settings="by hand", inputs={}, extra={})
