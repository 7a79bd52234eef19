"""The report in a real browser: it works by mouse and keyboard, fetches nothing, runs nothing of
others, and fits a phone."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support_browser import next_frame, patient, until
from support_report import HOSTILE, RECIPE, judged_workspace

from surd.build.verdicts import compute, funnel
from surd.pages.plot import HEIGHT_PX
from surd.report.write import report
from surd.stages.filter.params import FilterParams
from surd.store.workspace import Workspace

pytestmark = pytest.mark.timeout(900)
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Duplicates are allowed: among them, one that goes makes room for another."""
    folder = tmp_path_factory.mktemp("browser") / "w"
    made = judged_workspace(folder, 90, "filter.duplicates=[]")
    report(made.location)
    return made


@pytest.fixture
def page(browser: Any, workspace: Workspace) -> Iterator[Open]:
    """Opens the report; in the end, nothing may have been fetched and nothing complained of."""
    told: list[str] = []
    pages = []

    def opened(**context: Any) -> Any:
        found = patient(browser.new_page(**context))
        found.on("console", lambda message: told.append(f"console: {message.text}"))
        found.on("pageerror", lambda error: told.append(f"error: {error}"))
        found.on("request", lambda request: told.append(f"request: {request.url[:100]}"))
        found.goto(Path(workspace.location, "report", "index.html").as_uri())
        pages.append(found)
        return found

    yield opened
    for one in pages:
        one.close()
    strange = [
        line for line in told if not re.match(r"request: (data:|file:///.*index\.html)", line)
    ]
    assert strange == []


def drawn(page: Any, section: str) -> None:
    page.locator(f"#{section} [data-chart]").first.scroll_into_view_if_needed()
    page.locator(f"#{section} svg").first.wait_for()


def test_every_plot_is_drawn_without_a_request_or_a_complaint(page: Open) -> None:
    shown = page()
    for section in ("scores", "composition"):
        drawn(shown, section)
    for label, name in (("complex prompt", "cos_complex"), ("difference", "margin")):
        shown.get_by_role("button", name=label, exact=True).click()
        shown.locator(f"#panel-{name} svg").wait_for()


def test_plots_that_are_drawn_late_move_nothing_and_have_one_height(page: Open) -> None:
    shown = page()
    tops = "[...document.querySelectorAll('main > section')].map((one) => one.offsetTop)"
    before = shown.evaluate(tops)
    for section in ("scores", "composition"):
        drawn(shown, section)
    until(shown, "document.querySelectorAll('#composition svg').length === 3")
    assert shown.evaluate(tops) == before
    heights = "[...document.querySelectorAll('.plot svg')].map((one) => one.clientHeight)"
    assert set(shown.evaluate(heights)) == {HEIGHT_PX}


def test_a_reason_shows_examples_with_their_numbers_and_hides_them_again(page: Open) -> None:
    shown = page()
    button = shown.get_by_role("button", name="simple prompt does not fit")
    button.click()
    examples = shown.get_by_role("region", name="Examples")
    after = "(row) => row.nextElementSibling.contains(document.querySelector('[role=region]'))"
    assert shown.get_by_role("row").filter(has=button).evaluate(after)
    tags = examples.locator(".tag").all_inner_texts()
    assert tags and all(re.fullmatch(r"0\.\d+ < 0\.25", tag) for tag in tags)
    assert examples.locator("img").count() == len(tags)
    button.click()
    assert examples.is_hidden()


def test_the_slider_counts_what_the_filter_would_keep_and_marks_the_samples(
    page: Open, workspace: Workspace
) -> None:
    shown = page()
    drawn(shown, "scores")
    panel = shown.locator("#panel-cos_simple")
    slider = panel.get_by_label("minimum cos_simple")
    assert panel.locator("output").inner_text() == "0.2500"
    slider.press("ArrowRight")
    assert panel.locator("output").inner_text() == "0.2501"
    for at in (0.2501, 0.2811):
        slider.fill(str(int(slider.input_value()) + round((at - 0.2501) * 1e4)))
        assert panel.locator("output").inner_text() == f"{at:.4f}"
        params = FilterParams(**RECIPE["filter"] | {"clip_threshold": at, "duplicates": ()})
        kept = funnel(compute(workspace, params, {})).kept
        assert panel.locator(".stay").inner_text() == f"{kept:,}"
        next_frame(shown)  # the gallery follows with it
        for mark, right in (("keep", lambda v, at=at: v >= at), ("drop", lambda v, at=at: v < at)):
            values = panel.locator(f"li.{mark} .tag:first-child").all_inner_texts()
            assert values and all(right(float(value)) for value in values)
    assert f"filter.clip_threshold={at}" in panel.locator(".command").inner_text()
    line = panel.locator("svg .mark-rule.role-mark line").first
    before = line.get_attribute("transform")
    panel.get_by_role("button", name="reset").click()
    assert panel.locator("output").inner_text() == "0.2500"
    moved = "([line, was]) => line.getAttribute('transform') !== was"
    until(shown, moved, [line.element_handle(), before])


