"""Tasks around snapshots of Droplets."""

from __future__ import annotations

from tasks.api_task import api_task
from tasks.connection import connect
from tasks.digitalocean import Connection, Snapshot
from tasks.digitalocean.idempotency import delete_once


@api_task(task_run_name="list snapshots", repeats=False)
async def list_snapshots(*, connection: Connection | None = None) -> list[Snapshot]:
    """List the account's snapshots of Droplets, also of those that are gone.

    https://docs.digitalocean.com/reference/api/digitalocean/#operation/snapshots_list

    Args:
        connection: The API; None for that of the settings in the environment.

    Returns:
        The snapshots.

    Raises:
        APIError: The list cannot be read.
    """
    return await (connection or connect()).client.list_snapshots()


@api_task(task_run_name="delete snapshot {image_id}")
async def delete_snapshot(image_id: int, *, connection: Connection | None = None) -> bool:
    """Delete a snapshot, exactly once.

    Tried again after a 429, a 403 and where no connection was made. After a 404, a 5xx, an odd status, a broken answer
    or a broken connection, the snapshot is looked for first: if it is gone, it was deleted.

    Args:
        image_id: The snapshot, at least 1.
        connection: The API; None for that of the settings in the environment.

    Returns:
        Whether this call deleted it; if not, it was gone before.

    Raises:
        InvalidArgument: The ID is not valid; nothing was sent.
        UnprocessableEntity: The API refuses: it is a backup, or has an action pending.
        Unauthorized: The token is wrong.
        APIError: Anything else, when there are no attempts left.
    """
    return await delete_once((connection or connect()).client, image_id)
