"""Two months of nightly runs against the sandbox, in virtual time: what is left, and what was deleted on the way."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from deployments.sandbox import Droplet, FaultKind
from flows.retention.pruning import PruningPlan, newest_backups, plan_pruning
from flows.retention.rule import RetentionRule
from tasks.digitalocean import Connection
from tasks.digitalocean.once import delete_once
from tests.flows.executions import carry_out, connection_to, plan_for, repeating, select
from tests.tasks.digitalocean.in_process import World
from tests.virtual_time import EPOCH, run

DAY = 86400.0
NIGHTS = 60
NIGHT_OF_THE_LOSS = 20
REGIONS = ["ams3", "sgp1"]
RULE = RetentionRule(keep_last=5, keep_weekly=3, keep_monthly=2)
# Those before and after the work, so that a deletion with a bad answer may have been carried out or not.
BAD_DELETIONS = (FaultKind.ERROR_BEFORE, FaultKind.DROP_BEFORE, FaultKind.ERROR_AFTER, FaultKind.DROP_AFTER)


async def look(connection: Connection) -> PruningPlan:
    """Plan what may go, from fresh looks."""
    client = connection.client
    backups = newest_backups(await client.list_droplets(), await client.list_private_images())
    return plan_pruning(
        await client.list_snapshots(),
        RULE,
        datetime.fromtimestamp(client.clock.unix(), UTC),
        managed_tag=connection.settings.managed_tag,
        regions=REGIONS,
        backups=backups,
    )


async def delete(connection: Connection, image_id: int) -> bool:
    return await repeating(lambda: delete_once(connection.client, image_id), 10)


def days_left(world: World, droplet: Droplet, tag: str) -> list[str]:
    """The days of a Droplet's snapshots that this project made, the newest first."""
    own = [image for image in world.account.images.values() if image.droplet_id == droplet.id and tag in image.tags]
    moments = sorted((datetime.fromtimestamp(image.created_at, UTC) for image in own), reverse=True)
    return [f"{moment:%a %m-%d}" for moment in moments]


def test_two_months_of_nights_leave_what_the_rule_says_and_never_touch_what_is_not_ours() -> None:
    async def two_months() -> None:
        world = World(droplets=2)
        connection = connection_to(world)
        tag = connection.settings.managed_tag
        people_s = world.images("snapshot")
        lost, kept = world.account.droplets.values()
        for night in range(1, NIGHTS + 1):
            await asyncio.sleep(EPOCH + night * DAY - world.clock.unix())
            world.account.back_up_droplets(world.clock.unix())
            # Before the night's backups are everywhere, nothing of a Droplet that has one may go.
            early = await look(connection)
            assert {each.resource_id for each in early.to_delete} <= {lost.id}
            targets = await plan_for(connection, (await select(connection, 1)).candidates, REGIONS)
            await carry_out(connection, targets)
            if night == NIGHT_OF_THE_LOSS:
                world.account.delete_droplet(lost)
            plan = await look(connection)
            world.faults.at_random(0.3, BAD_DELETIONS, seed=night)
            assert all([await delete(connection, each.id) for each in plan.to_delete])
            world.faults.clear()
            assert (await look(connection)).to_delete == ()
        assert {seen.fault for seen in world.record.requests if seen.method == "DELETE"} == {None, *BAD_DELETIONS}
        assert {deletion.tags for deletion in world.record.deleted} == {(tag,)}
        assert len({deletion.image_id for deletion in world.record.deleted}) == len(world.record.deleted)
        assert {image.id for image in people_s} <= world.account.images.keys()
        assert days_left(world, kept, tag) == [
            "Sat 11-21", "Fri 11-20", "Thu 11-19", "Wed 11-18", "Tue 11-17", "Sun 11-15", "Sun 11-08", "Sat 10-31",
        ]  # fmt: skip
        assert days_left(world, lost, tag) == [
            "Mon 10-12", "Sun 10-11", "Sat 10-10", "Fri 10-09", "Thu 10-08", "Sun 10-04", "Wed 09-30",
        ]  # fmt: skip

    run(two_months(), longest=(NIGHTS + 1) * DAY)
