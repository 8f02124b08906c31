"""Starting an image action or a snapshot, creating a Droplet, or deleting an image or a Droplet, exactly once.

The API has no idempotency keys: a request that timed out, was cut off or got a 5xx, a 408 or the like may have been
carried out. To find out, read the image's actions, the Droplet's snapshots and actions, the Droplets with the new one's
tag, or whether it still exists.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from tasks.digitalocean.client import DigitalOceanClient, droplet_path, image_path
from tasks.digitalocean.errors import APIError, NotFound
from tasks.digitalocean.models import Action, CreateDroplet, Droplet, ImageActionRequest, TakeSnapshot
from tasks.digitalocean.rate_limiter import Permit

# An action that started this long before the request belongs to another request, even if a clock is wrong.
MOST_BETWEEN_CLOCKS = timedelta(minutes=15)
# Times in actions are cut to seconds, and the server's clock is known to about a second.
CLOCK_TOLERANCE = timedelta(seconds=5)

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


@dataclass(frozen=True)
class StartedSnapshot:
    """A snapshot that was started.

    Attributes:
        action: Its action; None if the snapshot is listed already.
        found: Whether the action was found after an ambiguous response, so that it may be another's: actions do not
            tell the name of their snapshot.
    """

    action: Action | None
    found: bool = False


async def take_snapshot_once(
    client: DigitalOceanClient, droplet_id: int, request: TakeSnapshot, permit: Permit | None = None
) -> StartedSnapshot:
    """Start a snapshot of a Droplet; after an ambiguous response, find out whether it was started.

    https://docs.digitalocean.com/reference/api/digitalocean/#operation/dropletActions_post

    Args:
        client: The API.
        droplet_id: The Droplet.
        request: The snapshot; no other of the Droplet may have its name.
        permit: A permit acquired for it; None to acquire one.

    Returns:
        The snapshot that this request started, as far as that is certain.

    Raises:
        APIError: It was not started, or that is unknown; `repeatable` says whether the request may be repeated.
    """
    since = client.server_clock.now()
    try:
        return StartedSnapshot(await client.take_snapshot(droplet_id, request, permit))
    except APIError as error:
        if not error.ambiguous:
            raise
        # A new action may take a moment to appear.
        await asyncio.sleep(client.settings.poll_interval_seconds)
        try:
            started = await find_started_snapshot(client, droplet_id, request, since)
        except APIError as lookup:
            logger.warning("Could not find out whether the request was carried out: %s", lookup)
            raise error from lookup
        if started is None:
            error.not_applied = True
            raise
        logger.warning("%s; but it was carried out", error)
        return started


async def find_started_snapshot(
    client: DigitalOceanClient, droplet_id: int, request: TakeSnapshot, since: datetime
) -> StartedSnapshot | None:
    """Find the snapshot that a request started.

    Args:
        client: The API.
        droplet_id: The Droplet.
        request: The request.
        since: When it was sent, by the server's clock.

    Returns:
        An action that takes a snapshot, in progress or completed since then, whoever started it, because actions do not
        tell the name; or that the snapshot is listed by its name. None if nothing is found.

    Raises:
        APIError: The Droplet's actions or snapshots cannot be read.
    """
    # Actions first: one that completes after it was read shows in the list of snapshots.
    actions = [each for each in await client.list_droplet_actions(droplet_id) if request.matches(each)]
    if running := next((each for each in actions if each.in_progress), None):
        return StartedSnapshot(running, found=True)
    if any(each.name == request.name for each in await client.list_snapshots_of(droplet_id)):
        return StartedSnapshot(None)
    # The list may show a snapshot only some time after its action has completed.
    recent = (each for each in actions if each.completed and each.started_at >= since - CLOCK_TOLERANCE)
    return next((StartedSnapshot(each, found=True) for each in recent), None)


async def create_droplet_once(
    client: DigitalOceanClient, request: CreateDroplet, marker: str, permit: Permit | None = None
) -> Droplet:
    """Create a Droplet; after an ambiguous response, find out whether it was created.

    https://docs.digitalocean.com/reference/api/digitalocean/#operation/droplets_create

    Args:
        client: The API.
        request: What to create.
        marker: The one of its tags that no other Droplet in the region has.
        permit: A permit acquired for it; None to acquire one.

    Returns:
        The Droplet that this request created.

    Raises:
        APIError: It was not created, or that is unknown; `repeatable` says whether the request may be repeated.
    """
    try:
        return await client.create_droplet(request, permit)
    except APIError as error:
        if not error.ambiguous:
            raise
        # A new Droplet may take a moment to appear.
        await asyncio.sleep(client.settings.poll_interval_seconds)
        try:
            droplet = await find_created(client, request, marker)
        except APIError as lookup:
            logger.warning("Could not find out whether the Droplet was created: %s", lookup)
            raise error from lookup
        if droplet is None:
            error.not_applied = True
            raise
        logger.warning("%s; but it was carried out: found Droplet %d", error, droplet.id)
        return droplet


async def find_created(client: DigitalOceanClient, request: CreateDroplet, marker: str) -> Droplet | None:
    """Find the Droplet that a request created, or None.

    Raises:
        APIError: The Droplets cannot be read.
    """
    # Not only those that are listed by tag, which GPU Droplets are not.
    droplets = await client.list_droplets(marker)
    return next((each for each in droplets if each.region == request.region), None)


async def delete_droplet_once(client: DigitalOceanClient, droplet_id: int) -> bool:
    """Destroy a Droplet; after an ambiguous response, find out whether it was destroyed.

    https://docs.digitalocean.com/reference/api/digitalocean/#operation/droplets_destroy

    Args:
        client: The API.
        droplet_id: The Droplet to destroy.

    Returns:
        True if this call destroyed it, False if it was already gone.

    Raises:
        APIError: It was not destroyed, or that is unknown; `repeatable` says whether the request may be repeated.
    """
    return await _delete_once(
        client, droplet_path(droplet_id), lambda: client.find_droplet(droplet_id), f"Droplet {droplet_id}"
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
    return await _delete_once(client, image_path(image_id), lambda: client.find_image(image_id), f"image {image_id}")


async def _delete_once(
    client: DigitalOceanClient, path: str, find: Callable[[], Awaitable[object | None]], what: str
) -> bool:
    try:
        await client.request("DELETE", path)
    except NotFound as error:
        if not await _is_gone(find, client.settings.poll_interval_seconds):
            # It still exists, so the 404 was wrong and nothing was deleted.
            error.transient = error.not_applied = True
            raise
        return False
    except APIError as error:
        if not error.ambiguous:
            raise
        # A deletion may take a moment to show.
        await asyncio.sleep(client.settings.poll_interval_seconds)
        try:
            found = await find()
        except APIError as lookup:
            logger.warning("Could not find out whether the request was carried out: %s", lookup)
            raise error from lookup
        if found is not None:
            error.not_applied = True
            raise
        logger.warning("%s; but it was carried out: %s is gone", error, what)
    return True


async def _is_gone(find: Callable[[], Awaitable[object | None]], pause: float) -> bool:
    """Whether something no longer exists. Looks twice: a 404 may be transient, and what is forgotten costs money."""
    if await find() is not None:
        return False
    await asyncio.sleep(pause)
    return await find() is None
