"""Lists all actions on images."""

from prefect import flow

from flows.command_line import run_from_command_line
from flows.names import images_run_name
from flows.parameters import ImageIds, OptionalCredentials
from flows.reporting.report import ActionHistory, ImageHistory
from flows.results import explains_result, finish
from flows.waiting import waiting_for
from tasks.connection import connect
from tasks.digitalocean import APIError, Connection, InvalidArgument, track_usage
from tasks.image_actions import list_image_actions

HISTORY_KEY = "image-action-history"


@flow(name="image-action-history", flow_run_name=images_run_name)
@explains_result
def image_action_history(image_ids: ImageIds, credentials: OptionalCredentials = None) -> ActionHistory:
    """List every action ever run on the images you name; changes nothing.

    Args:
        image_ids: IDs of images, separated by commas or spaces.
        credentials: The account: the name of its block of the type DigitalOcean Credentials. If not given, the one
            whose token is in the environment.

    Returns:
        The actions of each image.

    Raises:
        Incomplete: The actions of some images could not be read; its `report` says which and why.
        DigitalOceanError: The run could not start: a setting, a parameter or the token is wrong.
    """
    wanted = list(dict.fromkeys(image_ids))
    if not wanted:
        raise InvalidArgument("the list of images is empty: name at least one image ID")
    connection = connect(credentials)
    with track_usage() as counter, waiting_for("Reading actions", connection):
        images = tuple(_history_of(image_id, connection) for image_id in wanted)
    return finish(ActionHistory(images=images, account=connection.account, usage=counter.usage), HISTORY_KEY)


def _history_of(image_id: int, connection: Connection) -> ImageHistory:
    try:
        return ImageHistory(image_id=image_id, actions=tuple(list_image_actions(image_id, credentials=connection)))
    except APIError as error:
        return ImageHistory(image_id=image_id, error=str(error))


if __name__ == "__main__":
    run_from_command_line(image_action_history)
