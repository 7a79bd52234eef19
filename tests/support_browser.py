"""What the tests in a browser share."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Page


PATIENCE_S = 240
"""For anything a page is to show: where much else runs, a browser may take that long."""


def patient(page: Page) -> Page:
    """The page, waiting that long."""
    page.set_default_timeout(PATIENCE_S * 1000)
    return page


def until(page: Page, expression: str, arg: Any = None) -> None:
    """Wait until JavaScript is true of the page.

    Playwright's own wait evaluates text within the page, which the pages' policies forbid.
    """
    end = time.monotonic() + PATIENCE_S
    while not page.evaluate(expression, arg):
        assert time.monotonic() < end, f"never true: {expression}"
        page.wait_for_timeout(20)


def next_frame(page: Page) -> None:
    """Wait until the page has drawn what it put off to its next frame."""
    page.evaluate("() => new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(r)))")
