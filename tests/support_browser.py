"""What the tests in a browser share."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Page


def until(page: Page, expression: str, arg: Any = None, *, patience_s: float = 30) -> None:
    """Wait until JavaScript is true of the page.

    Playwright's own wait evaluates text within the page, which the pages' policies forbid.
    """
    end = time.monotonic() + patience_s
    while not page.evaluate(expression, arg):
        assert time.monotonic() < end, f"never true: {expression}"
        page.wait_for_timeout(20)
