"""Copies the images you name to every region."""

from prefect import flow

from flows.command_line import run_from_command_line
from flows.hooks import announce_abnormal_end
from flows.names import replication_run_name
from flows.parameters import ImageIds, OptionalCredentials, Regions, TimeoutMinutes
from flows.replication.image_selection import choose_targets, named_images
from flows.replication.run import replicate
from flows.reporting.report import ReplicationReport
from flows.results import explains_result


@flow(
    name="transfer-images",
    flow_run_name=replication_run_name,
    on_cancellation=[announce_abnormal_end],
    on_crashed=[announce_abnormal_end],
)
@explains_result
def transfer_images(
    image_ids: ImageIds,
    regions: Regions = None,
    wait: bool = True,
    timeout_minutes: TimeoutMinutes = 360,
    dry_run: bool = False,
    credentials: OptionalCredentials = None,
) -> ReplicationReport:
    """Copy the images you name to every region, and wait until they have arrived.

    Backups are converted to snapshots first. Images and regions that the API refuses get a row with its message.

    Args:
        image_ids: IDs of backups, snapshots or custom images, separated by commas or spaces.
        regions: The regions to copy to, separated by commas or spaces; all available ones if not given. In the form,
            click the arrow to open the list.
        wait: Whether to wait until the copies have arrived. The run always waits for conversions.
        timeout_minutes: Time limit of the whole run, in minutes, at most a week. Transfers in progress by then
            continue, and the next run adopts them.
        dry_run: Only report what would be done; change nothing.
        credentials: The account: the name of its block of the type DigitalOcean Credentials. If not given, the one
            whose token is in the environment.

    Returns:
        The report, with one row per image and region.

    Raises:
        Incomplete: Some copies did not arrive; its `report` says which and why.
        DigitalOceanError: The run could not start: a setting, a parameter or the token is wrong.
    """
    return replicate(
        lambda connection, _targets: named_images(image_ids, connection),
        lambda connection: choose_targets(regions, connection),
        credentials=credentials,
        wait=wait,
        timeout_minutes=timeout_minutes,
        dry_run=dry_run,
    )


if __name__ == "__main__":
    run_from_command_line(transfer_images)
