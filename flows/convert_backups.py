"""Converts the backups you name to snapshots."""

from collections.abc import Iterable

from prefect import flow

from flows.command_line import run_from_command_line
from flows.image_locks import locked
from flows.names import images_run_name
from flows.parameters import ImageIds, TimeoutMinutes
from flows.replication.image_selection import named_images
from flows.replication.planning import plan_conversions
from flows.replication.rows import rows_of_missing
from flows.replication.run import actions_on, announce_plan, carry_out
from flows.reporting.report import ReplicationReport
from flows.results import explains_result, finish
from tasks.connection import connect
from tasks.digitalocean import Image, deadline, track_usage

CONVERSIONS_KEY = "conversions"


@flow(name="convert-backups", flow_run_name=images_run_name)
@explains_result
def convert_backups(
    image_ids: ImageIds,
    wait: bool = True,
    timeout_minutes: TimeoutMinutes = 360,
) -> ReplicationReport:
    """Convert the backups you name to snapshots, which are kept, and cost money, until you delete them.

    A converted backup no longer counts as a backup of its Droplet: you cannot restore the Droplet from it in place.

    Args:
        image_ids: IDs of backups, separated by commas or spaces. Snapshots are left as they are.
        wait: Whether to wait until the conversions have completed.
        timeout_minutes: Time limit of the whole run, in minutes, at most a week.

    Returns:
        The report, with one row per image.

    Raises:
        Incomplete: Some images were not converted; its `report` says which and why.
        DigitalOceanError: The run could not start: a setting, a parameter or the token is wrong.
    """
    connection = connect()
    with (
        track_usage() as counter,
        deadline(timeout_minutes * 60) as limit,
        locked(
            lambda: named_images(image_ids, connection),
            lambda selection: [each.id for each in backups_among(selection.images)],
        ) as selection,
    ):
        known = actions_on(backups_among(selection.images), connection)
        plan = plan_conversions(selection.candidates, known.actions, known.unread)
        announce_plan(plan, connection)
        result = carry_out(plan, connection, limit, wait=wait)
    report = ReplicationReport(
        conversions=result.conversions + rows_of_missing(selection, ()),
        added_gib=plan.added_gib,
        added_unsized=plan.unsized_conversions,
        price_per_gib_month=connection.settings.snapshot_price_per_gib_month,
        usage=counter.usage,
        interrupted=result.interrupted,
    )
    return finish(report, CONVERSIONS_KEY)


def backups_among(images: Iterable[Image]) -> list[Image]:
    """Return only the backups."""
    return [image for image in images if image.type == "backup"]


if __name__ == "__main__":
    run_from_command_line(convert_backups)
