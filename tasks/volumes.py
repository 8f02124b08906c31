"""Tasks for block storage volumes."""

from __future__ import annotations

from tasks.api_task import api_task
from tasks.connection import connect
from tasks.digitalocean import Connection, Volume


@api_task(task_run_name="list volumes", repeats=False)
async def list_volumes(*, connection: Connection | None = None) -> list[Volume]:
    """List the account's block storage volumes, with the Droplets that they are attached to.

    https://docs.digitalocean.com/reference/api/digitalocean/#operation/volumes_list

    Args:
        connection: The API; None to connect with the settings in the environment.

    Returns:
        The volumes that can be read.

    Raises:
        APIError: The list cannot be read.
    """
    return await (connection or connect()).client.list_volumes()