def test_the_gallery_can_show_the_lowest_and_the_highest(page: Open) -> None:
    panel = page().locator("#panel-cos_simple")
    found = {}
    for which in ("lowest", "highest"):
        panel.get_by_label("Samples", exact=True).select_option(label=which)
        next_frame(panel.page)
        values = [float(v) for v in panel.locator("li .tag:first-child").all_inner_texts()]
        assert values == sorted(values)
        found[which] = values
    assert max(found["lowest"]) < max(found["highest"]) and min(found["lowest"]) < min(
        found["highest"]
    )


def test_the_filter_leaves_the_triples_that_hold_every_word(page: Open) -> None:
    shown = page()
    rows = shown.locator("#triples-list > li:visible")
    before = rows.count()
    shown.get_by_label("Filter").fill("CUP red")
    texts = rows.all_inner_texts()
    assert 0 < len(texts) < before or before == 24
    assert all("red cup" in text for text in texts)
    shown.get_by_label("Filter").fill("no such words")
    assert rows.count() == 0 and shown.locator("#filter-count").inner_text().startswith("0 of ")


def test_hostile_text_stays_text_wherever_it_is_shown(page: Open) -> None:
    shown = page()
    for button in shown.locator("button.reason").all():
        button.click()
    while shown.locator("#triples-more").is_visible():
        shown.locator("#triples-more").click()
    text = shown.locator("#triples-list").inner_text()
    for hostile in HOSTILE:
        assert hostile.replace("\u202e", "\\u202e").replace("\u2066", "\\u2066") in text
    shown.get_by_label("Filter").fill("hacked")
    shown.locator("#triples-list button.open:visible").first.click()
    sheet = shown.get_by_role("dialog")
    assert "window.hacked" in sheet.inner_text()
    shown.keyboard.press("Escape")
    sheet.wait_for(state="detached")
    assert shown.evaluate("window.hacked") is None
    strange = "[...document.querySelectorAll('img, a')].map((e) => e.src ?? e.getAttribute('href'))"
    assert all(re.match(r"data:image/webp;base64,|#", link) for link in shown.evaluate(strange))
    assert (
        shown.evaluate(
            "document.querySelectorAll('script[src], link:not([rel=icon]), iframe').length"
        )
        == 0
    )


def test_a_phone_needs_no_sideways_scrolling_and_has_one_column(page: Open) -> None:
    shown = page(viewport={"width": 390, "height": 844}, has_touch=True)
    drawn(shown, "composition")
    assert shown.evaluate("document.documentElement.scrollWidth") <= 390
    main, contents = (shown.locator(s).bounding_box() for s in ("main", ".contents"))
    assert main["x"] == pytest.approx(16, abs=1) and contents["y"] == 0  # in sight, above


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground_in_light_and_dark(page: Open, scheme: str) -> None:
    shown = page(color_scheme=scheme)
    shown.get_by_role("button", name="simple prompt does not fit").click()
    for selector in ("body", ".muted", ".tag.drop", "a", "button.reason"):
        ratio = shown.locator(selector).first.evaluate(CONTRAST)
        assert ratio >= 4.5, selector  # WCAG 2.2, 1.4.3


CONTRAST = """(element) => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const luminance = (colour) => {
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b] = canvas.getImageData(0, 0, 1, 1).data;
    return 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
  };
  let ground = element;
  const clear = (e) => getComputedStyle(e).backgroundColor === "rgba(0, 0, 0, 0)";
  while (ground.parentElement && clear(ground)) ground = ground.parentElement;
  const two = [getComputedStyle(element).color, getComputedStyle(ground).backgroundColor];
  const [dark, light] = two.map(luminance).sort((a, b) => a - b);
  return (light + 0.05) / (dark + 0.05);
}"""
