"""Tasks around tags."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.api_task import api_task
from tasks.connection import connect
from tasks.digitalocean import Connection, NotFound, UnprocessableEntity
from tasks.digitalocean.client import DigitalOceanClient


@api_task(task_run_name="tag images {tag}", idempotent=True)
async def tag_images(tag: str, image_ids: Sequence[int], *, connection: Connection | None = None) -> frozenset[int]:
    """Tag images, all in one request, and create the tag if it is missing.

    https://docs.digitalocean.com/reference/api/digitalocean/#operation/tags_assign_resources

    Tagging what has the tag already changes nothing, so the task is tried again after any failure that may pass.

    Args:
        tag: The tag.
        image_ids: The images.
        connection: The API; None for that of the settings in the environment.

    Returns:
        Those that could not be tagged: gone, or not taggable as what they are now.

    Raises:
        InvalidArgument: The tag is not valid; nothing was sent.
        APIError: Anything else, when there are no attempts left.
    """
    client, wanted = (connection or connect()).client, list(image_ids)
    try:
        await client.tag_images(tag, wanted)
    except UnprocessableEntity:
        return frozenset(wanted)
    except NotFound:
        # The tag is missing, or an image is: the API's answer is the same.
        await client.create_tag(tag)
        return await _tag_those_there(client, tag, wanted)
    return frozenset()


async def _tag_those_there(client: DigitalOceanClient, tag: str, image_ids: list[int]) -> frozenset[int]:
    """Tag images one of which may be gone: whichever half fails is halved again."""
    try:
        await client.tag_images(tag, image_ids)
    except UnprocessableEntity:
        return frozenset(image_ids)
    except NotFound:
        if len(image_ids) == 1:
            return frozenset(image_ids)
        middle = len(image_ids) // 2
        first = await _tag_those_there(client, tag, image_ids[:middle])
        return first | await _tag_those_there(client, tag, image_ids[middle:])
    return frozenset()
