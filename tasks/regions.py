"""Tasks around regions."""

from __future__ import annotations

from tasks.api_task import api_task
from tasks.connection import connect
from tasks.digitalocean import Region


@api_task(task_run_name="list regions", repeats=False)
async def list_regions() -> list[Region]:
    """List all regions; `takes_images` tells which of them images can be transferred to.

    Returns:
        The regions.

    Raises:
        APIError: The list cannot be read.
    """
    connection = connect()
    return await connection.run(connection.client.list_regions())
