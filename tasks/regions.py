"""Tasks for regions."""

from __future__ import annotations

from tasks.api_task import api_task
from tasks.connection import connect
from tasks.digitalocean import Connection, Region


@api_task(task_run_name="list regions", repeats=False)
async def list_regions(*, connection: Connection | None = None) -> list[Region]:
    """List all regions; `takes_images` shows which ones images can be transferred to.

    https://docs.digitalocean.com/reference/api/digitalocean/#operation/regions_list

    Args:
        connection: The API; None to connect with the settings in the environment.

    Returns:
        The regions.

    Raises:
        APIError: The list cannot be read.
    """
    return await (connection or connect()).client.list_regions()
