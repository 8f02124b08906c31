"""Tasks for block storage volumes."""

from __future__ import annotations

from tasks.api_task import api_task
from tasks.connection import aconnect
from tasks.credentials import Credentials
from tasks.digitalocean import Volume


@api_task(task_run_name="list volumes", repeats=False)
async def list_volumes(*, credentials: Credentials = None) -> list[Volume]:
    """List the account's block storage volumes, with the Droplets that they are attached to.

    https://docs.digitalocean.com/reference/api/digitalocean/#operation/volumes_list

    Args:
        credentials: The account: a block or its name; None for the token in the environment.

    Returns:
        The volumes that can be read.

    Raises:
        APIError: The list cannot be read.
    """
    return await (await aconnect(credentials)).client.list_volumes()
