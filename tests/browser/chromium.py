"""Chromium without a window."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
# Long, because a page may be slow where other tests run at the same time.
PATIENCE_MILLISECONDS = 30_000


def find_chromium() -> str | None:
    """Find a Chromium that is installed."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def chromium(executable: str) -> Iterator[Browser]:
    """Run a Chromium while the `with` block lasts."""
    with sync_playwright() as playwright:
        # Without its sandbox, which a container does not let it have: it sees nothing but our own pages.
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def page_at(browser: Browser, ui: str, width: int = 1400, height: int = 1200) -> Iterator[Page]:
    """Open a page for which there is no other machine than the UI's, while the `with` block lasts."""
    context = browser.new_context(viewport={"width": width, "height": height}, reduced_motion="reduce")
    context.set_default_timeout(PATIENCE_MILLISECONDS)
    expect.set_options(timeout=PATIENCE_MILLISECONDS)

    def stay_here(route: Route) -> None:
        if urlsplit(route.request.url).netloc == urlsplit(ui).netloc:
            route.continue_()
        else:
            route.abort()

    context.route("**/*", stay_here)
    try:
        yield context.new_page()
    finally:
        context.close()
