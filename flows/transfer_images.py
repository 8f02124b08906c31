"""Named images, in every region."""

from contextlib import nullcontext
from typing import Annotated

from prefect import flow
from pydantic import Field

from flows.command_line import run_from_command_line
from flows.endings import ends_plainly
from flows.names import replication_run_name
from flows.one_at_a_time import one_run_at_a_time
from flows.replication.lookup import look_up
from flows.replication.planning import lacking, plan_replication
from flows.replication.run import conclude, replicate
from flows.replication.selection import Candidate, target_regions
from tasks.account_actions import list_actions_on
from tasks.digitalocean import RegionSlug, ResourceId, connect, tally_requests
from tasks.regions import list_regions
from tasks.reporting.report import Outcome, ReplicationReport, Row


@flow(name="transfer-images", flow_run_name=replication_run_name)
@ends_plainly
def transfer_images(
    image_ids: list[ResourceId],
    regions: list[RegionSlug] | None = None,
    wait: bool = True,
    timeout_minutes: Annotated[int, Field(ge=1)] = 360,
    dry_run: bool = False,
) -> ReplicationReport:
    """Copy named images to every region, and wait until they are there.

    Backups among them are converted to snapshots first.

    Args:
        image_ids: Ids of backups or snapshots, each from 1 on.
        regions: Slugs of the regions to copy to, such as nyc3; empty for every region that takes images.
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
            images, gone = look_up(image_ids)
            candidates = [Candidate(image, source=image.name or str(image.id)) for image in images]
            missing = lacking(candidates, targets)
            actions = list_actions_on(missing) if missing else []
            plan = plan_replication(candidates, targets, actions, connection.client.server_clock.now())
            rows = replicate(plan, connection, wait=wait, timeout_minutes=timeout_minutes, dry_run=dry_run)
    return conclude(rows + _rows_of_gone(gone, targets), targets, tally, dry_run=dry_run)


def _rows_of_gone(image_ids: list[int], regions: tuple[str, ...]) -> tuple[Row, ...]:
    return tuple(
        Row(
            source=str(image_id),
            image_id=image_id,
            region=region,
            outcome=Outcome.FAILED,
            error=f"there is no image {image_id}, or it was deleted",
        )
        for image_id in image_ids
        for region in regions
    )


if __name__ == "__main__":
    run_from_command_line(transfer_images)
