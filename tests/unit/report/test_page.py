"""The page: self-contained, escaped, and forbidden to fetch or to run anything of others."""

from __future__ import annotations

import base64
import hashlib
import json
import re

import altair as alt
import pytest
from markupsafe import Markup

from surd.pages.templates import as_json
from surd.report.page import Chart, Section, environment, place, render

HOSTILE = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</script>", "<!--"]


def chart(id_: str) -> Chart:
    data = alt.Data(values=[{"x": 1, "y": 2}])
    plot = alt.Chart(data).mark_bar().encode(x="x:Q", y="y:Q")
    return Chart(id_, plot.to_dict(), "A bar")


@pytest.mark.parametrize("text", HOSTILE)
def test_text_of_strangers_stays_text_wherever_it_stands(text: str) -> None:
    section = Section("a", text, Markup("<p>{}</p>").format(text), (Chart("c", {"t": text}, text),))
    page = render(text, [section], subtitle=text, data={"samples": [text]})
    plain = render("title", [Section("a", "b", Markup("<p></p>"), (Chart("c", {}, "l"),))])
    for tag in ("<script", "</script", "<img", "<!--"):
        expected = plain.count(tag) + (tag == "<script") + (tag == "</script")  # the data itself
        assert page.count(tag) == expected


def test_data_is_read_back_as_it_was_given() -> None:
    value = {"prompt": [*HOSTILE, "a & b \u2028 \u2029 ü 猫"], "n": 1.5, "none": None}
    written = as_json(value)
    assert json.loads(written) == value
    assert not set(written) & set("<>&\u2028\u2029")


def test_every_script_that_runs_is_named_in_the_policy_and_nothing_may_be_fetched() -> None:
    page = render("t", [Section("a", "A", Markup(""), (chart("c"),))])
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1].replace("&#39;", "'")
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts]
    assert scripts and all(f"'sha256-{digest}'" in policy for digest in hashes)
    assert "default-src 'none'" in policy and "unsafe-eval" not in policy
    assert not re.search(
        r"<(link|img|iframe|script)[^>]*(src|href)=\"(?!data:)", _without(scripts, page)
    )


def _without(scripts: list[str], page: str) -> str:
    for script in scripts:
        page = page.replace(script, "")
    return page


def test_a_chart_appears_once_whether_its_section_places_it_or_not() -> None:
    placed, loose = chart("placed"), chart("loose")
    page = render("t", [Section("a", "A", place(placed), (placed, loose))])
    assert page.count('data-chart="placed"') == page.count('data-chart="loose"') == 1
    assert page.count('id="spec-placed"') == page.count('id="spec-loose"') == 1


def test_numbers_are_written_for_people() -> None:
    filters = environment().filters
    assert [filters["number"](n) for n in (1234567, 0.87123456, 1234.56, None)] == [
        "1,234,567", "0.8712", "1,235", "–",
    ]  # fmt: skip
    assert filters["share"](1, 8) == "12.5%" and filters["share"](0, 0) == "–"
    assert filters["bytes"](9_876_543) == "9.9 MB"
    assert [filters["duration"](s) for s in (0.44, 125, 11_100)] == [
        "0.4 s",
        "2 min 5 s",
        "3 h 5 min",
    ]
