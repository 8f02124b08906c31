"""Droplets rebuilt by hand in Prefect's UI, as on the night that a region is gone."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.browser.installation import Installation
from tests.end_to_end.accounts import add_snapshots

if TYPE_CHECKING:
    from tests.browser.screen import Screen

RESTORED = "restored-droplets"
PARAMETERS = ["region", "from_region", "droplet_tag", "droplet_ids", "image_ids", "size", "ssh_keys", "vpc_uuid"]
PARAMETERS += ["name_suffix", "copy_tags", "tags", "max_droplets", "wait", "timeout_minutes", "dry_run"]
PARAMETERS += ["approve", "approval_timeout_hours"]


@pytest.mark.thorough
def test_the_form_shows_the_plan_and_creates_nothing_by_default(screen: Screen, installed: Installation) -> None:
    account = installed.sandbox.account
    for droplet in account.droplets.values():
        if droplet.region == "nyc3":
            add_snapshots(installed.sandbox, droplet, 0, regions=["tor1"])

    screen.open_run_form("restore-droplets", "manual")
    assert [name for name in PARAMETERS if not screen.help_of(name)] == []
    screen.choose("region", "Toronto 1")
    screen.take("from_region", "Choose")
    screen.choose("from_region", "New York 3")
    screen.start_run()
    assert screen.end_of_run() == "Completed"
    screen.shows(re.compile(r"restore all Droplets to tor1, .*\(dry run\)"))
    screen.open_artifact(RESTORED)
    screen.shows(re.compile(r"Dry run, \d Droplets in tor1: \d planned, \$[\d.]+ an hour, \$[\d.]+ a month"))
    assert not installed.sandbox.record.created


def test_a_run_shows_its_plan_in_the_form_that_resumes_it_and_carries_it_out(
    screen: Screen, installed: Installation
) -> None:
    wanted = next(each for each in installed.sandbox.account.droplets.values() if each.name == "cache-01")
    (image,) = add_snapshots(installed.sandbox, wanted, 0, regions=["blr1"])
    screen.open_run_form("restore-droplets", "manual")
    screen.choose("region", "Bangalore 1")
    screen.take("image_ids", "Type or paste")
    screen.fill("image_ids", str(image.id))
    screen.switch("dry_run")
    screen.switch("approve")
    screen.start_run()
    screen.open_resume_form()
    screen.shows(re.compile(r"1 Droplet in blr1, \$[\d.]+ an hour, \$[\d.]+ a month:"))
    screen.shows(re.compile(f"cache-01-restored: {wanted.size.slug}, .* from image {image.id} of "))
    created = len(installed.sandbox.record.created)
    screen.switch("Create these Droplets")
    screen.submit()
    assert screen.end_of_run() == "Completed"
    (restored,) = installed.sandbox.record.created[created:]
    assert restored.name == "cache-01-restored"
    screen.open_artifact(RESTORED)
    screen.shows("Point DNS records to the new addresses")
    screen.shows(f"{restored.name} ({restored.droplet_id})")
