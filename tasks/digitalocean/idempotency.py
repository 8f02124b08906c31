"""Starting an image action, or deleting an image, exactly once.

The API has no idempotency keys: a request that timed out, was cut off or got a 5xx, a 408 or the like may have been
carried out. To find out, read the image's actions, or whether the image still exists.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime, timedelta

from tasks.digitalocean.client import DigitalOceanClient, image_path
from tasks.digitalocean.errors import APIError, NotFound
from tasks.digitalocean.models import Action, ImageActionRequest
from tasks.digitalocean.rate_limiter import Permit

# An action that started this long before the request belongs to another request, even if a clock is wrong.
MOST_BETWEEN_CLOCKS = timedelta(minutes=15)

logger = logging.getLogger(__name__)


async def post_once(
    client: DigitalOceanClient, image_id: int, request: ImageActionRequest, permit: Permit | None = None
) -> Action:
    """Start an action; after an ambiguous response, find out whether it was started.

    https://docs.digitalocean.com/reference/api/digitalocean/#operation/imageActions_post

    Args:
        client: The API.
        image_id: The image to act on.
        request: What to do.
        permit: A permit acquired for it; None to acquire one.

    Returns:
        The action that this request started.

    Raises:
        APIError: It was not started, or that is unknown; `repeatable` says whether the request may be repeated.
    """
    since = client.server_clock.now()
    try:
        path = f"{image_path(image_id)}/actions"
        return (await client.request("POST", path, json=request.model_dump(), permit=permit)).one(Action, "action")
    except APIError as error:
        if not error.ambiguous:
            raise
        # A new action may take a moment to appear.
        await asyncio.sleep(client.settings.poll_interval_seconds)
        try:
            action = await find_applied(client, image_id, request, since)
        except APIError as lookup:
            logger.warning("Could not find out whether the request was carried out: %s", lookup)
            raise error from lookup
        if action is None:
            error.not_applied = True
            raise
        logger.warning("%s; but it was carried out: found action %d", error, action.id)
        return action


async def get_started_action(client: DigitalOceanClient, image_id: int, action_id: int) -> Action:
    """Read an action that may have just been started, so that the API may not show it yet.

    Args:
        client: The API.
        image_id: The image it runs on.
        action_id: The action.

    Returns:
        The action as it is now.

    Raises:
        NotFound: The image does not exist. If only the action is missing, the error is transient.
        APIError: It cannot be read.
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
    """Find the action that a request started.

    Args:
        client: The API.
        image_id: The image.
        request: The request.
        since: When it was sent, by the server's clock.

    Returns:
        A matching action completed since then, or in progress, whoever started it; None if not found.

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
    """Delete a snapshot or custom image; after an ambiguous response, find out whether it was deleted.

    https://docs.digitalocean.com/reference/api/digitalocean/#operation/images_delete

    Args:
        client: The API.
        image_id: The image to delete.

    Returns:
        True if this call deleted it, False if it was already gone.

    Raises:
        APIError: It was not deleted, or that is unknown; `repeatable` says whether the request may be repeated.
    """
    try:
        await client.request("DELETE", image_path(image_id))
    except NotFound as error:
        if not await _is_gone(client, image_id):
            # The image still exists, so the 404 was wrong and nothing was deleted.
            error.transient = error.not_applied = True
            raise
        return False
    except APIError as error:
        if not error.ambiguous:
            raise
        # A deletion may take a moment to show.
        await asyncio.sleep(client.settings.poll_interval_seconds)
        try:
            image = await client.find_image(image_id)
        except APIError as lookup:
            logger.warning("Could not find out whether the request was carried out: %s", lookup)
            raise error from lookup
        if image is not None:
            error.not_applied = True
            raise
        logger.warning("%s; but it was carried out: image %d is gone", error, image_id)
    return True


async def _is_gone(client: DigitalOceanClient, image_id: int) -> bool:
    """Whether an image no longer exists. Reads twice: a 404 may be transient, and a forgotten snapshot costs money."""
    if await client.find_image(image_id) is not None:
        return False
    await asyncio.sleep(client.settings.poll_interval_seconds)
    return await client.find_image(image_id) is None
