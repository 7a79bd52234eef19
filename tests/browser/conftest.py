"""A real browser: the system's Chromium or Chrome, headless."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from support_browser import PATIENCE_S

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Skips the test where there is none on the PATH.

    Playwright keeps an event loop running in this thread, in which other tests could not start
    one: so it ends with the module.
    """
    sync_api = pytest.importorskip("playwright.sync_api")
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"needs a browser on the PATH: {' or '.join(NAMES)}")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(
            executable_path=found, args=["--no-sandbox"], timeout=PATIENCE_S * 1000
        )
        yield opened
        opened.close()
