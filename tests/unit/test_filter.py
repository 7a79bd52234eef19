"""Verdicts: every filter by itself, all reasons told, quantiles and caps over all parts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from surd.build.verdicts import Dropped, changes, funnel
from surd.stages.base import WholeTable, settings_fingerprint
from surd.stages.filter.params import FilterParams, WithRequired
from surd.stages.filter.rules import LABELS, REASONS
from surd.stages.filter.stage import STAGE, judge

OFF = FilterParams(
    clip_threshold=None,
    complex_threshold=None,
    max_nsfw=None,
    max_nsfw_level=None,
    nsfw_words=False,
    min_side=None,
    max_aspect=None,
    duplicates=(),
    min_words=None,
    watermark_words=False,
)
GOOD: dict[str, Any] = {
    "nsfw_level": "none",
    "author": "ada",
    "status": "ok",
    "width": 512,
    "height": 768,
    "prompts.status": "ok",
    "complex_prompt": "masterpiece, two red cups",
    "language": "en",
    "simple_prompt": "two red cups on a table",
    "cos_simple": 0.3,
    "cos_complex": 0.25,
    "itm": 0.9,
    "aesthetic": 6.0,
    "nsfw": 0.1,
    "kind": None,
    "similarity": None,
    "cluster": None,
    "manual": None,
    "gone": False,
}
TYPES = {
    "gone": pa.bool_(),
    **dict.fromkeys(("width", "height"), pa.int32()),
    **dict.fromkeys(
        ("cos_simple", "cos_complex", "itm", "aesthetic", "nsfw", "similarity"), pa.float32()
    ),
}


def id_of(number: int) -> str:
    return f"{number:032x}"


def like(number: int, kind: str = "clip", similarity: float = 0.97, **more: Any) -> dict[str, Any]:
    """A row that dedup found to show what row `number`, the best of its cluster, shows."""
    return {"kind": kind, "similarity": similarity, "cluster": id_of(number), **more}


def only(**switches: Any) -> FilterParams:
    return FilterParams(**{**OFF.model_dump(), **switches})


def table(*rows: dict[str, Any], first: int = 0) -> pa.Table:
    filled = [{"id": id_of(first + i), **GOOD, **row} for i, row in enumerate(rows)]
    for row in filled:
        row["cluster"] = row["cluster"] or row["id"]
    names = ["id", *GOOD]
    return pa.table(
        {n: pa.array([row[n] for row in filled], TYPES.get(n, pa.string())) for n in names}
    )


def whole(*tables: pa.Table) -> WholeTable:
    return lambda of_part: map(of_part, tables)


def verdicts(params: FilterParams, *tables: pa.Table) -> list[dict[str, Any]]:
    judged = list(judge(whole(*tables), params))
    assert [t.num_rows for t in judged] == [t.num_rows for t in tables]
    assert all(t.schema == STAGE.schema for t in judged)
    return [row for t in judged for row in t.to_pylist()]


def reasons(params: FilterParams, *tables: pa.Table) -> list[list[str]]:
    rows = verdicts(params, *tables)
    assert all(row["keep"] == (not row["reasons"]) for row in rows)
    return [[entry["reason"] for entry in row["reasons"]] for row in rows]


def test_a_good_sample_passes_every_filter():
    everything = FilterParams(
        complex_threshold=0.2,
        min_margin=0.0,
        min_itm=0.5,
        min_aesthetic=5,
        languages=("en",),
        max_per_prompt=1,
        max_per_author=1,
    )
    assert reasons(everything, table({})) == [[]]


def test_each_reason_has_a_label_of_its_own():
    assert list(LABELS) == list(REASONS)
    assert len(set(LABELS.values())) == len(LABELS)


@pytest.mark.parametrize(
    ("change", "switch", "value", "threshold"),
    [
        ({"cos_simple": 0.2}, {"clip_threshold": 0.28}, 0.2, 0.28),
        ({"cos_complex": 0.1}, {"complex_threshold": 0.2}, 0.1, 0.2),
        ({"cos_simple": 0.2}, {"min_margin": 0.0}, -0.05, 0.0),
        ({"itm": 0.2}, {"min_itm": 0.5}, 0.2, 0.5),
        ({"aesthetic": 4.0}, {"min_aesthetic": 5}, 4.0, 5.0),
        ({"nsfw": 0.9}, {"max_nsfw": 0.5}, 0.9, 0.5),
        ({"nsfw_level": "mature"}, {"max_nsfw_level": "soft"}, 2, 1),
        ({"complex_prompt": "Nude woman, 8k"}, {"nsfw_words": True}, None, None),
        ({"width": 100}, {"min_side": 256}, 100, 256),
        ({"width": 4096}, {"max_aspect": 3.0}, 4096 / 768, 3.0),
        ({"language": "de"}, {"languages": ("en", "fr")}, None, None),
        ({"complex_prompt": "red, cup"}, {"min_words": 3}, 2, 3),
        ({"simple_prompt": "a cup with a watermark"}, {"watermark_words": True}, None, None),
    ],
)
def test_each_filter_drops_what_it_should_and_says_by_which_number(
    change, switch, value, threshold
):
    params = only(**switch)
    kept, dropped = verdicts(params, table({}, change))
    assert kept["reasons"] == []
    (entry,) = dropped["reasons"]
    assert entry["reason"] == next(iter(switch)) and entry["reason"] in REASONS
    assert entry["value"] == (None if value is None else pytest.approx(value, abs=1e-6))
    assert entry["threshold"] == threshold
    assert reasons(OFF, table({}, change)) == [[], []]


def test_what_is_missing_has_its_own_reason():
    rows = table(
        {"status": "http_error", "width": None, "height": None, "cos_simple": None},
        {"status": "opt_out"},
        {"prompts.status": "empty", "complex_prompt": None},
        {"simple_prompt": None, "cos_simple": None},
    )
    assert reasons(FilterParams(), rows) == [
        ["no_image"],
        ["opt_out"],
        ["no_prompt"],
        ["no_caption"],
    ]
    assert verdicts(FilterParams(), rows)[0]["reasons"][0]["detail"] == "http_error"


def test_unknown_numbers_are_not_judged():
    unknown = dict.fromkeys(("itm", "aesthetic", "nsfw", "nsfw_level", "language"))
    params = FilterParams(min_itm=0.5, min_aesthetic=5, languages=("en",))
    assert reasons(params, table(unknown)) == [[]]


def test_every_reason_is_told():
    params = FilterParams(clip_threshold=0.28, min_side=256)
    assert reasons(params, table({"cos_simple": 0.1, "width": 9, "height": 9, "nsfw": 1.0})) == [
        ["clip_threshold", "max_nsfw", "min_side"]
    ]


def test_duplicates_of_the_asked_kinds_are_dropped_and_name_the_one_that_is_kept():
    rows = table({}, like(0), like(0, "exact", 1.0))
    assert reasons(FilterParams(duplicates=("exact",)), rows) == [[], [], ["duplicate"]]
    (entry,) = verdicts(FilterParams(), rows)[1]["reasons"]
    assert entry["detail"] == f"clip of {id_of(0)}" and entry["value"] == pytest.approx(0.97)


LARGE, SMALL = {"width": 1024, "height": 1024}, {"width": 300, "height": 300}


def test_the_best_of_those_that_pass_the_other_filters_stands_for_a_cluster():
    rows = table(
        {**LARGE, "prompts.status": "missing", "complex_prompt": None, "cos_complex": None},
        like(0, **SMALL),
        like(0),
        like(0, **SMALL, nsfw_level="x"),
    )
    assert reasons(FilterParams(), rows) == [
        ["no_prompt"],
        ["duplicate"],
        [],
        ["max_nsfw_level", "duplicate"],
    ], "and what is better than that, but for its own fault, is no duplicate"


def test_of_a_cluster_that_nothing_can_stand_for_no_sample_is_a_duplicate():
    rows = table({**LARGE, "nsfw_level": "x"}, like(0, nsfw=0.9))
    assert reasons(FilterParams(), rows) == [["max_nsfw_level"], ["max_nsfw"]]


def test_a_larger_repost_with_a_wrong_prompt_does_not_win():
    rows = table({**LARGE, "cos_complex": 0.12}, like(0, cos_complex=0.28))
    assert reasons(FilterParams(), rows) == [["duplicate"], []]
    found = reasons(FilterParams(complex_threshold=0.2), rows)
    assert found == [["complex_threshold", "duplicate"], []]
    alike = table({**LARGE, "cos_complex": 0.25}, like(0, cos_complex=0.28))
    assert reasons(FilterParams(), alike) == [[], ["duplicate"]], "a little is the prompt's wording"


def test_the_order_within_a_cluster_is_that_of_dedup():
    same = like(0, cos_complex=0.26)
    head = {"nsfw_level": "x", "cos_complex": 0.27}
    rows = table(head, like(0, cos_complex=0.25), same, same, like(0, **SMALL))
    assert reasons(FilterParams(), rows) == [
        ["max_nsfw_level"],
        ["duplicate"],
        [],
        ["duplicate"],
        ["duplicate"],
    ], "pixels, then the cosine with the complex prompt, then the id"


@pytest.mark.parametrize(
    ("one", "kept", "detail", "value"),
    [
        ({}, like(0, "phash", 0.94), "phash of {kept}", 0.94),
        (like(0, "exact", 1.0), like(0, "phash", 0.94), "phash of {kept}", 0.94),
        (like(0, "clip", 0.97), like(0, "exact", 1.0), "clip of {kept}", 0.97),
        (like(0, "exact", 1.0), like(0, "exact", 1.0), "exact of {kept}", 1.0),
        (like(0, "clip", 0.97), like(0, "phash", 0.94), "clip of {head}; kept: {kept}", 0.97),
    ],
)
def test_a_duplicate_is_told_by_what_was_compared(one, kept, detail, value):
    wrong = {"cos_complex": 0.1}
    rows = table({**wrong, **one} if not one else wrong, {**one, **wrong}, kept)
    (entry,) = verdicts(FilterParams(), rows)[1 if one else 0]["reasons"]
    assert entry["detail"] == detail.format(head=id_of(0), kept=id_of(2))
    assert entry["value"] == pytest.approx(value)


def test_decisions_by_hand_choose_who_stands_for_a_cluster():
    best_dropped = table({"manual": "drop"}, like(0))
    assert [row["keep"] for row in verdicts(FilterParams(), best_dropped)] == [False, True]
    other_kept = table({}, like(0, **SMALL, manual="keep"), like(0))
    found = verdicts(FilterParams(), other_kept)
    assert [row["keep"] for row in found] == [False, True, False]
    assert found[0]["reasons"][0]["detail"] == f"clip of {id_of(1)}"
    both_kept = table({"manual": "keep"}, like(0, manual="keep"), like(0))
    assert [row["keep"] for row in verdicts(FilterParams(), both_kept)] == [True, True, False]
    faulty_kept = table({}, like(0, nsfw=0.9, manual="keep"))
    assert [row["keep"] for row in verdicts(FilterParams(), faulty_kept)] == [False, True]


def test_caps_count_one_sample_of_each_picture():
    rows = table(
        {"cos_simple": 0.9}, like(0, cos_simple=0.8), {"cos_simple": 0.3}, {"cos_simple": 0.4}
    )
    assert reasons(only(max_per_author=2, duplicates=("clip",)), rows) == [
        [],
        ["duplicate"],
        ["max_per_author"],
        [],
    ]


def test_where_a_cap_drops_the_best_of_a_cluster_the_next_that_has_room_takes_its_place():
    rows = table(
        {"cos_simple": 0.9},
        {**LARGE, "cos_simple": 0.3},
        like(1, cos_simple=0.3),
        like(1, **SMALL, author="bob"),
        like(1, width=299, author="eve"),
    )
    params = only(max_per_author=1, duplicates=("clip",))
    assert reasons(params, rows) == [
        [],
        ["max_per_author"],
        ["max_per_author"],
        ["duplicate"],
        [],
    ]
    everybody = [row | {"author": "ada"} for row in rows.to_pylist()]
    assert reasons(params, table(*everybody)) == [[], *[["max_per_author"]] * 4]


@pytest.mark.parametrize("seed", range(30))
def test_every_cluster_keeps_one_of_those_that_pass_as_far_as_a_cap_has_room(seed):
    rng = np.random.default_rng(seed)
    heads = rng.integers(0, 60, 60)
    given = [
        {
            "width": int(rng.integers(300, 500)),
            "author": f"author {rng.integers(4)}",
            "cos_simple": float(rng.random()),
            "cos_complex": float(rng.random()),
            "nsfw_level": str(rng.choice(["none", "x"])),
            "manual": rng.choice([None, "drop"], p=[0.9, 0.1]),
            **(like(head) if heads[head] == head and n != head else {}),
        }
        for n, head in enumerate(heads.tolist())
    ]
    switches = {"max_nsfw_level": "soft", "duplicates": ("clip",)}
    for limit in (None, 3):
        found = verdicts(only(**switches, max_per_author=limit), table(*given))
        kept = [row["keep"] for row in found]
        per_author: dict[str, int] = {}
        clusters: dict[str, list[int]] = {}
        for n, row in enumerate(given):
            per_author[row["author"]] = per_author.get(row["author"], 0) + kept[n]
            clusters.setdefault(row.get("cluster", id_of(n)), []).append(n)
        assert limit is None or max(per_author.values()) <= limit
        for members in clusters.values():
            passing = [
                n for n in members if given[n]["nsfw_level"] == "none" and not given[n]["manual"]
            ]
            assert sum(kept[n] for n in members) <= 1
            if not any(kept[n] for n in members):
                assert all(per_author[given[n]["author"]] == limit for n in passing)
            for n in members:
                for entry in found[n]["reasons"]:
                    if entry["reason"] == "duplicate":
                        assert kept[int(entry["detail"][-32:], 16)], "what it names is kept"


def test_a_quantile_is_taken_over_all_parts_and_the_number_recorded():
    low = table(*({"cos_simple": 0.1 * i} for i in range(5)))
    high = table(*({"cos_simple": 0.1 * i} for i in range(5, 10)), first=5)
    rows = verdicts(only(clip_threshold="p50"), low, high)
    assert [row["keep"] for row in rows] == [False] * 5 + [True] * 5
    assert rows[0]["reasons"][0]["threshold"] == pytest.approx(0.45)


def test_auto_tells_in_verdicts_and_funnel_how_it_came_to_its_number():
    rows = table(*({"cos_complex": 0.1 + 0.001 * i + 0.2 * (i >= 20)} for i in range(120)))
    judged = list(judge(whole(rows), only(complex_threshold="auto")))
    (dropped,) = funnel(judged).dropped
    assert (dropped.reason, dropped.samples) == ("complex_threshold", 20)
    assert 0.119 < dropped.threshold < 0.32
    assert dropped.why == "auto: between two clear peaks of the scores"
    assert judged[0].to_pylist()[0]["reasons"][0]["detail"] == dropped.why


def test_caps_keep_the_best_by_clip_of_those_that_nothing_else_drops():
    scores = [0.30, 0.40, 0.90, 0.35, 0.40]
    rows = table(*({"cos_simple": s} for s in scores), {"author": "bob"}, {"author": None})
    rows = rows.set_column(
        rows.column_names.index("width"), "width", pa.array([512, 512, 9, 512, 512, 512, 512])
    )
    params = only(max_per_author=2, min_side=256)
    found = reasons(params, rows)
    assert found == [["max_per_author"], [], ["min_side"], ["max_per_author"], [], [], []]


def test_the_cap_on_prompts_looks_at_words_not_at_case():
    rows = table({}, {"complex_prompt": "MASTERPIECE, two red cups", "cos_simple": 0.2}, first=3)
    params = only(max_per_prompt=1)
    assert reasons(params, rows) == [[], ["max_per_prompt"]]


def test_what_is_kept_by_hand_stays_and_still_tells_what_the_filters_said():
    bad = {"cos_simple": 0.1, "manual": "keep"}
    good, overruled = verdicts(only(clip_threshold=0.28), table({"manual": "keep"}, bad))
    assert good["keep"] and overruled["keep"]
    assert [entry["reason"] for entry in overruled["reasons"]] == ["clip_threshold", "manual"]
    assert good["reasons"] == [
        {"reason": "manual", "value": None, "threshold": None, "detail": "keep"}
    ]


def test_what_is_gone_from_its_source_is_dropped_unless_it_is_kept_by_hand():
    rows = verdicts(OFF, table({"gone": True}, {"gone": True, "manual": "keep"}))
    assert [row["keep"] for row in rows] == [False, True]
    assert [entry["reason"] for entry in rows[1]["reasons"]] == ["gone", "manual"]
    assert reasons(FilterParams(), table({"gone": True}, like(0))) == [["gone"], []]


def test_what_is_dropped_by_hand_goes_for_that_reason():
    (row,) = verdicts(OFF, table({"manual": "drop"}))
    assert not row["keep"]
    assert [(entry["reason"], entry["detail"]) for entry in row["reasons"]] == [("manual", "drop")]


@pytest.mark.parametrize(
    "missing",
    [
        {"status": "opt_out"},
        {"status": "truncated"},
        {"prompts.status": "empty"},
        {"simple_prompt": None},
    ],
)
def test_no_hand_keeps_what_has_nothing_to_publish(missing):
    (row,) = verdicts(FilterParams(), table({**missing, "manual": "keep"}))
    assert not row["keep"] and row["reasons"][-1]["reason"] == "manual"


def test_within_a_cap_what_is_kept_by_hand_comes_first_and_what_is_dropped_leaves_its_place():
    rows = table(
        {"cos_simple": 0.9},
        {"cos_simple": 0.1, "manual": "keep"},
        {"cos_simple": 0.8, "author": "bob", "manual": "drop"},
        {"cos_simple": 0.2, "author": "bob"},
    )
    found = verdicts(only(max_per_author=1), rows)
    assert [row["keep"] for row in found] == [False, True, False, True]
    assert found[0]["reasons"][0]["reason"] == "max_per_author"


def test_the_funnel_tells_what_was_kept_by_hand_in_spite_of_a_filter():
    bad = {"cos_simple": 0.1, "manual": "keep"}
    rows = table({}, bad, {"manual": "keep"}, {"manual": "drop"})
    found = funnel(judge(whole(rows), only(clip_threshold=0.28)))
    assert (found.samples, found.kept, found.kept_by_hand) == (4, 3, 1)
    assert found.dropped == [Dropped("manual", 1, 1, None)]


def test_no_rows_and_empty_parts_are_fine():
    assert verdicts(FilterParams(), table()) == []
    assert reasons(OFF, table(), table({}), table()) == [[]]


def test_the_funnel_counts_samples_and_reasons_across_parts():
    params = only(clip_threshold=0.28, min_side=256)
    bad = {"cos_simple": 0.1}
    tables = [table({}, bad), table({**bad, "width": 9}, first=2), table(first=3)]
    found = funnel(judge(whole(*tables), params))
    assert (found.samples, found.kept) == (3, 1)
    assert found.dropped == [
        Dropped("clip_threshold", 2, 1, 0.28),
        Dropped("min_side", 1, 0, 256.0),
    ]


def test_changes_count_both_ways():
    before = {0: np.array([True, False, True]), 1: np.array([True])}
    after = {0: np.array([True, True, False]), 2: np.array([True])}
    assert changes(before, after) == (1, 1)


def test_without_a_complex_prompt_captions_are_judged_like_others_when_that_is_asked():
    none = {"prompts.status": "missing", "complex_prompt": None, "cos_complex": None}
    none |= {"language": None}
    pairs = WithRequired(
        **only(min_words=3, nsfw_words=True, complex_threshold=0.2, duplicates=("clip",),
               max_per_prompt=1).model_dump(),
        require=("image", "simple_prompt"),
    )  # fmt: skip
    rows = table(
        none,
        none | {"simple_prompt": "a nude"},
        none | {"simple_prompt": None},
        like(0, width=100) | none,
        none,
    )
    assert reasons(pairs, rows) == [[], ["nsfw_words"], ["no_caption"], ["duplicate"], []]
    assert reasons(only(), table(none)) == [["no_prompt"]]


def test_what_all_samples_need_leaves_verdicts_of_earlier_versions_fresh():
    assert settings_fingerprint(STAGE, WithRequired()) == settings_fingerprint(
        STAGE, FilterParams()
    )
    pairs = WithRequired(require=("image", "simple_prompt"))
    assert settings_fingerprint(STAGE, pairs) != settings_fingerprint(STAGE, FilterParams())
