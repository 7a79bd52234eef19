"""Pairs of pictures with a winner, from an evaluation."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from surd.errors import SurdError
from surd.evaluate.outcomes import Outcomes
from surd.evaluate.preferences import export_preferences

COLOURS = {"base": "red", "adapter": "blue"}


def evaluated(folder: Path, rows: list[dict[str, Any]]) -> Path:
    """A run with these rows; each has its picture."""
    whole = []
    for row in rows:
        picture = f"{row['side']}0/{row['prompt']}-{row['seed']}.png"
        path = folder / "pictures" / picture
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), COLOURS[row["side"]]).save(path)
        whole.append({"prompts": "mine", "kind": "all", "picture": picture, **row})
    pq.write_table(pa.Table.from_pylist(whole), folder / "evaluation.parquet")
    return folder


def row(
    side: str, prompt: str, right: bool | None, vqa: float | None = None, **more: Any
) -> dict[str, Any]:
    scores = {"vqa_score": vqa, "soft_tifa_prompts": math.nan if vqa is not None else None}
    return {"side": side, "prompt": prompt, "seed": 0, "right": right, **scores, **more}


def test_the_surer_picture_wins_and_scores_are_kept(tmp_path: Path) -> None:
    run = evaluated(
        tmp_path / "run",
        [
            *(row("base", "a", True, 0.2), row("adapter", "a", True, 0.7)),
            *(row("base", "b", True, 0.9), row("adapter", "b", True, 0.4)),
            *(row("base", "c", True, 0.5), row("adapter", "c", False, 0.5)),
            *(row("base", "d", True, 0.9), row("adapter", "d", True, math.nan)),
            *(row("base", "e", True, 0.9), row("base", "f", True, 0.9)),
        ],
    )
    done = export_preferences(run, tmp_path / "pairs.parquet")
    assert (done.by, done.pairs, done.adapter_wins) == ("vqa_score", 2, 1)
    assert (done.ties, done.without_score) == (1, 1)
    rows = pq.read_table(tmp_path / "pairs.parquet").to_pylist()
    assert [r["caption"] for r in rows] == ["a", "b"]
    assert [(r["label_0"], r["label_1"]) for r in rows] == [(0, 1), (1, 0)]
    assert [(r["score_0"], r["score_1"]) for r in rows] == [(0.2, 0.7), (0.9, 0.4)]
    assert {r["decided_by"] for r in rows} == {"vqa_score"}
    assert rows[0]["best_image_uid"] == rows[0]["image_1_uid"] != rows[0]["image_0_uid"]
    for name, colour in (("jpg_0", (254, 0, 0)), ("jpg_1", (0, 0, 254))):
        picture = Image.open(io.BytesIO(rows[0][name]))
        assert picture.format == "JPEG" and picture.getpixel((8, 8)) == colour
    assert not list(tmp_path.glob(".*"))


PICK_A_PIC = {
    "are_different": "bool", "best_image_uid": "string", "caption": "string",
    "created_at": "timestamp[ns]", "has_label": "bool", "image_0_uid": "string",
    "image_0_url": "string", "image_1_uid": "string", "image_1_url": "string", "jpg_0": "binary",
    "jpg_1": "binary", "label_0": "double", "label_1": "double", "model_0": "string",
    "model_1": "string", "ranking_id": "int64", "user_id": "int64",
    "num_example_per_prompt": "int64",
}  # fmt: skip
"""As https://huggingface.co/datasets/yuvalkirstain/pickapic_v2 describes itself."""


def test_the_columns_are_those_of_pick_a_pic_then_our_own(tmp_path: Path) -> None:
    rows = [row(side, "a", side == "adapter", seed=seed) for seed in (0, 1) for side in COLOURS]
    export_preferences(evaluated(tmp_path / "run", rows), tmp_path / "pairs.parquet")
    table = pq.read_table(tmp_path / "pairs.parquet")
    found = {field.name: str(field.type) for field in table.schema}
    assert list(found.items())[: len(PICK_A_PIC)] == list(PICK_A_PIC.items())
    assert list(found)[len(PICK_A_PIC) :] == ["seed", "score_0", "score_1", "decided_by"]
    assert table["num_example_per_prompt"].to_pylist() == [2, 2]
    assert table["ranking_id"].to_pylist() == table["seed"].to_pylist() == [0, 1]


