"""The report of a training run, as a reader uses it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support_browser import patient
from support_runs import judge, make_run

from surd.report.write import report

pytestmark = pytest.mark.timeout(900)
LINES = [{"step": n, "loss": 1 / n, "llm": 2.0, "learning_rate": 1e-3} for n in range(1, 300)]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    run = make_run(tmp_path / "run", LINES)
    judge(run, [(True, True)] * 30 + [(False, True)] * 3 + [(True, False)])
    return Path(report(str(run)).location)


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    opened = patient(browser.new_page(viewport={"width": 390, "height": 844}))
    problems: list[str] = []
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on("console", lambda message: problems.append(message.text))
    yield opened
    opened.close()
    assert not problems


def test_the_pairs_on_show_are_chosen_by_keyboard(page: Any, run: Path) -> None:
    page.goto(run.as_uri())
    status = page.get_by_role("status")
    assert status.inner_text() == "18 of 34 shown"
    page.get_by_role("button", name="Random sample").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.locator('.pairs [aria-pressed="true"]').inner_text() == "Fixed by the adapter"
    assert status.inner_text() == "3 of 3 shown"
    assert page.locator(".pairs .sample:visible").count() == 3
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    assert status.inner_text() == "1 of 1 shown"
    assert page.locator(".pairs .sample:visible").inner_text().count("✗ wrong") == 1


def test_every_plot_is_drawn_and_nothing_is_wider_than_a_telephone(page: Any, run: Path) -> None:
    page.goto(run.as_uri())
    plots = page.locator("[data-chart]")
    for number in range(plots.count()):
        plots.nth(number).scroll_into_view_if_needed()
        plots.nth(number).locator("svg").wait_for()
    assert plots.count() == 4  # an evaluation, two losses, the learning rate
    assert page.evaluate("document.documentElement.scrollWidth") == 390
