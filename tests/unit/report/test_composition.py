"""What the report says a dataset is made of: buckets, lengths and languages."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from surd.report.dataset.buckets import Buckets, sizes
from surd.report.dataset.composition import Composition, section


def rows(sizes_px: list[tuple[int, int]], **columns: list) -> pa.Table:
    """Rows as the report reads them."""
    count = len(sizes_px)
    width, height = zip(*sizes_px, strict=True)
    given = {
        "width": pa.array(width, pa.int32()),
        "height": pa.array(height, pa.int32()),
        **{name: pa.array(values, pa.string()) for name, values in columns.items()},
    }
    texts = ("source", "licence", "nsfw_level", "mime", "language")
    texts += ("simple_prompt", "complex_prompt", "dense_caption", "tags")
    absent = {name: pa.nulls(count, pa.string()) for name in texts if name not in given}
    return pa.table({**given, **absent})


def page(table: pa.Table) -> str:
    composition = Composition()
    composition.add(table)
    return " ".join(section(composition).body.split())


def test_the_buckets_at_1024_are_those_that_sdxl_was_trained_with() -> None:
    """Podell et al. 2023, arXiv:2307.01952, appendix I."""
    found = {tuple(size) for size in sizes(1024).tolist()}
    published = {(512, 2048), (640, 1536), (768, 1344), (832, 1216), (896, 1152), (1024, 1024)}
    assert found >= published | {(h, w) for w, h in published}
    assert all(w * h <= 1024**2 and w % 64 == h % 64 == 0 for w, h in found)


def test_a_picture_is_in_the_bucket_of_the_nearest_aspect_and_small_ones_are_enlarged() -> None:
    buckets = Buckets(1024)
    pictures = [(832, 1216), (1664, 2432), (1000, 1000), (1, 900), (4000, 10), (1216, 832)]
    width, height = np.array(pictures).T
    buckets.add(width, height)
    assert buckets.ranked() == [
        ("832 × 1,216", 2),
        ("512 × 2,048", 1),
        ("1,024 × 1,024", 1),
        ("1,216 × 832", 1),
        ("2,048 × 512", 1),
    ]
    assert buckets.enlarged == 3
    assert "1,024 px, in steps of 64; 3 smaller, and so enlarged" in buckets.title()


def test_the_page_shows_buckets_and_the_names_of_languages() -> None:
    table = rows([(832, 1216), (512, 512)], language=["de", "xx"], source=["folder", "folder"])
    body = page(table)
    assert "832 × 1,216" in body and "512 × 512" in body
    assert "German (de)" in body and ">xx<" in body


def test_every_language_that_is_told_apart_has_a_name() -> None:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    from surd.text.languages import NAMES, language

    codes = LanguageIdentifier.from_model_file(MODEL_FILE).nb_classes
    assert set(map(str, codes)) <= NAMES.keys()
    assert language(str(codes[0])).endswith(f"({codes[0]})")
