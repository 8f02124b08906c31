"""Tasks for regions."""

from __future__ import annotations

from tasks.api_task import api_task
from tasks.connection import aconnect
from tasks.credentials import Credentials
from tasks.digitalocean import Region


@api_task(task_run_name="list regions", repeats=False)
async def list_regions(*, credentials: Credentials = None) -> list[Region]:
    """List all regions; `takes_images` shows which ones images can be transferred to.

    https://docs.digitalocean.com/reference/api/digitalocean/#operation/regions_list

    Args:
        credentials: The account: a block or its name; None for the token in the environment.

    Returns:
        The regions.

    Raises:
        APIError: The list cannot be read.
    """
    return await (await aconnect(credentials)).client.list_regions()
