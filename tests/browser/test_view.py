"""surd view in a real browser, offline: what people do, without an error or a request elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

import pytest
from support_browser import patient, until
from support_publish import make_workspace, samples
from support_view import BAD, FOREIGN, HOSTILE, SCENES, id_of, painted, viewing, workspace_with

from surd.demo.sentences import simple_sentence
from surd.store import edits, manual
from surd.store.workspace import Workspace

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture(scope="module")
def embeddings() -> list[list[float]]:
    """Of the pictures, by the demo's CLIP."""
    import io

    from PIL import Image

    from surd.models.clip import load_clip

    pictures = [
        Image.open(io.BytesIO(painted(number))).convert("RGB") for number in range(len(SCENES))
    ]
    found: list[list[float]] = load_clip("demo:clip").embed_images(pictures).tolist()
    return found


@pytest.fixture
def workspace(tmp_path: Path, embeddings: list[list[float]]) -> Workspace:
    return workspace_with(tmp_path / "w", embeddings)


@pytest.fixture
def site(workspace: Workspace) -> Iterator[str]:
    with viewing(workspace) as url:
        yield url


@pytest.fixture
def page(browser: Browser, site: str) -> Iterator[Page]:
    """A page that takes note of everything that goes wrong, and must not."""
    wrong: list[str] = []

    def asked(request: Any) -> None:
        parts = urlsplit(request.url)
        if f"{parts.scheme}://{parts.netloc}" != site:
            wrong.append(f"asked elsewhere: {request.url}")

    def told(message: Any) -> None:
        if message.type in ("error", "warning"):
            wrong.append(f"console: {message.text}")

    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = patient(context.new_page())
    page.on("request", asked)
    page.on("console", told)
    page.on("pageerror", lambda error: wrong.append(f"script: {error}"))
    page.goto(site)
    yield page
    context.close()
    assert wrong == []


def shown(page: Page) -> list[int]:
    cards = page.locator("[data-gallery] > .sample")
    return [int(id_, 16) for id_ in cards.evaluate_all("all => all.map(one => one.dataset.id)")]


def label(page: Page, number: int) -> str:
    return page.locator(f'.sample[data-id="{id_of(number)}"] [data-label]').inner_text()


def test_the_gallery_shows_every_sample_with_its_picture(page: Page) -> None:
    assert shown(page) == [0, 1, 2, 3, 4, 5]
    until(page, "[...document.images].every(one => one.complete)")
    sizes = page.evaluate("[...document.images].map(one => one.naturalWidth)")
    assert sizes == [128] * len(SCENES)


def test_a_search_by_text_finds_the_picture_it_describes(page: Page) -> None:
    page.keyboard.press("/")
    page.keyboard.type(simple_sentence(SCENES[2], seed=9, manner="plain"))
    page.keyboard.press("Enter")
    page.wait_for_url("**/?text=*")
    assert shown(page)[0] == 2 and FOREIGN not in shown(page)


def test_more_like_this_finds_the_same_scene_drawn_otherwise(page: Page) -> None:
    page.locator(".sample .picture").first.click()
    page.wait_for_selector("[data-like] .sample")
    assert shown(page)[0] == len(SCENES) - 1
    page.get_by_role("link", name="all", exact=True).click()
    page.wait_for_url("**/?like=*")
    assert shown(page)[0] == len(SCENES) - 1


def test_keys_move_drop_undo_and_keep(page: Page, workspace: Workspace) -> None:
    for key in ("j", "ArrowRight", "k"):
        page.keyboard.press(key)
    page.keyboard.press("d")
    page.wait_for_selector('.sample[data-hand="drop"]')
    assert label(page, 0) == "dropped by hand"
    assert page.get_by_role("link", name="By hand").inner_text().split() == ["By", "hand", "1"]
    assert manual.read(workspace) == {id_of(0): "drop"}
    page.keyboard.press("u")
    page.wait_for_selector(f'.sample[data-id="{id_of(0)}"][data-hand=""]')
    assert label(page, 0) == "kept" and manual.read(workspace) == {}
    for _ in range(BAD):
        page.keyboard.press("j")
    page.keyboard.press("s")
    page.wait_for_selector('.sample[data-hand="keep"]')
    assert label(page, BAD) == "kept by hand"
    assert manual.read(workspace) == {id_of(BAD): "keep"}


def test_decisions_are_applied_with_a_button(page: Page, workspace: Workspace) -> None:
    button = page.get_by_role("button", name="Apply")
    assert not button.is_visible()
    page.keyboard.press("j")
    page.keyboard.press("d")
    button.wait_for()
    with page.expect_navigation():
        button.click()
    assert not page.get_by_role("button", name="Apply").is_visible()
    assert not workspace.read("verdicts", 0, ["keep"])["keep"][0].as_py()
    page.get_by_role("link", name="Dropped").click()
    page.wait_for_url("**/?show=dropped")
    assert shown(page) == [0, BAD, FOREIGN]


