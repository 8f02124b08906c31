"""Tasks for Droplets."""

from __future__ import annotations

from tasks.api_task import api_task
from tasks.connection import connect
from tasks.digitalocean import Connection, Droplet


@api_task(task_run_name="list Droplets", repeats=False)
async def list_droplets(tag: str | None = None, *, connection: Connection | None = None) -> list[Droplet]:
    """List Droplets with the IDs of their backups and snapshots.

    https://docs.digitalocean.com/reference/api/digitalocean/#operation/droplets_list

    Args:
        tag: Only those with this tag; None for all.
        connection: The API; None to connect with the settings in the environment.

    Returns:
        The Droplets.

    Raises:
        InvalidArgument: The tag is not valid; nothing was sent.
        APIError: The list cannot be read.
    """
    return await (connection or connect()).client.list_droplets(tag)
