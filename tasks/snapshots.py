"""Tasks around snapshots of Droplets."""

from __future__ import annotations

from tasks.api_task import api_task
from tasks.connection import connect
from tasks.digitalocean import Snapshot
from tasks.digitalocean.idempotency import delete_once


@api_task(task_run_name="list snapshots", repeats=False)
async def list_snapshots() -> list[Snapshot]:
    """List the account's snapshots of Droplets, also of those that are gone.

    Returns:
        The snapshots.

    Raises:
        APIError: The list cannot be read.
    """
    connection = connect()
    return await connection.run(connection.client.list_snapshots())


@api_task(task_run_name="delete snapshot {image_id}")
async def delete_snapshot(image_id: int) -> bool:
    """Delete a snapshot, exactly once.

    Tried again after a 429, a 403 and where no connection was made. After a 404, a 5xx, an odd status, a broken answer
    or a broken connection, the snapshot is looked for first: if it is gone, it was deleted.

    Args:
        image_id: The snapshot, from 1 on.

    Returns:
        Whether this deleted it; if not, it was gone before.

    Raises:
        InvalidArgument: The id is none; nothing was sent.
        UnprocessableEntity: The API refuses: it is a backup, or has an action pending.
        Unauthorized: The token is wrong.
        APIError: Anything else, when there are no attempts left.
    """
    connection = connect()
    return await connection.run(delete_once(connection.client, image_id))
