"""The main job: the newest backups of all Droplets, as snapshots, in every region."""

from contextlib import nullcontext
from typing import Annotated

from prefect import flow, get_run_logger
from pydantic import Field

from flows.command_line import run_from_command_line
from flows.endings import ends_plainly
from flows.names import replication_run_name
from flows.one_at_a_time import one_run_at_a_time
from flows.replication.lookup import with_unlisted
from flows.replication.planning import lacking, plan_replication
from flows.replication.run import conclude, replicate
from flows.replication.selection import Selection, choose_recovery_points, newer_snapshots, target_regions
from tasks.account_actions import list_actions_on
from tasks.digitalocean import ConvertImage, InvalidArgument, RegionSlug, TagName, connect, tally_requests
from tasks.droplets import list_droplets
from tasks.images import list_private_images
from tasks.regions import list_regions
from tasks.reporting.report import ReplicationReport


@flow(name="replicate-backups", flow_run_name=replication_run_name)
@ends_plainly
def replicate_backups(
    droplet_tag: TagName | None = None,
    regions: list[RegionSlug] | None = None,
    newest: Annotated[int, Field(ge=1)] = 1,
    wait: bool = True,
    timeout_minutes: Annotated[int, Field(ge=1)] = 360,
    dry_run: bool = False,
) -> ReplicationReport:
    """Copy the newest backups of Droplets to every region, and wait until they are there.

    Backups are converted to snapshots first, because only snapshots can be copied; snapshots cost money until they
    are deleted. A second run finds nothing to do; a run that was cut short is finished by the next one.

    Args:
        droplet_tag: Only Droplets that bear this tag; empty for all.
        regions: Slugs of the regions to copy to, such as nyc3; empty for every region that takes images.
        newest: How many of the newest backups of each Droplet, from 1 on.
        wait: Whether to wait until the copies have arrived. Conversions are waited for in any case.
        timeout_minutes: When to stop waiting, in minutes; what is under way then is taken up by the next run.
        dry_run: Only say what would be done; nothing is changed.

    Returns:
        The report, with a row an image and region.

    Raises:
        Incomplete: Some copies did not arrive; its `report` says which and why.
        DigitalOceanError: The run could not begin: a setting, a parameter or the token is wrong.
    """
    connection = connect()
    with tally_requests() as tally:
        targets = target_regions(list_regions(), regions)
        with nullcontext() if dry_run else one_run_at_a_time():
            selection = select_backups(droplet_tag, newest, connection.settings.managed_tag)
            missing = lacking(selection.candidates, targets)
            actions = list_actions_on(missing) if missing else []
            plan = plan_replication(selection.candidates, targets, actions, connection.client.server_clock.now())
            rows = replicate(plan, connection, wait=wait, timeout_minutes=timeout_minutes, dry_run=dry_run)
    return conclude(rows, targets, tally, dry_run=dry_run, without_backups=selection.without_backups)


def select_backups(droplet_tag: str | None, newest: int, managed_tag: str) -> Selection:
    """Look at Droplets and images, and choose what to copy.

    Raises:
        InvalidArgument: There is nothing to protect: no Droplet, or none with a backup.
    """
    droplets = list_droplets(droplet_tag)
    if not droplets:
        raise InvalidArgument(
            f"no Droplet bears the tag {droplet_tag!r}" if droplet_tag else "the account has no Droplets"
        )
    images = with_unlisted(droplets, list_private_images())
    selection = choose_recovery_points(droplets, images, managed_tag=managed_tag, newest=newest)
    if unclear := newer_snapshots(droplets, images, selection, managed_tag=managed_tag):
        conversions = [each for each in list_actions_on(unclear) if ConvertImage().matches(each) and not each.errored]
        converted = {each.resource_id for each in conversions}
        selection = choose_recovery_points(
            droplets, images, managed_tag=managed_tag, newest=newest, converted=converted
        )
    if not selection.candidates:
        raise InvalidArgument(
            f"none of {len(droplets)} Droplets has a backup; turn backups on in DigitalOcean's control panel"
        )
    for source in selection.without_backups:
        get_run_logger().warning("Droplet %s has no backup", source)
    return selection


if __name__ == "__main__":
    run_from_command_line(replicate_backups)
