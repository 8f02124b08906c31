"""The main job: the newest backups of all Droplets, as snapshots, in every region."""

from prefect import flow

from flows.announcements import announces_its_end
from flows.command_line import run_from_command_line
from flows.endings import ends_plainly
from flows.names import replication_run_name
from flows.parameters import DropletTag, Newest, OptionalImageIds, Regions, TimeoutMinutes
from flows.replication.choosing import named_images, newest_backups
from flows.replication.run import replicate
from flows.replication.selection import Selection
from tasks.reporting.report import ReplicationReport


@flow(name="replicate-backups", flow_run_name=replication_run_name)
@announces_its_end
@ends_plainly
def replicate_backups(
    droplet_tag: DropletTag = None,
    regions: Regions = None,
    newest: Newest = 1,
    wait: bool = True,
    timeout_minutes: TimeoutMinutes = 360,
    dry_run: bool = False,
    image_ids: OptionalImageIds = None,
) -> ReplicationReport:
    """Copy the newest backups of Droplets to every region, and wait until they are there.

    Backups are converted to snapshots first, because only snapshots can be copied; snapshots cost money until they
    are deleted. A second run finds nothing to do; a run that was cut short is finished by the next one.

    Args:
        droplet_tag: Only Droplets that bear this tag (letters, digits, colons, dashes, underscores), or all.
        regions: The regions to copy to, or all that take images. In the form, the list opens at its arrow.
        newest: How many of the newest backups of each Droplet, 1 to 100.
        wait: Whether to wait until the copies have arrived. Conversions are waited for in any case.
        timeout_minutes: When to stop waiting, in minutes, up to a week; what is under way then is taken up by the next
            run.
        dry_run: Only say what would be done; nothing is changed.
        image_ids: Instead of the newest backups of all Droplets, only these backups or snapshots; with `droplet_tag`,
            these as well.

    Returns:
        The report, with a row an image and region.

    Raises:
        Incomplete: Some copies did not arrive; its `report` says which and why.
        DigitalOceanError: The run could not begin: a setting, a parameter or the token is wrong.
    """

    def choose() -> Selection:
        if image_ids is None:
            return newest_backups(droplet_tag, newest)
        named = named_images(image_ids)
        return named + newest_backups(droplet_tag, newest) if droplet_tag else named

    return replicate(choose, regions, wait=wait, timeout_minutes=timeout_minutes, dry_run=dry_run)


if __name__ == "__main__":
    run_from_command_line(replicate_backups)
