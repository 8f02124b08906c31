"""Tasks for the account's feed of actions."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from tasks.api_task import api_task
from tasks.connection import connect
from tasks.digitalocean import Action, APIError, Connection, Image, NotFound, ScopeMissing, Unauthorized
from tasks.digitalocean.client import DigitalOceanClient

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class KnownActions:
    """The actions on some images, as far as they could be read.

    Attributes:
        actions: The actions, in no particular order.
        unread: Why the actions of an image cannot be read, by image ID. Start nothing on such an image: it may already
            be in progress.
    """

    actions: Sequence[Action] = ()
    unread: Mapping[int, str] = field(default_factory=dict)


@api_task(task_run_name="list actions on images", repeats=False)
async def list_actions_on(images: Sequence[Image], *, connection: Connection | None = None) -> KnownActions:
    """List the actions on some images, with few requests.

    Reads the account's feed back to the creation of the oldest image. If that would take more requests than reading
    each image's actions, or if the feed cannot be read, reads each image's actions instead.

    https://docs.digitalocean.com/reference/api/digitalocean/#operation/actions_list
    https://docs.digitalocean.com/reference/api/digitalocean/#operation/imageActions_list

    Args:
        images: The images.
        connection: The API; None to connect with the settings in the environment.

    Returns:
        Their actions, and the images whose actions cannot be read.

    Raises:
        Unauthorized: The token is wrong.
        ScopeMissing: The token lacks the scope to read images.
    """
    client = (connection or connect()).client
    wanted = {image.id for image in images}
    feed = await _from_feed(client, images) if len(images) > 1 else None
    found, unclear = feed or ([], {None})
    found = [action for action in found if action.resource_id in wanted]
    unread: dict[int, str] = {}
    for image_id in sorted(wanted if None in unclear else wanted & {each for each in unclear if each is not None}):
        try:
            actions = await client.list_image_actions(image_id)
        except (Unauthorized, ScopeMissing):
            raise
        except APIError as error:
            if isinstance(error, NotFound) and not error.transient:
                continue  # the image is gone, and its actions with it
            logger.warning("Could not read the actions of image %d: %s", image_id, error)
            unread[image_id] = f"its actions cannot be read: {error}"
        else:
            found += [action.model_copy(update={"resource_id": image_id}) for action in actions]
    return KnownActions(found, unread)


async def _from_feed(
    client: DigitalOceanClient, images: Sequence[Image]
) -> tuple[list[Action], Collection[int | None]] | None:
    """Read the feed; returns the actions, and the IDs of images with an action in it that cannot be read."""
    oldest = min(image.created_at for image in images)
    # An action that another run started just before it died may not be in the feed yet.
    await asyncio.sleep(client.settings.poll_interval_seconds)
    found: list[Action] = []
    unclear: set[int | None] = set()
    for number in range(1, len(images) + 1):
        try:
            page = await client.list_recent_actions(number)
        except Unauthorized:
            raise
        except APIError as error:
            # A token may have the scope for images, but not for the account's actions.
            logger.info("Could not read the account's actions, reading those of each image instead: %s", error)
            return None
        # IDs are unique only among resources of the same type.
        found += [action for action in page.actions if action.resource_type == "image"]
        unclear.update(page.unread)
        if not page.more or (page.actions and page.actions[-1].started_at < oldest):
            return found, unclear
    return None
