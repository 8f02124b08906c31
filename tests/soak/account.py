"""A sandbox account at DigitalOcean's own speed, whose copies take as long as a scenario needs."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from deployments.sandbox import Behavior, Droplet, Image, Sandbox, make_account
from tests.end_to_end.accounts import backups_of
from tests.torture.judging import duplicate_conversions
from tests.torture.snapshots import duplicate_snapshots, size_snapshots


def real_time_sandbox(droplets: int) -> Sandbox:
    """Make a sandbox that lives as fast as DigitalOcean, and accepts a second transfer beside the first.

    Args:
        droplets: How many Droplets; with fewer than six, each has two backups.

    Returns:
        The sandbox, to be entered.
    """
    return Sandbox(droplets=droplets, speed=1.0, behavior=Behavior(duplicate_transfers="accept"))


def backups(sandbox: Sandbox) -> list[list[Image]]:
    """List the backups of each Droplet, the newest first."""
    return [backups_of(sandbox, droplet) for droplet in sandbox.account.droplets.values()]


def regions(sandbox: Sandbox) -> list[str]:
    """List the regions that take images."""
    return [region.slug for region in sandbox.account.regions.values() if region.takes_images]


def stretch(sandbox: Sandbox, image: Image, longest: timedelta) -> None:
    """Choose an image's size so that the slowest of its transfers takes this long.

    Args:
        sandbox: Its sandbox.
        image: The image.
        longest: How long.
    """
    account = sandbox.account
    twin = make_account(now=time.time(), droplets=len(account.droplets), seed=account.seed, speed=account.speed)
    model = twin.images[image.id]
    model.size_gigabytes = 1.0
    elsewhere = [region for region in regions(sandbox) if region not in image.regions]
    slowest = max(twin.start(model, "transfer", region, 0.0).ends_at for region in elsewhere)
    image.size_gigabytes = longest.total_seconds() / slowest


def stretch_snapshot(sandbox: Sandbox, droplet: Droplet, longest: timedelta) -> None:
    """Choose the size of a Droplet's next snapshot so that it and the slowest of its copies take this long in total.

    Args:
        sandbox: Its sandbox.
        droplet: The Droplet, of which the next action starts a snapshot.
        longest: How long.
    """
    account = sandbox.account
    twin = make_account(now=time.time(), droplets=len(account.droplets), seed=account.seed, speed=account.speed)
    size_snapshots(twin, {droplet.id: 1.0})
    taking = twin.take_snapshot(twin.droplets[droplet.id], "", 0.0)
    model = taking.snapshot
    assert model
    # How long a copy takes depends on the ID.
    model.id = max([*account.images, *(each.snapshot.id for each in account.started if each.snapshot)]) + 1
    elsewhere = [region for region in regions(sandbox) if region != droplet.region]
    slowest = max(twin.start(model, "transfer", region, 0.0).ends_at for region in elsewhere)
    size_snapshots(account, {droplet.id: longest.total_seconds() / (taking.ends_at + slowest)})


def ends_at(sandbox: Sandbox, image: Image) -> datetime | None:
    """Tell when the last transfer of an image that was started ends; None before all are started."""
    transfers = [each for each in sandbox.record.actions if each.type == "transfer" and each.resource_id == image.id]
    if len({each.region for each in transfers} | set(image.regions)) < len(regions(sandbox)):
        return None
    return datetime.fromtimestamp(max(each.ends_at for each in transfers), UTC)


def lost(sandbox: Sandbox, images: Iterable[Image]) -> list[str]:
    """Name what did not arrive."""
    everywhere = set(regions(sandbox))
    return [
        f"{image.id} is a {image.type}, missing in {', '.join(sorted(everywhere - set(image.regions))) or 'no region'}"
        for image in images
        if image.type != "snapshot" or everywhere - set(image.regions)
    ]


def twice(sandbox: Sandbox, since: datetime) -> list[str]:
    """Name what was started since a moment although it had been done or was under way."""
    actions = sandbox.record.actions
    again = sandbox.record.duplicate_transfers() + duplicate_conversions(actions) + duplicate_snapshots(actions)
    return [
        f"{action.type} of {action.resource_id} to {action.region}"
        for action in again
        if action.started_at >= since.timestamp()
    ]
