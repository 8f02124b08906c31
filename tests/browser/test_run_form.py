"""Runs started by hand in Prefect's UI, from the form to the table of what they did."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from prefect.settings import PREFECT_API_URL, temporary_settings
from pydantic import SecretStr

from deployments.sandbox import Droplet, Fault, FaultKind
from deployments.sandbox.regions import Region
from tasks.credentials import DigitalOceanCredentials
from tests.browser.installation import Installation
from tests.end_to_end.accounts import backups_of
from tests.end_to_end.prefect_server import SHOWS_WITHIN_SECONDS, until

if TYPE_CHECKING:
    from tests.browser.screen import Screen

PARAMETERS = [
    "droplet_tag",
    "regions",
    "newest",
    "wait",
    "timeout_minutes",
    "dry_run",
    "image_ids",
    "source",
    "credentials",
]
COVERAGE = "replication-coverage"
CONTROL_PANEL = "https://cloud.digitalocean.com"


def droplets_with(installed: Installation, tag: str) -> list[Droplet]:
    droplets = installed.sandbox.account.droplets.values()
    return sorted((each for each in droplets if tag in each.tags), key=lambda each: each.name)


def newest_backup_of(installed: Installation, droplet: Droplet) -> int:
    return backups_of(installed.sandbox, droplet)[0].id


def test_a_run_can_be_started_without_knowing_a_slug_and_shows_what_it_copied(
    screen: Screen, installed: Installation
) -> None:
    droplets = droplets_with(installed, "dr")
    images = [newest_backup_of(installed, droplet) for droplet in droplets]

    screen.open_run_form("replicate-backups", "manual")
    assert [name for name in PARAMETERS if not screen.help_of(name)] == []
    assert screen.help_of("dry_run") == "Only report what would be done; change nothing."
    screen.take("droplet_tag", "Only those with the tag")
    screen.fill("droplet_tag", "dr")
    screen.take("regions", "Choose")
    screen.choose("regions", "Frankfurt", "Singapore")

    screen.start_run()
    assert screen.end_of_run() == "Completed"
    screen.shows(re.compile(r"dr -> fra1, sgp1, \d{4}-\d\d-\d\d \d\d:\d\d"))
    screen.open_artifact(COVERAGE)
    screen.shows(f"{len(images)} images in 2 regions: {2 * len(images)} transferred")
    screen.shows("+ done by this run")
    screen.shows_table(
        ["Droplet", "Image", "Converted", "fra1", "sgp1"],
        [
            [f"{droplet.name} ({droplet.id})", str(image), "+", "+", "+"]
            for droplet, image in zip(droplets, images, strict=True)
        ],
    )
    for droplet, image in zip(droplets, images, strict=True):
        assert screen.goal_of(str(droplet.id)) == f"{CONTROL_PANEL}/droplets/{droplet.id}"
        assert screen.goal_of(str(image)) == f"{CONTROL_PANEL}/images/snapshots/droplets"


def test_snapshots_can_be_chosen_as_the_source(screen: Screen) -> None:
    screen.open_run_form("replicate-backups", "manual")
    assert "backups stay backups" in screen.help_of("source").replace("\n", " ")
    screen.take("droplet_tag", "Only those with the tag")
    screen.fill("droplet_tag", "dr")
    screen.choose("source", "snapshots")
    # What runs do with it: tests/end_to_end/test_snapshot_droplets.py.
    screen.page.route("**/create_flow_run", lambda route: route.abort())
    with screen.page.expect_request("**/create_flow_run") as sent:
        screen.submit()
    body = sent.value.post_data_json
    assert body
    assert body["parameters"]["source"] == "snapshots"


def test_another_account_is_chosen_by_the_name_of_its_block(screen: Screen, installed: Installation) -> None:
    with temporary_settings({PREFECT_API_URL: f"{installed.ui}/api"}):
        prod = DigitalOceanCredentials(token=SecretStr(installed.sandbox.token), api_url=installed.sandbox.url)
        # The browser is driven from an event loop.
        prod.save("prod", _sync=True)  # type: ignore[call-arg]  # added by Prefect's decorator
    screen.open_run_form("replicate-backups", "manual")
    assert screen.help_of("credentials").startswith("The account: the name of its block")
    screen.take("credentials", "Name of a block")
    screen.fill("credentials", "prod")
    screen.switch("dry_run")
    screen.start_run()
    assert screen.end_of_run() == "Completed"
    screen.shows(re.compile(r"@prod: all Droplets -> all regions, .*\(dry run\)"))
    screen.open_artifact(f"{COVERAGE}-prod")
    screen.shows(re.compile(r"Dry run, \d images in \d+ regions"))


def test_ids_and_regions_may_be_typed_even_unknown_ones_and_submitted_again_after_a_failed_attempt(
    screen: Screen, installed: Installation
) -> None:
    first, second = (newest_backup_of(installed, droplet) for droplet in droplets_with(installed, "dr")[:2])
    installed.sandbox.account.regions["mad1"] = Region("mad1", "Madrid 1")
    screen.page.route("**/create_flow_run", lambda route: route.fulfill(status=503), times=1)
    try:
        screen.open_run_form("transfer-images", "manual")
        screen.take("image_ids", "Type or paste")
        screen.fill("image_ids", f"{first}, {second}")
        screen.take("regions", "Type slugs")
        screen.fill("regions", "RIC1 mad1,fra1")
        screen.switch("dry_run")
        screen.submit()
        # Of the two notices, this one leaves by itself; the other moves to its place, over the button.
        passing = screen.page.get_by_text("trying to create a flow run").first
        passing.wait_for()
        passing.wait_for(state="detached")
        screen.start_run()
        assert screen.end_of_run() == "Completed"
    finally:
        del installed.sandbox.account.regions["mad1"]
    screen.shows(re.compile(rf"{first}, {second} -> ric1, mad1, fra1, .*\(dry run\)"))
    screen.open_artifact(COVERAGE)
    screen.shows(re.compile(r"Dry run, 2 images in 3 regions: .*; would add [\d.]+ GB of snapshots"))
    screen.shows("DigitalOcean does not list ric1 as available for image transfers.")


def test_an_invalid_tag_is_rejected_in_the_form(screen: Screen) -> None:
    screen.open_run_form("replicate-backups", "manual")
    screen.take("droplet_tag", "Only those with the tag")
    screen.fill("droplet_tag", "disaster recovery")
    screen.submit()
    screen.shows("'disaster recovery' is not valid")
    # The form is still there.
    screen.shows("Validate parameters")


def test_failed_copies_come_first_with_a_reason_and_without_a_traceback(
    screen: Screen, installed: Installation
) -> None:
    bare, good, bad = droplets_with(installed, "env:staging")
    image, other = newest_backup_of(installed, bad), newest_backup_of(installed, good)
    installed.sandbox.faults.add(
        # The first of an image's actions is its conversion; this leaves it alone.
        Fault(FaultKind.SLOW, "POST", f"/images/{image}/actions", seconds=0),
        Fault(FaultKind.ACTION_ERRORED, "POST", f"/images/{image}/actions", times=None),
    )
    screen.open_run_form("replicate-backups", "manual")
    screen.take("droplet_tag", "Only those with the tag")
    screen.fill("droplet_tag", "env:staging")
    screen.take("regions", "Choose")
    screen.choose("regions", "Frankfurt", "Singapore")
    screen.start_run()
    assert screen.end_of_run() == "Failed"
    run = screen.page.url
    screen.open_tab("Details")
    screen.shows("2 of 4 copies did not arrive")
    screen.open_artifact(COVERAGE)
    screen.shows("2 images in 2 regions: 2 transferred, 2 failed")
    screen.shows(f"{bad.name} ({bad.id}), image {image} in fra1, sgp1: the action failed on all 3 attempts")
    screen.shows("No manual repair needed")
    screen.shows_table(
        ["Droplet", "Image", "Converted", "fra1", "sgp1"],
        [
            [f"{bad.name} ({bad.id})", str(image), "+", "✗", "✗"],
            [f"{good.name} ({good.id})", str(other), "+", "+", "+"],
            [f"{bare.name} ({bare.id})", "no backups", "", "", ""],
        ],
    )

    # By its end, a run's process has sent all that it had to say.
    until(lambda: not installed.worker.runs(), SHOWS_WITHIN_SECONDS)
    screen.page.goto(run)
    screen.open_tab("Logs")
    screen.shows("Finished in state Failed('2 of 4 copies did not arrive")
    screen.shows_no("Traceback")