BOTH = [
    *(row("base", "a", True, 0.2, clip=0.5), row("adapter", "a", False, 0.7, clip=0.4)),
    *(row("base", "b", True, 0.9, clip=None), row("adapter", "b", True, 0.4, clip=0.4)),
    *(row("base", "c", False, 0.9, soft_tifa_prompts=0.1), row("adapter", "c", True, 0.1)),
]


@pytest.mark.parametrize(
    ("by", "wins", "left_out"),
    [
        ("right", {"a": 0, "c": 1}, (1, 0)),
        ("vqa_score", {"a": 1, "b": 0, "c": 0}, (0, 0)),
        ("clip", {"a": 0}, (0, 2)),
        (None, {"a": 1, "b": 0, "c": 0}, (0, 0)),
    ],
)
def test_one_measure_decides_every_pair(
    tmp_path: Path, by: str | None, wins: dict[str, int], left_out: tuple[int, int]
) -> None:
    run = evaluated(tmp_path / "run", BOTH)
    done = export_preferences(run, tmp_path / "pairs.parquet", by)
    rows = pq.read_table(tmp_path / "pairs.parquet").to_pylist()
    assert {r["caption"]: r["label_1"] for r in rows} == wins
    assert {r["decided_by"] for r in rows} == {done.by} == {by or "vqa_score"}
    assert (done.ties, done.without_score) == left_out


def test_soft_tifa_decides_where_half_of_the_pairs_have_questions(tmp_path: Path) -> None:
    rows = [
        *(row("base", "a", True, 0.9, soft_tifa_prompts=0.1),),
        *(row("adapter", "a", True, 0.1, soft_tifa_prompts=0.3),),
        *(row("base", "b", True, 0.9), row("adapter", "b", True, 0.4)),
    ]
    done = export_preferences(evaluated(tmp_path / "run", rows), tmp_path / "pairs.parquet")
    assert (done.by, done.pairs, done.adapter_wins) == ("soft_tifa_prompts", 1, 1)
    assert (done.ties, done.without_score) == (0, 1)


def test_the_lower_value_wins_where_lower_is_better(tmp_path: Path) -> None:
    run = evaluated(tmp_path / "run", [row(side, "a", True) for side in COLOURS])
    outcomes = Outcomes()
    for one in pq.read_table(run / "evaluation.parquet").to_pylist():
        outcomes.add(**one)
    values = {"base": np.array([[30.0]]), "adapter": np.array([[20.0]])}
    outcomes.score("brisque", "mine", ["a"], [0], values, lower_is_better=True)
    pq.write_table(outcomes.table(), run / "evaluation.parquet")
    export_preferences(run, tmp_path / "pairs.parquet", "brisque")
    (pair,) = pq.read_table(tmp_path / "pairs.parquet").to_pylist()
    assert (pair["score_0"], pair["score_1"], pair["label_1"]) == (30, 20, 1)


def test_a_prompt_of_several_kinds_counts_with_the_mean_over_those_that_both_have(
    tmp_path: Path,
) -> None:
    rows = [row("base", "a", right) | {"kind": str(n)} for n, right in enumerate([True, False])]
    rows += [row("adapter", "a", True) | {"kind": str(n)} for n in range(2)]
    rows += [row("base", "a", True) | {"kind": "2"}, row("adapter", "a", None) | {"kind": "2"}]
    export_preferences(evaluated(tmp_path / "run", rows), tmp_path / "pairs.parquet")
    (pair,) = pq.read_table(tmp_path / "pairs.parquet").to_pylist()
    assert (pair["score_0"], pair["score_1"], pair["decided_by"]) == (0.5, 1.0, "right")


def test_what_cannot_be_exported_is_one_line(tmp_path: Path, surd: Callable[..., Any]) -> None:
    out = tmp_path / "pairs.parquet"
    with pytest.raises(SurdError, match="no adapter here"):
        export_preferences(tmp_path, out)
    with pytest.raises(SurdError, match=r"pairs\.csv: .*; choose a name ending in \.parquet"):
        export_preferences(tmp_path, out.with_suffix(".csv"))
    run = evaluated(tmp_path / "run", [row("base", "a", True, 0.2), row("adapter", "a", True, 0.2)])
    with pytest.raises(SurdError, match=r"has a winner by vqa_score \(1 tie, 0 have no number\)"):
        export_preferences(run, out)
    with pytest.raises(SurdError, match=r"--by clip: .*; take one of right, vqa_score, soft_tifa"):
        export_preferences(run, out, "clip")
    run = evaluated(tmp_path / "run", [row("base", "a", True, 0.2), row("adapter", "a", True, 0.7)])
    picture = run / "pictures" / "base0" / "a-0.png"
    content = picture.read_bytes()
    picture.unlink()
    with pytest.raises(SurdError, match=r"a-0\.png is gone"):
        export_preferences(run, out)
    assert not out.exists() and not list(tmp_path.glob(".*"))
    picture.write_bytes(content)
    ran = surd("export", run, "preferences", "-o", out)
    assert ran.code == 0 and ran.out == (
        f"{out}: 1 pair decided by vqa_score, 1 won by the adapter; median difference 0.5\n"
    )
    ran = surd("export", run, "preferences", "-o", out)
    assert ran.code == 2 and "already exists" in ran.err


