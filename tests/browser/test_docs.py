"""The built pages, opened from the disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support_browser import patient
from support_docs import built

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("docs") / "site")


@pytest.mark.parametrize("name", ["index.html", "tutorials/own_folder.html"])
def test_search_finds_pages_and_asks_nothing_of_other_sites(
    browser: Any, site: Path, name: str
) -> None:
    page = patient(browser.new_page())
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((site / name).as_uri())
    page.locator("[data-md-component=search-query]").click()
    page.keyboard.type("near-duplicates")
    first = page.locator(".md-search-result__link").first
    first.wait_for()
    target = first.get_attribute("href").partition("?")[0].partition("#")[0]
    assert Path(target.removeprefix("file://")).is_relative_to(site)
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    page.close()


@pytest.mark.parametrize("name", ["cli.html", "recipes.html"])
def test_descriptions_of_options_and_keys_are_on_a_phones_screen(
    browser: Any, site: Path, name: str
) -> None:
    page = patient(browser.new_page(viewport={"width": 390, "height": 844}))
    page.goto((site / name).as_uri())
    cells = page.locator("td:last-child")
    ends = cells.evaluate_all("cells => cells.map(cell => cell.getBoundingClientRect().right)")
    assert len(ends) > 100
    assert max(ends) <= 390
    page.close()
