"""Named backups, made into snapshots."""

from collections.abc import Iterable

from prefect import flow, get_run_logger

from flows.command_line import run_from_command_line
from flows.image_locks import locked
from flows.names import images_run_name
from flows.parameters import ImageIds, TimeoutMinutes
from flows.replication.conversion import Conversion, to_convert
from flows.replication.image_selection import named_images
from flows.replication.operations import LONGEST_ENDING_SECONDS
from flows.replication.run import actions_on, mark_images
from flows.reporting.artifacts import publish_or_log
from flows.reporting.report import ConversionReport, ConversionRow, added_snapshots, count
from flows.reporting.tables import conversion_table, escaped
from flows.results import Incomplete, Interrupted, explains_result
from tasks.connection import connect
from tasks.digitalocean import Image, Usage, deadline, run_blocking, track_usage

CONVERSIONS_KEY = "conversions"


@flow(name="convert-backups", flow_run_name=images_run_name)
@explains_result
def convert_backups(
    image_ids: ImageIds,
    wait: bool = True,
    timeout_minutes: TimeoutMinutes = 360,
) -> ConversionReport:
    """Convert named backups to snapshots, which are kept until they are deleted, and cost money until then.

    A converted backup is no longer among its Droplet's backups, so the Droplet cannot be restored from it in place.

    Args:
        image_ids: IDs of backups, separated by commas or spaces. Snapshots among them are left as they are.
        wait: Whether to wait until the conversions are done.
        timeout_minutes: When to stop, in minutes, at most a week; all that the run waits for is included.

    Returns:
        The report, with one row per image.

    Raises:
        Incomplete: Some images were not converted; its `report` says which and why.
        DigitalOceanError: The run could not start: a setting, a parameter or the token is wrong.
    """
    connection = connect()
    with (
        track_usage() as usage,
        deadline(timeout_minutes * 60) as limit,
        locked(
            lambda: named_images(image_ids), lambda selection: [each.id for each in backups_among(selection.images)]
        ) as selection,
    ):
        backups = backups_among(selection.images)
        known = actions_on(backups)
        tag = connection.settings.managed_tag
        chosen = [each for each in to_convert(backups, known.actions) if each.id not in known.unread]
        _announce_cost(chosen, connection.settings.snapshot_price_per_gib_month)
        untagged = mark_images(chosen, tag)
        limit.lift()
        conversion = Conversion(connection, known, wait=wait, tag=tag, tag_once_converted=untagged)
        interrupted = False
        try:
            rows = run_blocking(conversion.run(selection.images, limit.seconds_left))
        except KeyboardInterrupt:
            conversion.ended.wait(LONGEST_ENDING_SECONDS)
            rows, interrupted = conversion.rows_so_far(selection.images), True
    rows += tuple(
        ConversionRow(image_id=image_id, outcome="failed", error=why) for image_id, why in selection.missing.items()
    )
    return _conclude(rows, usage, interrupted=interrupted)


def _announce_cost(images: list[Image], price_per_gib_month: float | None) -> None:
    sizes = [image.size_gigabytes for image in images]
    added = added_snapshots(sum(size or 0.0 for size in sizes), price_per_gib_month, sizes.count(None))
    get_run_logger().info("%s to convert; adds %s", count(len(images), "backup"), added)


def backups_among(images: Iterable[Image]) -> list[Image]:
    """Choose the backups among images."""
    return [image for image in images if image.type == "backup"]


def _conclude(rows: tuple[ConversionRow, ...], usage: Usage, *, interrupted: bool) -> ConversionReport:
    report = ConversionReport(
        rows=rows,
        api_requests=usage.requests,
        too_many_requests=usage.too_many,
        seconds=usage.seconds,
        interrupted=interrupted,
    )
    publish_or_log(CONVERSIONS_KEY, escaped(conversion_table(report)), f"**{report.summary}**")
    get_run_logger().info(report.summary)
    if report.bad_rows:
        raise Interrupted(report) if interrupted else Incomplete(report)
    return report


if __name__ == "__main__":
    run_from_command_line(convert_backups)
