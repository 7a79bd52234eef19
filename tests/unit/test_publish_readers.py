"""What the libraries that datasets are read with make of a published one."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image, ImageOps
from support_publish import (
    HOSTILE,
    RECIPE,
    dropped,
    files,
    make_workspace,
    picture,
    sample,
    samples,
)

from surd.dataset.columns import PUBLISHED
from surd.dataset.publish.card import card, size_category
from surd.dataset.publish.licence import hub_licence
from surd.dataset.publish.run import publish
from surd.dataset.publish.statistics import Histogram
from surd.pages.markdown import fenced, inline
from surd.recipe.publish import PublishParams

SMALL = PublishParams(validation=0.2, test=0.2, row_group_rows=4, shard_mb=0.01)


def card_of(folder: Path) -> tuple[dict, str]:
    """Front matter, as the Hub finds it, and body."""
    text = (folder / "dataset" / "README.md").read_text(encoding="utf-8")
    match = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    assert match
    return yaml.safe_load(match[1]), text[match.end() :]


# datasets ----------------------------------------------------------------------------------------


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    reason = "datasets is not installed; pip install datasets"
    datasets = pytest.importorskip("datasets", reason=reason)
    datasets.disable_progress_bars()

    def load(*arguments: object, **named: object):
        cache = str(tmp_path / "cache")
        return datasets.load_dataset(*arguments, cache_dir=cache, **named)

    return load


def test_datasets_finds_splits_columns_and_pictures(tmp_path: Path, load) -> None:
    rows = {row["id"]: row for row in samples(40)}
    summary = publish(make_workspace(tmp_path, [list(rows.values())]), SMALL)
    found = load(str(tmp_path / "dataset"))
    assert {split: len(found[split]) for split in found} == summary.splits
    assert found["train"].column_names == PUBLISHED.names
    for row in found["train"]:
        expected = rows[row["id"]]
        image = Image.open(io.BytesIO(expected["bytes"]))
        assert np.array_equal(np.asarray(row["image"]), np.asarray(image))
        assert row["simple_prompt"] == expected["simple_prompt"]
        assert row["complex_prompt"] == expected["complex_prompt"]


def test_the_files_alone_are_enough_for_datasets(tmp_path: Path, load) -> None:
    publish(make_workspace(tmp_path, [samples(4)]), PublishParams(validation=0, test=0))
    shards = str(tmp_path / "dataset" / "train-*.parquet")
    found = load("parquet", data_files={"train": shards})["train"]
    assert found[0]["image"].size == (32, 24)
    assert found.features.arrow_schema.equals(PUBLISHED, check_metadata=True)


def test_turned_pictures_keep_their_bytes_and_are_shown_upright(tmp_path: Path, load) -> None:
    data = picture(1, "JPEG", orientation=6)
    row = sample(1) | {
        "bytes": data,
        "mime": "image/jpeg",
        "exif_orientation": 6,
        "width": 24,
        "height": 32,
    }
    publish(make_workspace(tmp_path, [[row]]), PublishParams(validation=0, test=0))
    found = load(str(tmp_path / "dataset"))["train"][0]
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert found["image"].size == (24, 32) == (found["width"], found["height"])
    assert np.array_equal(np.asarray(found["image"]), np.asarray(upright))
    assert "orientation that turns them: 1;" in card_of(tmp_path)[1]


# Croissant ---------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:ConjunctiveGraph is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The inplace keyword in DataFrame.reset_index is deprecated")
def test_mlcroissant_accepts_the_description_and_reads_the_samples(tmp_path: Path) -> None:
    mlc = pytest.importorskip("mlcroissant", reason="pip install mlcroissant")
    publish(make_workspace(tmp_path, [samples(20)], recipe=RECIPE | {"name": HOSTILE}), SMALL)
    dataset = mlc.Dataset(str(tmp_path / "dataset" / "croissant.json"))
    assert not dataset.metadata.issues.errors
    rows = list(dataset.records("samples"))
    assert {row["samples/id"].decode() for row in rows} == {row["id"] for row in samples(20)}
    assert {row["samples/split"] for row in rows} <= {b"train", b"validation", b"test"}
    assert rows[0]["samples/image"].size == (32, 24)


# the card ----------------------------------------------------------------------------------------


def test_the_card_tells_the_hub_splits_size_and_licence(tmp_path: Path) -> None:
    publish(make_workspace(tmp_path, [samples(20)]), SMALL)
    front, body = card_of(tmp_path)
    assert front["license"] == "cc-by-4.0"
    assert front["task_categories"] == ["text-to-image"]
    assert front["size_categories"] == ["n<1K"]
    (config,) = front["configs"]
    assert {file["split"]: file["path"] for file in config["data_files"]} == {
        split: f"{split}-*.parquet" for split in ("train", "validation", "test")
    }
    assert body.lstrip().startswith("# tiny\n")
    assert "2305.05189" in body


def test_the_card_says_why_samples_were_dropped(tmp_path: Path) -> None:
    rows = [*samples(6), dropped(7, "clip_threshold"), dropped(8, "clip_threshold", "small")]
    rows += [dropped(9, "decode") | {"status": "timeout", "bytes": None}, sample(10)]
    publish(make_workspace(tmp_path, [rows]), SMALL)
    body = card_of(tmp_path)[1]
    assert "| collected | 10 | 100.0% |" in body
    assert "| with an image | 9 | 90.0% |" in body
    assert "| kept by the filter | 7 | 70.0% |" in body
    assert "| published | 7 | 70.0% |" in body
    assert "| clip_threshold | 2 | 20.0% | 1 |" in body
    assert "| small | 1 | 10.0% | 0 |" in body


def test_the_card_shows_how_it_was_made_but_no_paths_or_addresses(tmp_path: Path) -> None:
    download = {"contact": "me@example.org", "allow_private_addresses": ["10.1.2.0/24"]}
    recipe = RECIPE | {"download": download}
    publish(make_workspace(tmp_path, [samples(3)], recipe=recipe), SMALL)
    everything = b"".join(files(tmp_path / "dataset").values()).decode("utf-8", "replace")
    assert "limit: 7" in everything and "max_pixels" in everything
    for private in ("/home/someone", "me@example.org", "10.1.2.0", str(tmp_path)):
        assert private not in everything


def test_words_of_ones_own_open_the_card(tmp_path: Path) -> None:
    params = SMALL.model_copy(update={"introduction": "Made for **tests**.", "examples": 0})
    publish(make_workspace(tmp_path, [samples(3)]), params)
    body = card_of(tmp_path)[1]
    assert "# tiny\n\nMade for **tests**.\n\nA tiny dataset" in body and "## Examples" not in body


def test_pictures_marked_as_unfit_are_no_examples(tmp_path: Path) -> None:
    rows = [sample(0) | {"nsfw_level": "x"}, sample(1) | {"nsfw": 0.9}, sample(2)]
    publish(make_workspace(tmp_path, [rows]), SMALL)
    body = card_of(tmp_path)[1]
    assert "the red cup 2" in body and "the red cup 0" not in body and "cup 1 " not in body


def test_hostile_text_stays_text_in_the_card(tmp_path: Path) -> None:
    rows = samples(
        4, simple_prompt=HOSTILE, complex_prompt=HOSTILE, licence=HOSTILE, nsfw_level=None
    )
    recipe = RECIPE | {"name": HOSTILE, "description": HOSTILE}
    publish(make_workspace(tmp_path, [rows], recipe=recipe), SMALL)
    text = (tmp_path / "dataset" / "README.md").read_text(encoding="utf-8")
    front, body = card_of(tmp_path)
    assert front["license"] == "other"
    assert "script" in front["pretty_name"] and "\n" not in front["pretty_name"]
    assert "script" in body and "<script" not in body and "javascript:" not in body
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u2028\0]", text)
    assert "www.evil" not in body and "](javascript" not in body
    shown = [line for line in body.splitlines() if line.startswith("|") and "script" in line]
    widths = {line.count(" | ") for line in shown}
    assert widths == {1, 2}  # examples have two columns, sources three


def test_inline_text_is_one_line_without_markup() -> None:
    assert inline("a\nb\r\n\0c") == "a b c"
    assert inline("clip_threshold, 50 % (ok)") == "clip_threshold, 50 % (ok)"
    assert inline("<b>|`*_x_*`") == "&#60;b&#62;&#124;&#96;&#42;&#95;x&#95;&#42;&#96;"
    assert inline("https://x.example a@b.c WWW.x") == ("https&#58;//x.example a&#64;b.c WWW&#46;x")
    assert inline("--- 1. x") == "&#45;-- 1. x"
    assert inline("1. x") == "1&#46; x" and inline("1) x") == "1&#41; x"
    assert inline("赤いカップ ñ é") == "赤いカップ ñ é"
    assert inline("x" * 300).endswith("…") and len(inline("x" * 300)) == 200


def test_a_fence_is_longer_than_what_it_holds() -> None:
    assert fenced("a\n````\nb", "yaml") == "`````yaml\na\n````\nb\n`````"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ([], "unknown"),
        ([None], "unknown"),
        (["CC BY 4.0"], "cc-by-4.0"),
        (["CC0"], "cc0-1.0"),
        (["cc-by-nc-sa-4.0"], "cc-by-nc-sa-4.0"),
        (["CC BY 4.0", None], "other"),
        (["whatever"], "other"),
    ],
)
def test_the_hubs_licence_follows_from_what_the_sources_say(
    said: list[str | None], expected: str
) -> None:
    assert hub_licence(said) == expected


def test_sizes_have_the_hubs_names() -> None:
    counts = [1, 999, 1000, 99_999, 100_000, 5_000_000, 20_000_000]
    assert [size_category(n) for n in counts] == [
        "n<1K",
        "n<1K",
        "1K<n<10K",
        "10K<n<100K",
        "100K<n<1M",
        "1M<n<10M",
        "10M<n<100M",
    ]


def test_percentiles_are_of_nearest_rank() -> None:
    import pyarrow as pa

    histogram = Histogram(-1, 1, 1e-4)
    assert histogram.percentiles() == {}
    values = [n / 1000 for n in range(1, 101)] + [None, float("nan")]
    histogram.add(pa.chunked_array([pa.array(values, pa.float32())]))
    found = histogram.percentiles()
    assert found["count"] == 100
    assert [found[f"p{p}"] for p in (1, 50, 99)] == [0.001, 0.05, 0.099]


def test_the_card_depends_on_its_arguments_alone(tmp_path: Path) -> None:
    from surd.dataset.publish.provenance import how_made

    workspace = make_workspace(tmp_path, [samples(5)])
    publish(workspace, SMALL)
    said = json.loads((tmp_path / "dataset" / "surd-dataset.json").read_text())
    text = card(said, how_made(workspace), SMALL)
    assert text.encode() == (tmp_path / "dataset" / "README.md").read_bytes()
