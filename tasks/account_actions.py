"""Tasks around the account's feed of actions."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from tasks.api_task import api_task
from tasks.connection import connect
from tasks.digitalocean import Action, Forbidden, Image, NotFound
from tasks.digitalocean.client import DigitalOceanClient


@api_task(task_run_name="list actions on images", repeats=False)
async def list_actions_on(images: Sequence[Image]) -> list[Action]:
    """List the actions on some images, with as few requests as that takes.

    Reads the account's feed back to the day the oldest of the images was made. Where that would take more requests
    than asking for each image's actions, does the latter.

    Args:
        images: The images.

    Returns:
        Their actions, in no particular order.

    Raises:
        APIError: They cannot be read.
    """
    connection = connect()
    return await connection.run(_actions_on(connection.client, images))


async def _actions_on(client: DigitalOceanClient, images: Sequence[Image]) -> list[Action]:
    wanted = {image.id for image in images}
    found = await _from_feed(client, images) if len(images) > 1 else None
    if found is None:
        found = [action for image_id in sorted(wanted) for action in await _from_image(client, image_id)]
    return [action for action in found if action.resource_id in wanted]


async def _from_feed(client: DigitalOceanClient, images: Sequence[Image]) -> list[Action] | None:
    oldest = min(image.created_at for image in images)
    # What another run started a moment ago, before it died, may not be in the feed yet.
    await asyncio.sleep(client.settings.poll_interval_seconds)
    found: list[Action] = []
    for page in range(1, len(images) + 1):
        try:
            actions, more = await client.list_recent_actions(page)
        except (Forbidden, NotFound):
            return None  # a token may be allowed images and not the account's actions
        # Other kinds of resources have ids of their own, which may be the same numbers.
        found += [action for action in actions if action.resource_type == "image"]
        if not more or (actions and actions[-1].started_at < oldest):
            return found
    return None


async def _from_image(client: DigitalOceanClient, image_id: int) -> list[Action]:
    try:
        actions = await client.list_image_actions(image_id)
    except NotFound:
        return []
    return [action.model_copy(update={"resource_id": image_id}) for action in actions]
