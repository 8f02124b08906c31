from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser.installation import Installation, installation
from tests.end_to_end.databases import PrefectHome

# Where Playwright is not installed, nothing can be imported that uses it, and the tests are skipped.
if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from tests.browser.screen import Screen

SCREEN = pytest.StashKey["Screen"]()
FOLDER = pytest.StashKey[Path]()


# Of this folder and not of the session: Playwright's event loop would be in the way of the tests that follow.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    pytest.importorskip("playwright", reason="Playwright is not installed: make install-dev installs it")
    from tests.browser.chromium import chromium, find_chromium  # noqa: PLC0415

    executable = find_chromium()
    if executable is None:
        pytest.skip("Chromium is not installed; on Debian, apt install chromium installs it")
    with chromium(executable) as browser:
        yield browser


@pytest.fixture(scope="package")
def installed(browser: Browser, prefect_home: Callable[[str], PrefectHome]) -> Iterator[Installation]:
    """One installation for all tests here."""
    with installation(prefect_home("installation")) as installed:
        yield installed


@pytest.fixture
def screen(request: pytest.FixtureRequest, browser: Browser, installed: Installation) -> Iterator[Screen]:
    """A separate page for each test."""
    from tests.browser.chromium import page_at  # noqa: PLC0415
    from tests.browser.screen import Screen  # noqa: PLC0415

    with page_at(browser, installed.ui) as page:
        request.node.stash[SCREEN] = Screen(page, installed.ui)
        yield request.node.stash[SCREEN]
    installed.sandbox.faults.clear()


@pytest.fixture(autouse=True)
def _folder_for_a_picture(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    request.node.stash[FOLDER] = tmp_path


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Leave a picture of the screen where a test failed, and say where."""
    report = yield
    if report.when == "call" and report.failed and SCREEN in item.stash:
        picture = item.stash[FOLDER] / "screen.png"
        try:
            item.stash[SCREEN].page.screenshot(path=picture, full_page=True)
        except Exception as error:  # noqa: BLE001  # what the test says matters more than its picture
            report.sections.append(("No picture of the screen", str(error)))
        else:
            report.sections.append(("The screen when it failed", str(picture)))
    return report
