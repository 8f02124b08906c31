"""Which Droplet's newest image is in which region; changes nothing."""

from datetime import UTC, datetime

from prefect import flow

from flows.command_line import run_from_command_line
from flows.endings import ends_plainly
from flows.names import coverage_run_name
from flows.parameters import DropletTag, Regions
from flows.replication.choosing import newest_backups
from flows.replication.planning import plan_replication
from flows.replication.run import conclude, planned_rows
from flows.replication.selection import target_regions
from tasks.digitalocean import tally_requests
from tasks.regions import list_regions
from tasks.reporting.report import ReplicationReport


@flow(name="report-coverage", flow_run_name=coverage_run_name)
@ends_plainly
def report_coverage(
    droplet_tag: DropletTag = None,
    regions: Regions = None,
) -> ReplicationReport:
    """Report which Droplet's newest recovery point is in which region; changes nothing.

    Args:
        droplet_tag: Only Droplets that bear this tag (letters, digits, colons, dashes, underscores), or all.
        regions: The regions to look at, or all that take images. In the form, the list opens at its arrow.

    Returns:
        The report, with a row an image and region: `already_there`, or `planned` where `replicate_backups` would
        have to copy it.

    Raises:
        DigitalOceanError: The run could not begin: a setting, a parameter or the token is wrong.
    """
    with tally_requests() as tally:
        targets = target_regions(list_regions(), regions)
        selection = newest_backups(droplet_tag)
    plan = plan_replication(selection.candidates, targets, (), datetime.now(UTC))
    return conclude(planned_rows(plan), targets, tally, selection, dry_run=False)


if __name__ == "__main__":
    run_from_command_line(report_coverage)
