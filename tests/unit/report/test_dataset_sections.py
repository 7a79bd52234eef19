"""What a report tells of a workspace, at every stage it may have come to."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from support_publish import make_workspace, write_group
from support_report import RECIPE, judged_workspace, rows, shown_workspace

from surd.build.verdicts import funnel
from surd.errors import WorkspaceError
from surd.pages.templates import as_json
from surd.report.dataset.axes import axis_end, axis_range
from surd.report.dataset.composition import OTHERS, Composition, Words, _count, section
from surd.report.dataset.rows import groups_there, read
from surd.report.dataset.samples import BUDGET_BYTES
from surd.report.dataset.sections import sections
from surd.report.page import render
from surd.report.write import report
from surd.store.workspace import Workspace

LATER = ("images", "prompts", "captions", "clip", "duplicates")


def ids(folder: Path) -> list[str]:
    return [section.id for section in sections(Workspace(folder))[0]]


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        (0, ["funnel", "sources", "triples", "composition"]),
        (1, ["funnel", "sources", "triples", "composition", "failures"]),
        (3, ["funnel", "sources", "triples", "composition", "failures"]),
        (4, ["funnel", "sources", "scores", "triples", "composition", "failures"]),
        (5, ["funnel", "sources", "scores", "triples", "duplicates", "composition", "failures"]),
    ],
)
def test_every_stage_of_a_build_has_its_report_and_no_empty_sections(
    tmp_path: Path, there: int, expected: list[str]
) -> None:
    shown_workspace(tmp_path / "w", 20, without=LATER[there:])
    found, data = sections(Workspace(tmp_path / "w"))
    assert [section.id for section in found] == expected
    assert "<html" in render("t", found, data=data)


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, Any, dict[str, Any]]:
    """A workspace with verdicts, its sections and data."""
    workspace = judged_workspace(tmp_path_factory.mktemp("judged") / "w", 60)
    return workspace, *sections(workspace)


def test_the_funnel_counts_steps_and_reasons_and_shows_examples_of_each(judged: Any) -> None:
    workspace, found, data = judged
    told = funnel([workspace.read("verdicts", part) for part in (0, 1)])
    body = " ".join(found[0].body.striptags().split())
    assert "collected 60 100.0%" in body and "with an image 54 90.0%" in body
    assert f"kept by the filter {told.kept}" in body
    assert {one.reason for one in told.dropped} >= {"no_image", "clip_threshold", "duplicate"}
    for dropped in told.dropped:
        shown = [data["samples"][index] for index in data["examples"][dropped.reason]]
        assert len(shown) == min(12, dropped.samples)
        for entry in shown:
            assert not entry["keep"]
            assert dropped.reason in [reason[0] for reason in entry["reasons"]]
    assert all(data["samples"][index]["keep"] for index in data["examples"][""])


def test_clusters_show_the_kept_one_first(judged: Any) -> None:
    _, _, data = judged
    assert data["clusters"]
    for cluster in data["clusters"]:
        _, *others = (data["samples"][index] for index in cluster["samples"])
        assert cluster["size"] == 1 + len(others)
        assert not any(other["keep"] for other in others)
    shown = [[data["samples"][index] for index in one["samples"]] for one in data["clusters"]]
    assert any(first["keep"] and first.get("kind") == "exact" for first, *_ in shown), (
        "also where it is not the best by size"
    )


def test_the_same_workspace_gives_the_same_page_and_tells_nothing_of_this_machine(
    judged: Any,
) -> None:
    where = judged[0].location
    first = report(where)
    page = Path(first.location).read_bytes()
    assert report(where).bytes == first.bytes == len(page)
    assert Path(first.location).read_bytes() == page
    assert b"someone/secret" not in page and where.encode() not in page


def test_a_page_whose_budget_for_samples_is_spent_stays_below_10_mb(judged: Any) -> None:
    _, found, data = judged
    page = render("t", found, data=data)
    assert len(page) - len(as_json(data["samples"])) + BUDGET_BYTES < 10_000_000


def test_samples_that_came_after_a_stage_are_lacking_there_and_nothing_else(tmp_path: Path) -> None:
    made = rows(40)
    workspace = shown_workspace(tmp_path / "w", 40)
    write_group(workspace, "samples", 1, [*made[20:], *rows(45)[40:]])
    table = read(workspace, 1, groups_there(workspace))
    assert table.num_rows == 25
    assert table["image_status"].to_pylist()[:20] == [row["status"] for row in made[20:]]
    assert table["image_status"].to_pylist()[20:] == [None] * 5
    assert "funnel" in ids(tmp_path / "w")


def test_before_there_are_cleaned_prompts_and_captions_those_of_the_source_are_shown(
    tmp_path: Path,
) -> None:
    workspace = shown_workspace(tmp_path / "w", 10, without=LATER)
    table = read(workspace, 0, groups_there(workspace))
    assert table["complex_prompt"].to_pylist() == [row.get("prompt") for row in rows(10)[:5]]
    assert table["simple_prompt"].to_pylist() == [row["simple_prompt"] for row in rows(10)[:5]]
    workspace = shown_workspace(tmp_path / "v", 10, without=("clip", "duplicates"))
    table = read(workspace, 0, groups_there(workspace))
    assert table["simple_prompt"].to_pylist() == [f"a red cup {n}" for n in range(5)]


def test_only_links_to_the_web_are_links(judged: Any) -> None:
    _, _, data = judged
    links = {entry["link"] for entry in data["samples"] if "link" in entry}
    assert links and all(link.startswith("https://") for link in links)


def test_words_are_counted_without_case_and_signs_and_rare_ones_are_forgotten_in_time() -> None:
    words = Words(Counter(), np.zeros(101, np.int64))
    words.add(pa.chunked_array([["A Red cup, (red:1.2) - naïve", None, "", "Cup 猫"]]))
    assert words.counts == {"a": 1, "red": 2, "cup": 2, "1": 1, "2": 1, "naïve": 1, "猫": 1}
    assert words.most_common()[:2] == [("cup", 2), ("red", 2)]
    assert {length: int(n) for length, n in enumerate(words.lengths) if n} == {0: 1, 2: 1, 7: 1}


@pytest.mark.parametrize(
    ("counts", "end"),
    [
        ([0, 5, 30, 10, 0, 0, 0, 0, 0, 1], 4),  # one of 46, far off
        ([0, 5, 30, 10, 0, 0, 0, 0, 0, 2], 10),  # two of 47 are more than a hundredth
        ([0, 0, 500, 0, 0, 0, 0, 2, 1, 2], 3),
        ([0, 9, 30, 10, 9, 9, 1], 7),  # an axis that would hardly be shorter
        ([0, 5, 0, 0, 0, 0, 1], 7),  # one of six is no outlier
        ([0, 0, 0, 0, 40], 5),
        ([0, 0, 0], 1),
    ],
)
def test_an_axis_ends_before_a_tail_that_holds_hardly_anything(counts: list[int], end: int) -> None:
    assert axis_end(np.array(counts)) == end


def test_an_axis_of_scores_leaves_out_both_tails() -> None:
    counts = np.array([1] + [0] * 9 + [40, 60, 30] + [0] * 20 + [1])
    assert axis_range(counts) == (10, 13)
    assert axis_range(counts[::-1]) == (21, 24)
    assert axis_range(np.array([0, 3, 9, 1, 0])) == (1, 4)


def test_samples_beyond_an_axis_are_counted() -> None:
    found = Composition()
    found.sides[[8, 9]] = 30
    found.sides[[63, 64]] = [0, 1]
    words = found.words["complex_prompt"]
    words.lengths[[4, 90, 100]] = [400, 2, 1]
    shown = section(found)
    assert shown is not None
    told = {chart.id: chart.label for chart in shown.charts}
    assert told["sides"].endswith("; 1 from 640 px up is beyond the axis")
    assert told["lengths"].endswith("; 3 of 5 words or more are beyond the axis")
    words.lengths[100] = 100
    assert "100 stands for all longer prompts" in section(found).charts[2].label


def test_names_that_strangers_make_up_do_not_fill_the_memory() -> None:
    counter = Composition().categories["source"]
    for number in range(5_000):
        _count(counter, f"s{number}", 1)
    assert len(counter) == 2_001 and counter[OTHERS] == 3_000


def test_a_workspace_without_samples_has_an_empty_funnel(tmp_path: Path) -> None:
    make_workspace(tmp_path / "w", [], recipe=RECIPE)
    found, data = sections(Workspace(tmp_path / "w"))
    assert [section.id for section in found] == ["funnel"] and data["samples"] == []
    assert "collected 0 –" in " ".join(found[0].body.striptags().split())


def test_parts_that_a_stage_has_not_come_to_are_lacking_there(tmp_path: Path) -> None:
    shown_workspace(tmp_path / "w", 20)
    for group in ("images", "clip"):
        (tmp_path / "w" / group / "part-00001.parquet").unlink()
    found, data = sections(Workspace(tmp_path / "w"))
    body = " ".join(found[0].body.striptags().split())
    assert "collected 20" in body and "with an image 9 45.0%" in body
    assert {s["name"]: s["scored"] for s in data["scores"]}["cos_simple"] == 9


def test_a_damaged_part_is_named(tmp_path: Path) -> None:
    shown_workspace(tmp_path / "w", 20)
    path = tmp_path / "w" / "clip" / "part-00001.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(WorkspaceError, match=r"clip/part-00001\.parquet: damaged"):
        sections(Workspace(tmp_path / "w"))


def test_settings_of_the_filter_are_known_where_it_dropped_nothing(surd, tmp_path: Path) -> None:
    shown_workspace(tmp_path / "w", 20)
    surd("filter", tmp_path / "w", "-q", "--clip-threshold", "-1")
    _, data = sections(Workspace(tmp_path / "w"))
    assert {s["name"]: s["threshold"] for s in data["scores"]}["cos_simple"] == -1
