"""Copies the newest backups of Droplets to every region."""

from prefect import flow, get_run_logger

from flows.command_line import run_from_command_line
from flows.hooks import announce_abnormal_end
from flows.inventory import take_inventory
from flows.names import replication_run_name
from flows.parameters import (
    ContradictoryParameters,
    DropletTag,
    Newest,
    OptionalCredentials,
    OptionalImageIds,
    Regions,
    Source,
    TimeoutMinutes,
)
from flows.prune_snapshots import prune_snapshots
from flows.recovery.recording import record_droplets
from flows.replication.image_selection import Targets, choose_targets, named_images, newest_backups
from flows.replication.recovery_points import Selection
from flows.replication.run import replicate
from flows.reporting.report import ReplicationReport
from flows.results import explains_result
from flows.snapshots.choosing import choose_snapshots
from tasks.digitalocean import Connection, deadline


@flow(
    name="replicate-backups",
    flow_run_name=replication_run_name,
    on_cancellation=[announce_abnormal_end],
    on_crashed=[announce_abnormal_end],
)
@explains_result
def replicate_backups(
    droplet_tag: DropletTag = None,
    regions: Regions = None,
    newest: Newest = 1,
    wait: bool = True,
    timeout_minutes: TimeoutMinutes = 360,
    dry_run: bool = False,
    image_ids: OptionalImageIds = None,
    prune: bool = False,
    source: Source = "backups",
    credentials: OptionalCredentials = None,
) -> ReplicationReport:
    """Copy the newest backups of Droplets, or new snapshots, to every region, and wait until they have arrived.

    Backups are converted to snapshots first, because only snapshots can be copied. A snapshot costs money until it is
    deleted, and a converted backup no longer counts as a backup of its Droplet. A second run copies only what is
    missing, so it also finishes an interrupted run.

    Args:
        droplet_tag: Only Droplets with this tag; all if not given.
        regions: The regions to copy to, separated by commas or spaces; all available ones if not given. In the form,
            click the arrow to open the list.
        newest: How many of the newest backups of each Droplet to copy, 1 to 100.
        wait: Whether to wait until the copies have arrived. The run always waits for conversions.
        timeout_minutes: Time limit of the whole run, in minutes, at most a week. Transfers in progress by then
            continue, and the next run adopts them.
        dry_run: Only report what would be done; change nothing.
        image_ids: Only these images instead of the newest backups of all Droplets; with `droplet_tag`, both. IDs are
            separated by commas or spaces.
        prune: Once all copies have arrived, run `prune_snapshots` with its defaults for these Droplets. Requires
            `droplet_tag` if `image_ids` is given.
        source: `backups` copies the newest backups, which DigitalOcean makes. `snapshots` takes a snapshot of each
            Droplet and copies that, so that the backups stay backups.
        credentials: The account: the name of its block of the type DigitalOcean Credentials. If not given, the one
            whose token is in the environment.

    Returns:
        The report, with one row per image and region.

    Raises:
        Incomplete: Some copies did not arrive; its `report` says which and why.
        DigitalOceanError: The run could not start: a setting, a parameter or the token is wrong.
    """
    if source == "snapshots" and image_ids is not None and not droplet_tag:
        raise ContradictoryParameters("snapshots are taken of Droplets: leave image_ids out, or set droplet_tag too")
    if source == "snapshots" and newest > 1:
        raise ContradictoryParameters("newest applies to backups: leave it out if the source is snapshots")
    if prune and image_ids is not None and not droplet_tag:
        raise ContradictoryParameters("prune needs Droplets: leave image_ids out, or set droplet_tag too")

    began = None

    def choose(connection: Connection, targets: Targets) -> Selection:
        nonlocal began
        named = named_images(image_ids, connection) if image_ids is not None else Selection(())
        if image_ids is not None and not droplet_tag:
            return named
        if source == "snapshots":
            choice = choose_snapshots(
                droplet_tag, None, connection, regions=targets.regions, estimate=dry_run, began=began
            )
            began, droplets, selection = choice.began, choice.droplets, choice.selection
        else:
            inventory = take_inventory(droplet_tag, connection)
            droplets, selection = tuple(inventory.droplets), newest_backups(inventory, connection, newest)
        if not dry_run:
            record_droplets(droplets, connection)
        return named + selection

    report = replicate(
        choose,
        lambda connection: choose_targets(regions, connection),
        credentials=credentials,
        wait=wait,
        timeout_minutes=timeout_minutes,
        dry_run=dry_run,
    )
    if prune:
        with deadline(timeout_minutes * 60 - report.usage.seconds):
            _prune(droplet_tag, regions, credentials, dry_run=dry_run)
    return report


def _prune(
    droplet_tag: str | None, regions: list[str] | None, credentials: OptionalCredentials, *, dry_run: bool
) -> None:
    """Run `prune_snapshots`, which skips Droplets whose newest recovery point is missing in a region."""
    try:
        prune_snapshots(droplet_tag, regions=regions, dry_run=dry_run, credentials=credentials)
    except Exception as error:  # noqa: BLE001  # the copies have arrived; the pruning run has its own state
        get_run_logger().error("The copies have arrived, but old snapshots were not deleted: %s", error)


if __name__ == "__main__":
    run_from_command_line(replicate_backups)
