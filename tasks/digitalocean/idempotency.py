"""Starting an image action, or deleting an image, exactly once.

The API has no idempotency key: a request that timed out, was cut off or was answered with a 5xx, a 408 or the like may
have been carried out all the same. The only way to know is to look: at the image's actions, or whether the image is
still there.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime, timedelta

from tasks.digitalocean.client import DigitalOceanClient, image_path
from tasks.digitalocean.errors import APIError, NotFound
from tasks.digitalocean.models import Action, ImageActionRequest
from tasks.digitalocean.rate_limiter import Permit

# An action that began this long before its request was started by someone else, however wrong the clocks are.
MOST_BETWEEN_CLOCKS = timedelta(minutes=15)

logger = logging.getLogger(__name__)


async def post_once(
    client: DigitalOceanClient, image_id: int, request: ImageActionRequest, permit: Permit | None = None
) -> Action:
    """Start an action, and on an unclear response find out whether it was started.

    https://docs.digitalocean.com/reference/api/digitalocean/#operation/imageActions_post

    Args:
        client: The API.
        image_id: The image to act on.
        request: What to do.
        permit: A permit that was acquired for it.

    Returns:
        The action that was started, or found to have been started by this request.

    Raises:
        APIError: It was not started; `repeatable` tells whether it is safe to ask again. After an unclear response
            that could not be cleared up either, it is not.
    """
    since = client.server_clock.now()
    try:
        path = f"{image_path(image_id)}/actions"
        return (await client.request("POST", path, json=request.model_dump(), permit=permit)).one(Action, "action")
    except APIError as error:
        if not error.ambiguous:
            raise
        # What is still being worked on may take a moment to appear.
        await asyncio.sleep(client.settings.poll_interval_seconds)
        try:
            action = await find_applied(client, image_id, request, since)
        except APIError as lookup:
            logger.warning("Whether it was carried out is unknown: %s", lookup)
            raise error from lookup
        if action is None:
            error.not_applied = True
            raise
        logger.warning("%s; but action %d shows that it was carried out", error, action.id)
        return action


async def get_started_action(client: DigitalOceanClient, image_id: int, action_id: int) -> Action:
    """Read an action that was started a moment ago, so that the API may not know it yet.

    Args:
        client: The API.
        image_id: The image it runs on.
        action_id: The action.

    Returns:
        The action as it is now.

    Raises:
        NotFound: The image is gone. Or the action is not there though its image is: then the error is transient.
        APIError: It cannot be looked at.
    """
    try:
        return await client.get_image_action(image_id, action_id)
    except NotFound as error:
        await client.get_image(image_id)
        error.transient = True
        raise


async def find_applied(
    client: DigitalOceanClient, image_id: int, request: ImageActionRequest, since: datetime
) -> Action | None:
    """Find the action that a request has started.

    Args:
        client: The API.
        image_id: The image.
        request: What was asked for.
        since: When it was asked for, by the server's clock.

    Returns:
        The action, whoever started it if it is in progress; None if it was not started.

    Raises:
        APIError: The image's actions cannot be read.
    """
    actions = await client.list_image_actions(image_id)
    matching = [action for action in actions if request.matches(action)]
    earliest = since - MOST_BETWEEN_CLOCKS
    return next(
        (action for action in matching if action.in_progress or (action.completed and action.started_at >= earliest)),
        None,
    )


async def delete_once(client: DigitalOceanClient, image_id: int) -> bool:
    """Delete a snapshot or custom image, and on an unclear response find out whether it was deleted.

    https://docs.digitalocean.com/reference/api/digitalocean/#operation/images_delete

    Args:
        client: The API.
        image_id: The image to delete.

    Returns:
        Whether this call deleted it; if not, it was gone before.

    Raises:
        APIError: It was not deleted; `repeatable` tells whether it is safe to ask again. After an unclear answer that
            could not be cleared up either, it is not.
    """
    try:
        await client.request("DELETE", image_path(image_id))
    except NotFound as error:
        if not await _is_gone(client, image_id):
            # Nothing was done, and not because there was nothing to do.
            error.transient = error.not_applied = True
            raise
        return False
    except APIError as error:
        if not error.ambiguous:
            raise
        # What is still being worked on may take a moment to show.
        await asyncio.sleep(client.settings.poll_interval_seconds)
        try:
            image = await client.find_image(image_id)
        except APIError as look:
            logger.warning("Whether it was carried out is unknown: %s", look)
            raise error from look
        if image is not None:
            error.not_applied = True
            raise
        logger.warning("%s; but image %d is gone, so it was carried out", error, image_id)
    return True


async def _is_gone(client: DigitalOceanClient, image_id: int) -> bool:
    """Whether an image is deleted. Asks twice: a 404 may pass, and a snapshot that is kept costs money."""
    if await client.find_image(image_id) is not None:
        return False
    await asyncio.sleep(client.settings.poll_interval_seconds)
    return await client.find_image(image_id) is None
