"""Pairs of pictures with a winner, from an evaluation."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from surd.errors import SurdError
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
        whole.append({"kind": "all", "picture": picture, **row})
    pq.write_table(pa.Table.from_pylist(whole), folder / "evaluation.parquet")
    return folder


def row(side: str, prompt: str, right: bool, vqa: float | None = None, **more: Any) -> Any:
    scores = {"vqa_score": vqa, "soft_tifa_prompts": math.nan if vqa is not None else None}
    return {"side": side, "prompt": prompt, "seed": 0, "right": right, **scores, **more}


def test_the_surer_picture_wins_and_scores_are_kept(tmp_path: Path) -> None:
    run = evaluated(
        tmp_path / "run",
        [
            *(row("base", "a", True, 0.2), row("adapter", "a", True, 0.7)),
            *(row("base", "b", True, 0.9), row("adapter", "b", True, 0.4)),
            *(row("base", "c", True, 0.5), row("adapter", "c", False, 0.5)),
            *(
                row("base", "d", True, 0.9, soft_tifa_prompts=0.1),
                row("adapter", "d", True, 0.1, soft_tifa_prompts=0.3),
            ),
        ],
    )
    done = export_preferences(run, tmp_path / "pairs.parquet")
    assert (done.pairs, done.adapter_wins, done.ties) == (3, 2, 1)
    rows = pq.read_table(tmp_path / "pairs.parquet").to_pylist()
    assert [r["caption"] for r in rows] == ["a", "b", "d"]
    assert [(r["label_0"], r["label_1"]) for r in rows] == [(0, 1), (1, 0), (0, 1)]
    assert [(r["score_0"], r["score_1"]) for r in rows] == [(0.2, 0.7), (0.9, 0.4), (0.1, 0.3)]
    assert [r["decided_by"] for r in rows] == ["vqa_score", "vqa_score", "soft_tifa_prompts"]
    assert rows[0]["best_image_uid"] == rows[0]["image_1_uid"] != rows[0]["image_0_uid"]
    for name, colour in (("jpg_0", (254, 0, 0)), ("jpg_1", (0, 0, 254))):
        picture = Image.open(io.BytesIO(rows[0][name]))
        assert picture.format == "JPEG" and picture.getpixel((8, 8)) == colour
    assert not list(tmp_path.glob(".*"))


def test_right_decides_where_no_judge_is_surer_by_the_mean_over_kinds(tmp_path: Path) -> None:
    rows = [row("base", "a", right) | {"kind": str(n)} for n, right in enumerate([True, False])]
    rows += [row("adapter", "a", True) | {"kind": str(n)} for n in range(2)]
    export_preferences(evaluated(tmp_path / "run", rows), tmp_path / "pairs.parquet")
    (pair,) = pq.read_table(tmp_path / "pairs.parquet").to_pylist()
    assert (pair["score_0"], pair["score_1"], pair["decided_by"]) == (0.5, 1.0, "right")


def test_what_cannot_be_exported_is_one_line(tmp_path: Path, surd: Callable[..., Any]) -> None:
    out = tmp_path / "pairs.parquet"
    with pytest.raises(SurdError, match="not evaluated yet; first run: surd evaluate"):
        export_preferences(tmp_path, out)
    run = evaluated(tmp_path / "run", [row("base", "a", True, 0.2), row("adapter", "a", True, 0.2)])
    with pytest.raises(SurdError, match="none of its 1 pairs has a winner"):
        export_preferences(run, out)
    run = evaluated(tmp_path / "run", [row("base", "a", True, 0.2), row("adapter", "a", True, 0.7)])
    picture = run / "pictures" / "base0" / "a-0.png"
    content = picture.read_bytes()
    picture.unlink()
    with pytest.raises(SurdError, match=r"a-0\.png is gone"):
        export_preferences(run, out)
    assert not out.exists() and not list(tmp_path.glob(".*"))
    picture.write_bytes(content)
    ran = surd("export", run, "preferences", "-o", out)
    assert ran.code == 0 and ran.out == f"{out}: 1 pairs, 1 won by the adapter\n"
    ran = surd("export", run, "preferences", "-o", out)
    assert ran.code == 2 and "already exists" in ran.err


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
