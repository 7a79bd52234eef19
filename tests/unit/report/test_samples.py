"""What is shown of a dataset fits into a page, however large the dataset and its prompts are."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from support_publish import make_workspace, samples

from surd.pages.templates import as_json
from surd.report.dataset.rows import groups_there
from surd.report.dataset.samples import Choice, gather
from surd.report.page import THUMBNAIL_BYTES, THUMBNAIL_PX, thumbnail


def opened(uri: str | None) -> Image.Image:
    assert uri is not None and uri.startswith("data:image/webp;base64,")
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def encoded(pixels: np.ndarray, format_: str = "JPEG", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format_, **options)
    return buffer.getvalue()


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)


def test_a_thumbnail_keeps_the_shape_and_is_small_whatever_it_shows() -> None:
    uri = thumbnail(encoded(noise(600, 1200), quality=95))
    assert opened(uri).size == (THUMBNAIL_PX, THUMBNAIL_PX // 2)
    assert len(base64.b64decode(uri.partition(",")[2])) <= THUMBNAIL_BYTES * 1.5


def test_a_thumbnail_stands_upright_and_is_not_enlarged() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert opened(thumbnail(encoded(noise(20, 30), exif=exif))).size == (20, 30)


@pytest.mark.parametrize(
    "data", [None, b"", b"<svg/>", b"\xff\xd8\xff broken", b"\x89PNG\r\n\x1a\n"]
)
def test_what_does_not_decode_has_no_thumbnail(data: bytes | None) -> None:
    assert thumbnail(data) is None


def test_a_truncated_picture_has_no_thumbnail() -> None:
    assert thumbnail(encoded(noise(64, 64), "PNG")[:-40]) is None


def hash_ids(count: int) -> pa.ChunkedArray:
    random = np.random.default_rng(1)
    return pa.chunked_array([[random.bytes(16).hex() for _ in range(count)]])


def test_the_choice_depends_on_ids_and_not_on_how_they_are_cut_into_parts() -> None:
    ids = hash_ids(300)
    whole, cut = Choice(300), Choice(300)
    whole.offer("x", 20, 0, whole.order(ids, 0), np.ones(300, bool))
    for part in range(3):
        piece = ids.slice(100 * part, 100)
        cut.offer("x", 20, part, cut.order(piece, part), np.ones(100, bool))
    chosen = [row for _, row in whole.places("x")]
    assert chosen == [100 * part + row for part, row in cut.places("x")]
    assert chosen == np.argsort(ids.to_pylist())[:20].tolist()


def test_of_a_large_dataset_few_row_groups_are_read_unless_something_is_rare() -> None:
    choice = Choice(1_000_000)
    rare = np.zeros(1000, bool)
    rare[500] = True
    ids = hash_ids(1000)
    for part in range(60):
        order = choice.order(ids, part)
        choice.offer("often", 300, part, order, np.ones(1000, bool))
        choice.offer("rare", 3, part, order, rare if part in (7, 8) else ~np.ones(1000, bool))
    blocks = {(part, row // 64) for part, row in choice.places("often")}
    assert len(choice.places("often")) == 300 and 5 <= len(blocks) < 30
    assert sorted(choice.places("rare")) == [(7, 500), (8, 500)]


def test_samples_stay_within_their_budget_and_the_important_ones_come_first(
    tmp_path: Path,
) -> None:
    long = "<>&" * 4_000
    made = samples(30, complex_prompt=long, simple_prompt=long, author=long, licence=long)
    workspace = make_workspace(tmp_path / "w", [made])
    wanted = [(0, row) for row in reversed(range(30))]
    everything = gather(workspace, groups_there(workspace), wanted)
    assert len(everything.entries) == 30
    budget = len(as_json(everything.entries)) // 3
    some = gather(workspace, groups_there(workspace), wanted, budget)
    assert 0 < len(as_json(some.entries)) <= budget
    first = [entry["id"] for entry in some.entries]
    assert first == [made[row]["id"] for _, row in wanted[: len(first)]]
    assert some.indices([(0, 29), (0, 0)]) == [0]


def test_a_part_whose_pictures_are_damaged_shows_the_rest(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "w", [samples(8)])
    path = tmp_path / "w" / "images" / "part-00000.parquet"
    groups = groups_there(workspace)
    whole = gather(workspace, groups, [(0, 0), (0, 7)])
    assert all("thumb" in entry for entry in whole.entries)
    data = bytearray(path.read_bytes())
    picture = samples(8)[7]["bytes"]
    data[data.index(picture[-40:])] ^= 1
    path.write_bytes(data)
    shown = gather(workspace, groups, [(0, 0), (0, 7)])
    assert ["thumb" in entry for entry in shown.entries] == [True, False]