def test_a_sample_is_decided_on_and_left_for_the_next_by_keys(
    page: Page, workspace: Workspace
) -> None:
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/sample/{id_of(0)}")
    page.keyboard.press("d")
    page.wait_for_selector('[data-sample][data-hand="drop"]')
    page.keyboard.press("j")
    page.wait_for_url(f"**/sample/{id_of(1)}")
    page.get_by_role("button", name="Drop", exact=True).first.click()
    page.wait_for_selector('[data-sample][data-hand="drop"]')
    page.keyboard.press("Escape")
    page.wait_for_selector("[data-gallery]")
    assert manual.read(workspace) == {id_of(0): "drop", id_of(1): "drop"}


def test_keys_lead_from_page_to_page(
    page: Page, site: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("surd.view.gallery.PAGE_ROWS", 2)
    page.goto(site)
    for _ in range(3):
        page.keyboard.press("j")
    page.wait_for_url("**/?page=2")
    assert shown(page) == [2, 3]
    page.keyboard.press("j")
    page.keyboard.press("k")
    page.wait_for_url(lambda url: not urlsplit(url).query)
    assert shown(page) == [0, 1]


def test_a_filter_takes_effect_when_it_is_chosen(page: Page) -> None:
    page.get_by_label("Reason").select_option("clip_threshold")
    page.wait_for_url("**/?reason=clip_threshold*")
    assert shown(page) == [BAD]


def test_hostile_prompts_stay_text(page: Page, site: str) -> None:
    card = page.locator(f'.sample[data-id="{id_of(FOREIGN)}"]')
    assert card.locator(".simple").inner_text() == HOSTILE
    card.locator(".picture").click()
    page.wait_for_url("**/sample/*")
    assert page.locator("h1").inner_text() == HOSTILE
    page.get_by_text("Everything the workspace knows").click()
    page.goto(f"{site}/?words=onerror")
    assert page.locator('input[name="words"]').input_value() == "onerror"
    page.locator('input[name="words"]').fill(HOSTILE)
    page.keyboard.press("Enter")
    page.wait_for_url("**/?words=*script*")
    assert page.locator('input[name="words"]').input_value() == HOSTILE
    assert page.locator("img[src=x], main script").count() == 0
    assert "owned" not in page.evaluate("document.title.split(' - ')[1]")


@pytest.fixture
def nine(browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Page]:
    """A page that has found three of nine samples, and is kept from searching on."""
    monkeypatch.setattr("surd.view.gallery.PATIENCE_S", 0.0)
    rows = samples(9, prompt=lambda n: f"red cup {n}")
    workspace = make_workspace(tmp_path / "nine", [rows[at : at + 3] for at in (0, 3, 6)])
    page = patient(browser.new_page())
    with viewing(workspace) as site:
        page.route("**/search?*", lambda route: route.fulfill(status=503))
        page.goto(f"{site}/?words=cup")
        page.get_by_text("The search has stopped.").wait_for()
        page.unroute("**/search?*")
        yield page
        page.close()


def search_on(page: Page) -> None:
    page.evaluate("() => void searchOn(document.querySelector('[data-searching]'))")


def test_a_search_that_takes_long_goes_on_by_itself(nine: Page) -> None:
    assert nine.locator("[data-gallery] > .sample").count() == 3
    search_on(nine)
    nine.get_by_text("9 samples.").wait_for()
    assert nine.locator("[data-gallery] > .sample").count() == 9
    assert nine.locator("[data-searching]").count() == 0


def test_a_search_takes_nothing_from_whoever_is_at_work(nine: Page) -> None:
    nine.locator("[data-pick]").first.check()
    assert nine.locator('[data-select="found"]').count() == 0  # not all are known yet
    search_on(nine)
    nine.get_by_text("9 found.").wait_for()
    assert nine.locator(":checked[data-pick]").count() == 1
    nine.get_by_role("link", name="Show them").click()
    nine.get_by_text("9 samples.").wait_for()


def test_a_search_does_not_take_away_what_an_edit_lets_one_undo(nine: Page) -> None:
    nine.route("**/search?*", lambda route: route.fulfill(status=503))
    nine.evaluate("tellLater('1 simple prompt edited.', 'its name')")
    nine.reload()
    nine.get_by_text("The search has stopped.").wait_for()
    nine.unroute("**/search?*")
    nine.evaluate("scrollTo(0, 0)")
    search_on(nine)
    nine.get_by_text("9 found.").wait_for()
    assert nine.locator("#said").inner_text() == "1 simple prompt edited. Undo"


def test_what_an_edit_did_is_told_in_sight_however_far_one_has_scrolled(page: Page) -> None:
    page.set_viewport_size({"width": 1280, "height": 400})
    for words in ("a cup", "a red cup"):
        page.evaluate("scrollTo(0, 300)")
        with page.expect_event("load"):
            page.evaluate(
                "words => void edited({ids: [samples()[0].dataset.id], action: 'simple', words})",
                [words],
            )
        told = page.get_by_text("1 simple prompt edited.")
        told.wait_for()
        assert page.evaluate("scrollY") > 200
        box = told.bounding_box()
        assert box is not None and 50 < box["y"] < 350


def test_a_search_leaves_a_page_alone_that_was_touched(nine: Page) -> None:
    nine.locator("header").click(position={"x": 2, "y": 2})
    search_on(nine)
    nine.get_by_text("9 found.").wait_for()
    assert nine.locator("[role=status]", has_text="9 found.").count() == 1
    assert nine.locator("[data-gallery] > .sample").count() == 3
    assert nine.locator(".states").inner_text().count("3+") == 2  # all, and kept


def test_what_the_map_selects_is_selected_once_all_is_searched(nine: Page) -> None:
    address = nine.url
    nine.goto("about:blank")
    nine.goto(f"{address}#selected")
    nine.get_by_text("9 samples.").wait_for()
    assert nine.locator("[data-picked]").inner_text() == "9"


def test_a_search_that_stops_says_why(nine: Page) -> None:
    why = {"problem": "w: clip/part-00001.parquet is damaged"}
    nine.route("**/search?*", lambda route: route.fulfill(status=409, json=why))
    search_on(nine)
    nine.get_by_role("alert").get_by_text(why["problem"]).wait_for()


def test_a_page_in_the_background_waits_with_its_search(nine: Page) -> None:
    hide = (
        "hidden => Object.defineProperty(document, 'hidden', {value: hidden, configurable: true})"
    )
    asked: list[str] = []
    nine.on("request", lambda request: asked.append(request.url))
    nine.evaluate(hide, True)
    search_on(nine)
    nine.evaluate("() => fetch('/tags').then(() => null)")
    assert [url.rsplit("/", 1)[1] for url in asked] == ["tags"]
    nine.evaluate(hide, False)
    nine.evaluate("() => void document.dispatchEvent(new Event('visibilitychange'))")
    nine.get_by_text("9 samples.").wait_for()


def test_a_phone_needs_no_scrolling_sideways(page: Page, site: str) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    for path in ("/", f"/sample/{id_of(0)}", f"/sample/{id_of(FOREIGN)}"):
        page.goto(site + path)
        page.wait_for_load_state("networkidle")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_server_that_is_gone_is_told_in_a_line(
    browser: Browser, workspace: Workspace, tmp_path: Path
) -> None:
    page = patient(browser.new_page())
    with viewing(workspace) as site:
        page.goto(site)
    page.keyboard.press("j")
    page.keyboard.press("d")
    problem = page.get_by_role("alert")
    problem.wait_for()
    assert "is it still running?" in problem.inner_text()
    page.close()


def test_a_prompt_is_written_a_candidate_chosen_and_both_undone(
    page: Page, site: str, workspace: Workspace
) -> None:
    page.goto(f"{site}/sample/{id_of(0)}")
    before = page.locator("h1").inner_text()
    page.keyboard.press("e")
    field = page.get_by_label("Simple prompt")
    field.fill("two boxes")
    with page.expect_navigation():
        page.keyboard.press("Control+Enter")
    assert page.locator("h1").inner_text() == "two boxes"
    assert edits.current(workspace) == {id_of(0): "two boxes"}
    with page.expect_navigation():
        page.get_by_role("button", name="Use").click()
    assert page.locator("h1").inner_text() == before
    page.get_by_text("Edits (2)").click()
    assert page.locator(".history li").all_inner_texts()[1].endswith("two boxes")
    with page.expect_navigation():
        page.get_by_role("button", name="Undo edit").click()
    assert page.locator("h1").inner_text() == "two boxes"
    with page.expect_navigation():
        page.locator("#undo-edit, [data-edit=undo]").last.click()
    assert page.locator("h1").inner_text() == before and edits.current(workspace) == {}


def test_a_selection_is_edited_undone_and_decided_on(page: Page, workspace: Workspace) -> None:
    pictures = page.locator(".sample .picture")
    pictures.nth(1).click(modifiers=["Shift"])
    pictures.nth(BAD).click(modifiers=["Shift"])
    bar = page.locator("#selection")
    assert bar.locator("[data-picked]").inner_text() == "3"
    bar.get_by_label("Text", exact=True).fill("sks")
    with page.expect_navigation():
        bar.get_by_role("button", name="Edit").click()
    assert "3 simple prompts edited" in page.get_by_role("status").last.inner_text()
    assert set(edits.current(workspace)) == {id_of(n) for n in (1, 2, BAD)}
    with page.expect_navigation():
        page.locator("#undo-edit").click()
    assert edits.current(workspace) == {}
    page.get_by_role("button", name="Select all shown").click()
    page.keyboard.press("d")
    page.wait_for_selector(f'.sample[data-id="{id_of(FOREIGN)}"][data-hand="drop"]')
    assert len(manual.read(workspace)) == 6
    assert page.get_by_role("link", name="Kept").inner_text().split() == ["Kept", "0"]
    page.keyboard.press("Escape")
    assert not bar.is_visible()


def test_pictures_are_sized_and_filters_fold_on_a_phone(page: Page, site: str) -> None:
    assert page.get_by_label("Reason").is_visible()
    width = "document.querySelector('.sample').offsetWidth"
    small = page.evaluate(width)
    page.locator("#size").fill("28")
    assert page.evaluate(width) > 1.5 * small
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(site)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert not page.get_by_label("Reason").is_visible()
    page.get_by_text("Filter and sort").click()
    assert page.get_by_label("Reason").is_visible()
    page.locator(".sample [data-pick]").first.check()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.goto(f"{site}/tags")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def place_on_map(page: Page, number: int) -> tuple[float, float]:
    """Where a picture's point is drawn, in pixels of the window."""
    page.goto(urljoin(page.url, "/map"))
    canvas = page.locator("#map")
    until(page, "document.getElementById('map-count').textContent.endsWith('images')")
    points = page.evaluate("fetch('/map/points').then((answer) => answer.json())")
    at = points["ids"].index(id_of(number))
    box = canvas.bounding_box()
    assert box is not None
    ends = [box["x"], box["y"]], [box["width"], box["height"]]
    found = []
    for axis, (start, size) in zip("xy", zip(*ends, strict=True), strict=True):
        low, high = min(points[axis]), max(points[axis])
        edge = max(1, (high - low) * 0.04)
        found.append(start + size * (points[axis][at] - low + edge) / (high - low + 2 * edge))
    return found[0], found[1]


def around(x: float, y: float, reach: float = 12) -> list[tuple[float, float]]:
    corners = ((-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -0.5))
    return [(x + reach * right, y + reach * down) for right, down in corners]


def test_a_line_drawn_on_the_map_selects_what_is_within(page: Page, workspace: Workspace) -> None:
    first, *others = around(*place_on_map(page, 2))
    page.mouse.move(*first)
    page.mouse.down()
    for corner in others:
        page.mouse.move(*corner)
    page.mouse.up()
    page.wait_for_url("**/?lasso=*")
    assert shown(page) == [2]
    page.locator("#selection").get_by_role("button", name="Drop", exact=True).click()
    page.get_by_text("1 sample decided by hand.").wait_for()
    assert manual.read(workspace) == {id_of(2): "drop"}


def test_the_map_shows_one_image_by_mouse_and_recolours_it(page: Page) -> None:
    page.mouse.move(*place_on_map(page, 1))
    card = page.locator("#map-card .sample")
    card.wait_for()
    assert card.get_attribute("data-id") == id_of(1)
    card.hover()
    card.get_by_role("button", name="Drop").click()
    until(page, "document.querySelector('#map-card .sample').dataset.state === 'dropped'")


def test_the_map_is_used_by_keyboard_alone(page: Page) -> None:
    place_on_map(page, 0)
    page.locator("#map").focus()
    for _ in range(40):
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("ArrowUp")
    for _ in range(40):
        page.keyboard.press("Shift+ArrowRight")
        page.keyboard.press("Shift+ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_url("**/?lasso=*")
    assert len(shown(page)) == len(SCENES)
    assert page.locator("#selection [data-picked]").inner_text() == str(len(SCENES))


def test_a_finger_draws_on_the_map_and_taps(browser: Browser, site: str) -> None:
    context = browser.new_context(
        viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True
    )
    page = patient(context.new_page())
    page.goto(site)
    x, y = place_on_map(page, 4)
    page.touchscreen.tap(x, y)
    page.locator(f"#map-card [data-id='{id_of(4)}']").wait_for()
    finger = context.new_cdp_session(page)
    kinds = ["touchStart", *["touchMove"] * 4]
    for kind, (right, down) in zip(kinds, around(x, y), strict=True):
        finger.send(
            "Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": right, "y": down}]}
        )
    finger.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    page.wait_for_url("**/?lasso=*")
    assert shown(page) == [4]
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    context.close()
