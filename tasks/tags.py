"""Tasks for tags."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.api_task import api_task
from tasks.connection import aconnect
from tasks.credentials import Credentials
from tasks.digitalocean import NotFound, UnprocessableEntity
from tasks.digitalocean.client import DigitalOceanClient


@api_task(task_run_name="tag images {tag}", idempotent=True)
async def tag_images(tag: str, image_ids: Sequence[int], *, credentials: Credentials = None) -> frozenset[int]:
    """Tag images in one request, and create the tag if it is missing.

    https://docs.digitalocean.com/reference/api/digitalocean/#operation/tags_assign_resources

    Retried after any transient error: tagging an image again changes nothing.

    Args:
        tag: The tag.
        image_ids: The images.
        credentials: The account: a block or its name; None for the token in the environment.

    Returns:
        The images that could not be tagged: deleted, or refused by the API.

    Raises:
        InvalidArgument: The tag is not valid; nothing was sent.
        APIError: Any other error, once no retries are left.
    """
    client, wanted = (await aconnect(credentials)).client, list(image_ids)
    try:
        await client.tag_images(tag, wanted)
    except UnprocessableEntity:
        return frozenset(wanted)
    except NotFound:
        # The tag or an image is missing: the API's response is the same.
        await client.create_tag(tag)
        return await _tag_existing(client, tag, wanted)
    return frozenset()


@api_task(task_run_name="list tags", repeats=False)
async def list_tags(*, credentials: Credentials = None) -> list[str]:
    """List the names of all tags, including those that nothing has.

    https://docs.digitalocean.com/reference/api/digitalocean/#operation/tags_list

    Args:
        credentials: The account: a block or its name; None for the token in the environment.

    Returns:
        The names.

    Raises:
        APIError: The list cannot be read.
    """
    return await (await aconnect(credentials)).client.list_tags()


@api_task(task_run_name="create tag", idempotent=True)
async def create_tag(tag: str, *, credentials: Credentials = None) -> None:
    """Create a tag, unless it exists.

    https://docs.digitalocean.com/reference/api/digitalocean/#operation/tags_create

    Args:
        tag: The tag.
        credentials: The account: a block or its name; None for the token in the environment.

    Raises:
        InvalidArgument: The tag is not valid; nothing was sent.
        APIError: Any other error, once no retries are left.
    """
    await (await aconnect(credentials)).client.create_tag(tag)


async def _tag_existing(client: DigitalOceanClient, tag: str, image_ids: list[int]) -> frozenset[int]:
    """Tag images of which some may be gone, by bisection; returns those that could not be tagged."""
    try:
        await client.tag_images(tag, image_ids)
    except UnprocessableEntity:
        return frozenset(image_ids)
    except NotFound:
        if len(image_ids) == 1:
            return frozenset(image_ids)
        middle = len(image_ids) // 2
        first = await _tag_existing(client, tag, image_ids[:middle])
        return first | await _tag_existing(client, tag, image_ids[middle:])
    return frozenset()