@pytest.mark.parametrize(
    ("margin", "kept", "close"), [(0.0, 3, 0), (0.1, 2, 1), (0.2, 1, 2), (0.6, 0, 3)]
)
def test_scores_that_differ_by_less_than_the_margin_are_no_preference(
    tmp_path: Path, surd: Callable[..., Any], margin: float, kept: int, close: int
) -> None:
    scores = {"a": (0.6, 0.7), "b": (0.9, 0.4), "c": (0.5, 0.50005), "d": (0.5, 0.5)}
    rows = [
        row(side, prompt, True, score)
        for prompt, both in scores.items()
        for side, score in zip(COLOURS, both, strict=True)
    ]
    run, out = evaluated(tmp_path / "run", rows), tmp_path / "pairs.parquet"
    ran = surd("export", run, "preferences", "-o", out, "--margin", margin)
    if not kept:
        assert ran.code == 2 and not out.exists()
        assert "(1 tie, 3 differ by less than 0.6, 0 have no number); lower --margin" in ran.err
        return
    assert ran.code == 0 and len(pq.read_table(out)) == kept
    middle = {3: "0.1", 2: "0.3", 1: "0.5"}[kept]
    pairs = "1 pair" if kept == 1 else f"{kept} pairs"
    assert f": {pairs} decided by" in ran.out and f"median difference {middle}\n" in ran.out
    told = f"; that differ by less than {margin:g}: {close}" if close else ""
    assert ran.out.endswith(f"left out, pairs that tie: 1{told}\n")


@pytest.mark.parametrize("margin", ["nan", "inf", "-1"])
def test_a_margin_is_a_difference(tmp_path: Path, surd: Callable[..., Any], margin: str) -> None:
    run = evaluated(tmp_path / "run", [row("base", "a", True), row("adapter", "a", False)])
    ran = surd("export", run, "preferences", "-o", tmp_path / "a.parquet", "--margin", margin)
    assert ran.code == 2 and "--margin" in ran.err


def test_preferences_of_a_workspace_name_its_runs(tmp_path: Path, surd: Callable[..., Any]) -> None:
    run = tmp_path / "adapter" / "run"
    run.mkdir(parents=True)
    (run / "adapter_config.json").write_text('{"format": "surd-adapter-1"}')
    told = f"not the folder of an adapter; name one of its adapters: {run}"
    out = tmp_path / "a.parquet"
    for words in (("export", tmp_path, "preferences", "-o", out), ("evaluate", tmp_path)):
        ran = surd(*words)
        assert ran.code == 2 and told in ran.err
    ran = surd("export", run, "preferences", "-o", out)
    assert ran.code == 2 and f"not evaluated yet; first run: surd evaluate {run}" in ran.err


def test_pictures_of_an_ablation_lie_beside_its_runs(tmp_path: Path) -> None:
    run = evaluated(tmp_path / "run", [row("base", "a", False), row("adapter", "a", True)])
    (run / "pictures").rename(tmp_path / "pictures")
    assert export_preferences(run, tmp_path / "pairs.parquet").pairs == 1


@pytest.mark.parametrize("content", [b"", b"PAR1", None])
def test_a_broken_evaluation_is_one_line(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "evaluation.parquet"
    if content is None:
        pq.write_table(pa.table({"side": ["base"]}), path)
    else:
        path.write_bytes(content)
    with pytest.raises(SurdError, match=r"cannot be read: .*; run surd evaluate again") as caught:
        export_preferences(tmp_path, tmp_path / "pairs.parquet")
    assert "\n" not in str(caught.value)


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    run = evaluated(tmp_path / "run", [row("base", "a", False), row("adapter", "a", True)])
    (tmp_path / "file").touch()
    with pytest.raises(SurdError, match="cannot be written"):
        export_preferences(run, tmp_path / "file" / "pairs.parquet")
