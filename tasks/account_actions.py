"""Tasks for the account's feed of actions."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from tasks.api_task import api_task
from tasks.connection import aconnect
from tasks.credentials import Credentials
from tasks.digitalocean import Action, APIError, Image, NotFound, ScopeMissing, Unauthorized
from tasks.digitalocean.client import DigitalOceanClient

SNAPSHOT = "snapshot"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class KnownActions:
    """The actions on some images, as far as they could be read.

    Attributes:
        actions: The actions, in no particular order.
        unread: Why the actions of an image or Droplet cannot be read, by its ID. Start nothing on it: it may already be
            in progress.
    """

    actions: Sequence[Action] = ()
    unread: Mapping[int, str] = field(default_factory=dict)


@api_task(task_run_name="list actions on images", repeats=False)
async def list_actions_on(images: Sequence[Image], *, credentials: Credentials = None) -> KnownActions:
    """List the actions on some images, with few requests.

    Reads the account's feed back to the creation of the oldest image. If that would take more requests than reading
    each image's actions, or if the feed cannot be read, reads each image's actions instead.

    https://docs.digitalocean.com/reference/api/digitalocean/#operation/actions_list
    https://docs.digitalocean.com/reference/api/digitalocean/#operation/imageActions_list

    Args:
        images: The images.
        credentials: The account: a block or its name; None for the token in the environment.

    Returns:
        Their actions, and the images whose actions cannot be read.

    Raises:
        Unauthorized: The token is wrong.
        ScopeMissing: The token lacks the scope to read images.
    """
    client = (await aconnect(credentials)).client
    wanted = {image.id for image in images}
    oldest = min((image.created_at for image in images), default=None)
    feed = await _from_feed(client, oldest, "image", len(images)) if oldest and len(images) > 1 else None
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


@api_task(task_run_name="list snapshot actions on Droplets", repeats=False)
async def list_snapshot_actions_on(
    droplet_ids: Collection[int], since: datetime, *, credentials: Credentials = None
) -> KnownActions:
    """List the actions that take snapshots of some Droplets, with few requests.

    Reads the account's feed back to a time. If that would take more requests than reading each Droplet's actions, or if
    the feed cannot be read, reads each Droplet's actions instead.

    https://docs.digitalocean.com/reference/api/digitalocean/#operation/actions_list
    https://docs.digitalocean.com/reference/api/digitalocean/#operation/dropletActions_list

    Args:
        droplet_ids: The Droplets.
        since: Actions that started earlier do not matter.
        credentials: The account: a block or its name; None for the token in the environment.

    Returns:
        Their actions, and the Droplets whose actions cannot be read.

    Raises:
        Unauthorized: The token is wrong.
        ScopeMissing: The token lacks the scope to read Droplets.
    """
    client, wanted = (await aconnect(credentials)).client, sorted(set(droplet_ids))
    feed = await _from_feed(client, since, "droplet", len(wanted)) if wanted else ([], ())
    if feed:
        return KnownActions([each for each in feed[0] if each.type == SNAPSHOT and each.resource_id in wanted])
    found: list[Action] = []
    unread: dict[int, str] = {}
    for droplet_id in wanted:
        try:
            actions = await client.list_droplet_actions(droplet_id)
        except (Unauthorized, ScopeMissing):
            raise
        except APIError as error:
            if not isinstance(error, NotFound):
                logger.warning("Could not read the actions of Droplet %d: %s", droplet_id, error)
                unread[droplet_id] = f"its actions cannot be read: {error}"
        else:
            found += [each.model_copy(update={"resource_id": droplet_id}) for each in actions if each.type == SNAPSHOT]
    return KnownActions(found, unread)


async def _from_feed(
    client: DigitalOceanClient, oldest: datetime, resource_type: str, most_pages: int
) -> tuple[list[Action], Collection[int | None]] | None:
    """Read the feed back to a time; None if it cannot be read, or has more pages.

    Returns:
        The actions on resources of the type, and the IDs of images with an action in it that cannot be read.
    """
    # An action that another run started just before it died may not be in the feed yet.
    await asyncio.sleep(client.settings.poll_interval_seconds)
    found: list[Action] = []
    unclear: set[int | None] = set()
    for number in range(1, most_pages + 1):
        try:
            page = await client.list_recent_actions(number)
        except Unauthorized:
            raise
        except APIError as error:
            # A token may have the scope for images, but not for the account's actions.
            logger.info("Could not read the account's actions, reading those of each image instead: %s", error)
            return None
        # IDs are unique only among resources of the same type.
        found += [action for action in page.actions if action.resource_type == resource_type]
        unclear.update(page.unread)
        if not page.more or (page.actions and page.actions[-1].started_at < oldest):
            return found, unclear
    return None
