"""Tasks around images."""

from __future__ import annotations

from tasks.api_task import api_task
from tasks.connection import connect
from tasks.digitalocean import Image, NotFound


@api_task(task_run_name="list images", repeats=False)
async def list_private_images() -> list[Image]:
    """List the account's own images: backups, snapshots and custom images.

    Returns:
        The images.

    Raises:
        APIError: The list cannot be read.
    """
    connection = connect()
    return await connection.run(connection.client.list_private_images())


@api_task(task_run_name="get image {image_id}")
async def get_image(image_id: int) -> Image | None:
    """Look at one image.

    Args:
        image_id: The image, from 1 on.

    Returns:
        The image, None if there is none of that id.

    Raises:
        InvalidArgument: The id is none; nothing was sent.
        APIError: It cannot be read.
    """
    connection = connect()
    try:
        return await connection.run(connection.client.get_image(image_id))
    except NotFound:
        return None
