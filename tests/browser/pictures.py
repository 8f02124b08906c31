"""Take the pictures of Prefect's UI in the README again: `python -m tests.browser.pictures`."""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, FloatRect, Locator

from flows.temporary_server import free_port
from tests.browser.chromium import chromium, find_chromium, page_at
from tests.browser.installation import Installation, installation
from tests.browser.screen import Screen
from tests.end_to_end.databases import databases

FOLDER = Path(__file__).parent / "pictures"
HEIGHT = 1600
# Such that what is cut out is about 1,100 wide: the menu is beside the form, and beside the table a list of details.
FORM_WIDTH = 1340
TABLE_WIDTH = 1720
RUN_WIDTH = 1240
SECONDS_UNTIL_COUNTED = 15
# Droplets are created as slowly as in life: polled as fast as copies are made here, they would cost many requests.
SLOW_POLLS = {"DIGITALOCEAN_POLL_INTERVAL_SECONDS": "2", "DIGITALOCEAN_POLL_INTERVAL_MAX_SECONDS": "10"}
# Less would touch the text; more would show what is beside it.
MARGIN = 8


def main() -> int:
    """Take the pictures.

    Returns:
        Exit status: 1 where there is no Chromium.
    """
    executable = find_chromium()
    if executable is None:
        print("Chromium is not installed; on Debian, apt install chromium installs it", file=sys.stderr)  # noqa: T201
        return 1
    FOLDER.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        databases(Path(folder) / "databases") as shared,
        # Only copies are sped up, so that the numbers of requests are not those of polling ten times a second.
        installation(
            shared.new(Path(folder)),
            DIGITALOCEAN_POLL_INTERVAL_SECONDS="2",
            DIGITALOCEAN_POLL_INTERVAL_MAX_SECONDS="10",
        ) as installed,
        chromium(executable) as browser,
    ):
        take_run_form(browser, installed)
        take_run(browser, installed)
        take_drill(browser, installed)
        take_coverage(browser, installed)
        take_restore_form(browser, installed)
    return 0


def take_run_form(browser: Browser, installed: Installation) -> None:
    """Show a run form that is filled in, and carry the run out."""
    with page_at(browser, installed.ui, FORM_WIDTH, HEIGHT) as page:
        screen = Screen(page, installed.ui)
        screen.open_run_form("replicate-backups", "manual")
        screen.take("droplet_tag", "Only those with the tag")
        screen.fill("droplet_tag", "dr")
        screen.take("regions", "Choose")
        screen.choose("regions", "Frankfurt", "London", "Singapore", "Sydney")
        cut_out(screen, "run-form.png", page.locator("form"), page.get_by_role("banner"), screen.parameter("dry_run"))
        screen.start_run()
        screen.end_of_run()


def take_run(browser: Browser, installed: Installation) -> None:
    """Show the page of a nightly run that has completed."""
    with page_at(browser, installed.ui, RUN_WIDTH, HEIGHT) as page:
        screen = Screen(page, installed.ui)
        screen.open_run_form("replicate-backups", "nightly")
        screen.start_run()
        screen.end_of_run()
        # Prefect's server counts task runs seconds after their end, and its page only once.
        page.wait_for_timeout(SECONDS_UNTIL_COUNTED * 1000)
        page.reload()
        screen.shows("Finished in state")
        # Of task runs that last milliseconds, the graph shows dots.
        page.add_style_tag(content=".flow-run-graphs { display: none }")
        logs = page.locator(".flow-run-logs")
        cut_out(screen, "run.png", logs, page.get_by_role("banner"), logs)


def take_drill(browser: Browser, installed: Installation) -> None:
    """Show the evidence of a drill, in which Droplets are created as slowly as in life."""
    account, port = installed.sandbox.account, free_port()
    account.speed = 1
    account.behavior = replace(account.behavior, reachable_droplets=True)
    account.answering_ports = {port}
    with page_at(browser, installed.ui, TABLE_WIDTH, HEIGHT) as page:
        screen = Screen(page, installed.ui)
        screen.open_run_form("drill-restore", "manual")
        screen.fill("sample", "3")
        screen.take("probe_port", "int")
        screen.fill("probe_port", str(port))
        screen.start_run()
        screen.end_of_run()
        screen.open_artifact("restore-drill")
        cut_out_artifact(screen, "drill.png")


def take_coverage(browser: Browser, installed: Installation) -> None:
    """Show who is protected after that run and that drill, and after a copy was lost."""
    account = installed.sandbox.account
    droplet = next(each for each in account.droplets.values() if each.name == "api-01")
    newest = max((account.images[each] for each in droplet.image_ids), key=lambda image: image.created_at)
    del newest.regions["fra1"]
    with page_at(browser, installed.ui, TABLE_WIDTH, HEIGHT) as page:
        screen = Screen(page, installed.ui)
        screen.open_run_form("report-coverage", "weekly")
        screen.take("regions", "Choose")
        screen.choose("regions", "Frankfurt", "Singapore")
        screen.start_run()
        screen.end_of_run()
        screen.open_artifact("replication-coverage")
        cut_out_artifact(screen, "coverage.png")


def take_restore_form(browser: Browser, installed: Installation) -> None:
    """Show the form that rebuilds Droplets, filled in for the night that a region is gone."""
    with page_at(browser, installed.ui, FORM_WIDTH, HEIGHT) as page:
        screen = Screen(page, installed.ui)
        screen.open_run_form("restore-droplets", "manual")
        screen.choose("region", "Frankfurt")
        screen.take("from_region", "Choose")
        screen.choose("from_region", "New York 3")
        last = screen.parameter("droplet_tag")
        cut_out(screen, "restore-form.png", page.locator("form"), page.get_by_role("banner"), last)


def cut_out_artifact(screen: Screen, name: str) -> None:
    """Save a table and its description, without Prefect's list of details beside them."""
    table = screen.page.get_by_role("table")
    cut_out(screen, name, table, screen.page.get_by_role("article").first, table)


def cut_out(screen: Screen, name: str, column: Locator, first: Locator, last: Locator) -> None:
    """Save a column of the page, from the top of one part to the bottom of another."""
    screen.page.evaluate("document.activeElement.blur()")
    screen.page.mouse.move(0, 0)
    left, right = edges(column, "x", "width")
    top, _ = edges(first, "y", "height")
    _, bottom = edges(last, "y", "height")
    clip: FloatRect = {
        "x": left - MARGIN,
        "y": max(0, top - MARGIN),
        "width": right - left + 2 * MARGIN,
        "height": bottom - max(0, top - MARGIN) + MARGIN,
    }
    screen.page.screenshot(path=FOLDER / name, clip=clip)


def edges(part: Locator, start: Literal["x", "y"], size: Literal["width", "height"]) -> tuple[float, float]:
    """Where a part of the page begins and ends."""
    box = part.bounding_box()
    assert box is not None
    return box[start], box[start] + box[size]


if __name__ == "__main__":
    sys.exit(main())
