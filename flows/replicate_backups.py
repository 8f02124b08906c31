"""The main job: the newest backups of all Droplets, as snapshots, in every region."""

from prefect import flow, get_run_logger

from flows.command_line import run_from_command_line
from flows.hooks import announce_abnormal_end
from flows.inventory import take_inventory
from flows.names import replication_run_name
from flows.parameters import ContradictoryParameters, DropletTag, Newest, OptionalImageIds, Regions, TimeoutMinutes
from flows.prune_snapshots import prune_snapshots
from flows.replication.image_selection import named_images, newest_backups
from flows.replication.recovery_points import Selection
from flows.replication.run import replicate
from flows.reporting.report import ReplicationReport
from flows.results import explains_result
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
) -> ReplicationReport:
    """Copy the newest backups of Droplets to every region, and wait until they are there.

    Backups are converted to snapshots first, because only snapshots can be copied. A snapshot costs money until it is
    deleted, and a converted backup is no longer among its Droplet's backups. A second run finds nothing to do; a run
    that was cut short is finished by the next one.

    Args:
        droplet_tag: Only Droplets with this tag; all if not given.
        regions: The regions to copy to, separated by commas or spaces; all available ones if not given. In the form,
            the list opens at its arrow.
        newest: How many of the newest backups of each Droplet, 1 to 100.
        wait: Whether to wait until the copies have arrived. Conversions are always waited for.
        timeout_minutes: When to stop, in minutes, at most a week; all that the run waits for is included. Transfers
            that are in progress by then go on, and the next run adopts them.
        dry_run: Only say what would be done; nothing is changed.
        image_ids: Only these images instead of the newest backups of all Droplets; with `droplet_tag`, these as well.
            IDs are separated by commas or spaces.
        prune: When everything has arrived, delete the snapshots of these Droplets that `prune_snapshots` would not keep
            by default. Not with `image_ids` alone, which name no Droplets.

    Returns:
        The report, with one row per image and region.

    Raises:
        Incomplete: Some copies did not arrive; its `report` says which and why.
        DigitalOceanError: The run could not start: a setting, a parameter or the token is wrong.
    """
    if prune and image_ids is not None and not droplet_tag:
        raise ContradictoryParameters("prune is for Droplets: leave image_ids out, or name a droplet_tag as well")

    def choose(connection: Connection) -> Selection:
        named = named_images(image_ids, connection) if image_ids is not None else Selection(())
        if image_ids is not None and not droplet_tag:
            return named
        return named + newest_backups(take_inventory(droplet_tag, connection), connection, newest)

    report = replicate(choose, regions, wait=wait, timeout_minutes=timeout_minutes, dry_run=dry_run)
    if prune:
        with deadline(timeout_minutes * 60 - report.usage.seconds):
            _prune(droplet_tag, regions, dry_run=dry_run)
    return report


def _prune(droplet_tag: str | None, regions: list[str] | None, *, dry_run: bool) -> None:
    """Run `prune_snapshots`, which touches no Droplet whose newest recovery point has not arrived everywhere."""
    try:
        prune_snapshots(droplet_tag, regions=regions, dry_run=dry_run)
    except Exception as error:  # noqa: BLE001  # that run has failed, and says so; the copies of this one are made
        get_run_logger().error("The copies are made, but old snapshots were not deleted: %s", error)


if __name__ == "__main__":
    run_from_command_line(replicate_backups)
