"""Every action ever run on some images."""

from prefect import flow, get_run_logger

from flows.command_line import run_from_command_line
from flows.names import images_run_name
from flows.parameters import ImageIds
from flows.reporting.artifacts import publish_or_log
from flows.reporting.report import ActionHistory, ImageHistory
from flows.reporting.tables import escaped, history_table
from flows.results import Incomplete, explains_result
from tasks.digitalocean import APIError, InvalidArgument, track_usage
from tasks.image_actions import list_image_actions

HISTORY_KEY = "image-action-history"


@flow(name="image-action-history", flow_run_name=images_run_name)
@explains_result
def image_action_history(image_ids: ImageIds) -> ActionHistory:
    """List every action ever run on some images; changes nothing.

    Args:
        image_ids: IDs of images, separated by commas or spaces.

    Returns:
        The actions of each image.

    Raises:
        Incomplete: The actions of some images could not be read; its `report` says which and why.
        DigitalOceanError: The run could not start: a setting, a parameter or the token is wrong.
    """
    wanted = list(dict.fromkeys(image_ids))
    if not wanted:
        raise InvalidArgument("the list of images is empty: name at least one image ID")
    with track_usage() as usage:
        images = tuple(_history_of(image_id) for image_id in wanted)
    report = ActionHistory(images=images, api_requests=usage.requests, seconds=usage.seconds)
    publish_or_log(HISTORY_KEY, escaped(history_table(report)), f"**{report.summary}**")
    get_run_logger().info(report.summary)
    if report.failure:
        raise Incomplete(report)
    return report


def _history_of(image_id: int) -> ImageHistory:
    try:
        return ImageHistory(image_id=image_id, actions=tuple(list_image_actions(image_id)))
    except APIError as error:
        return ImageHistory(image_id=image_id, error=str(error))


if __name__ == "__main__":
    run_from_command_line(image_action_history)
