"""Tasks for snapshots of Droplets."""

from __future__ import annotations

from tasks.api_task import api_task
from tasks.connection import aconnect
from tasks.credentials import Credentials
from tasks.digitalocean import Snapshot
from tasks.digitalocean.idempotency import delete_once


@api_task(task_run_name="list snapshots", repeats=False)
async def list_snapshots(*, credentials: Credentials = None) -> list[Snapshot]:
    """List the account's snapshots of Droplets, including deleted Droplets.

    https://docs.digitalocean.com/reference/api/digitalocean/#operation/snapshots_list

    Args:
        credentials: The account: a block or its name; None for the token in the environment.

    Returns:
        The snapshots.

    Raises:
        APIError: The list cannot be read.
    """
    return await (await aconnect(credentials)).client.list_snapshots()


@api_task(task_run_name="delete snapshot {image_id}")
async def delete_snapshot(image_id: int, *, credentials: Credentials = None) -> bool:
    """Delete a snapshot, exactly once.

    Retried after a 429 or 403, or if no connection could be made. After a 404, a 5xx, an unexpected status, a malformed
    response or a broken connection, the snapshot is read first: if it is gone, it was deleted.

    https://docs.digitalocean.com/reference/api/digitalocean/#operation/images_delete

    Args:
        image_id: The snapshot, at least 1.
        credentials: The account: a block or its name; None for the token in the environment.

    Returns:
        True if this call deleted it, False if it was already gone.

    Raises:
        InvalidArgument: The ID is not valid; nothing was sent.
        UnprocessableEntity: The API refuses: it is a backup, or has an action pending.
        Unauthorized: The token is wrong.
        APIError: Any other error, once no retries are left.
    """
    return await delete_once((await aconnect(credentials)).client, image_id)
