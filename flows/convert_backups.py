"""Converts the backups you name to snapshots."""

from prefect import flow

from flows.command_line import run_from_command_line
from flows.names import images_run_name
from flows.parameters import ImageIds, OptionalCredentials, TimeoutMinutes
from flows.replication.image_selection import Targets, named_images
from flows.replication.run import replicate
from flows.reporting.report import ReplicationReport
from flows.results import explains_result


@flow(name="convert-backups", flow_run_name=images_run_name)
@explains_result
def convert_backups(
    image_ids: ImageIds,
    wait: bool = True,
    timeout_minutes: TimeoutMinutes = 360,
    credentials: OptionalCredentials = None,
) -> ReplicationReport:
    """Convert the backups you name to snapshots, which are kept, and cost money, until you delete them.

    A converted backup no longer counts as a backup of its Droplet: you cannot restore the Droplet from it in place.

    Args:
        image_ids: IDs of backups, separated by commas or spaces. Snapshots are left as they are.
        wait: Whether to wait until the conversions have completed.
        timeout_minutes: Time limit of the whole run, in minutes, at most a week.
        credentials: The account: the name of its block of the type DigitalOcean Credentials. If not given, the one
            whose token is in the environment.

    Returns:
        The report, with one row per image.

    Raises:
        Incomplete: Some images were not converted; its `report` says which and why.
        DigitalOceanError: The run could not start: a setting, a parameter or the token is wrong.
    """
    return replicate(
        lambda connection, _targets: named_images(image_ids, connection),
        lambda _connection: Targets(()),
        credentials=credentials,
        wait=wait,
        timeout_minutes=timeout_minutes,
    )


if __name__ == "__main__":
    run_from_command_line(convert_backups)
