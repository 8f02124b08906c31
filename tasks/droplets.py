"""Tasks around Droplets."""

from __future__ import annotations

from tasks.api_task import api_task
from tasks.connection import connect
from tasks.digitalocean import Droplet


@api_task(task_run_name="list Droplets", repeats=False)
async def list_droplets(tag: str | None = None) -> list[Droplet]:
    """List Droplets with the ids of their backups and snapshots.

    Args:
        tag: Only those that bear this tag; None for all.

    Returns:
        The Droplets.

    Raises:
        InvalidArgument: The tag is none; nothing was sent.
        APIError: The list cannot be read.
    """
    connection = connect()
    return await connection.run(connection.client.list_droplets(tag))
