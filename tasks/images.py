"""Tasks for images."""

from __future__ import annotations

from tasks.api_task import api_task
from tasks.connection import aconnect
from tasks.credentials import Credentials
from tasks.digitalocean import Image, NotFound


@api_task(task_run_name="list images", repeats=False)
async def list_private_images(*, credentials: Credentials = None) -> list[Image]:
    """List the account's private images: backups, snapshots and custom images.

    https://docs.digitalocean.com/reference/api/digitalocean/#operation/images_list

    Args:
        credentials: The account: a block or its name; None for the token in the environment.

    Returns:
        The images.

    Raises:
        APIError: The list cannot be read.
    """
    return await (await aconnect(credentials)).client.list_private_images()


@api_task(task_run_name="get image {image_id}")
async def get_image(image_id: int, *, credentials: Credentials = None) -> Image | None:
    """Read one image.

    https://docs.digitalocean.com/reference/api/digitalocean/#operation/images_get

    Args:
        image_id: The image, at least 1.
        credentials: The account: a block or its name; None for the token in the environment.

    Returns:
        The image; None if it does not exist.

    Raises:
        InvalidArgument: The ID is not valid; nothing was sent.
        APIError: It cannot be read.
    """
    try:
        return await (await aconnect(credentials)).client.get_image(image_id)
    except NotFound:
        return None
