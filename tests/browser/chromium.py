"""Chromium without a window."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, Page, expect, sync_playwright

from flows.temporary_server import LOOPBACK

# Prefect's UI draws 60 times a second, which without a graphics card takes more than all else.
FEW_FRAMES = """
window.requestAnimationFrame = draw => setTimeout(() => draw(performance.now()), 200);
window.cancelAnimationFrame = clearTimeout;
"""
NAMES = ("chromium", "chromium-browser", "google-chrome")
# Long, because a page may be slow where other tests run at the same time.
PATIENCE_MILLISECONDS = 30_000
# Without its sandbox, which a container does not let it have: it sees nothing but our own pages. There is no other
# machine; Playwright's routes would do that, too, but would have each page load all of Prefect's UI again.
OPTIONS = ("--no-sandbox", f"--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE {LOOPBACK}")


def find_chromium() -> str | None:
    """Find a Chromium that is installed."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def chromium(executable: str) -> Iterator[Browser]:
    """Run a Chromium while the `with` block lasts."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=OPTIONS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def page_at(browser: Browser, ui: str, width: int = 1400, height: int = 1200) -> Iterator[Page]:
    """Open a page of the UI, while the `with` block lasts."""
    context = browser.new_context(base_url=ui, viewport={"width": width, "height": height}, reduced_motion="reduce")
    context.add_init_script(FEW_FRAMES)
    context.set_default_timeout(PATIENCE_MILLISECONDS)
    expect.set_options(timeout=PATIENCE_MILLISECONDS)
    try:
        yield context.new_page()
    finally:
        context.close()
