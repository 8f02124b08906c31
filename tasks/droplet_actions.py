"""Tasks for actions on Droplets, and for the snapshots that they take."""

from __future__ import annotations

from datetime import datetime

from tasks.api_task import api_task
from tasks.connection import aconnect
from tasks.credentials import Credentials
from tasks.digitalocean import Action, Connection, Image, TakeSnapshot
from tasks.digitalocean.idempotency import StartedSnapshot, find_started_snapshot, take_snapshot_once
from tasks.digitalocean.rate_limiter import Permit


@api_task(task_run_name="list actions of Droplet {droplet_id}", repeats=False)
async def list_droplet_actions(droplet_id: int, *, credentials: Credentials = None) -> list[Action]:
    """List the actions on a Droplet.

    https://docs.digitalocean.com/reference/api/digitalocean/#operation/dropletActions_list

    Args:
        droplet_id: The Droplet, at least 1.
        credentials: The account: a block or its name; None for the token in the environment.

    Returns:
        Its actions.

    Raises:
        NotFound: The Droplet does not exist.
        APIError: The list cannot be read.
    """
    return await (await aconnect(credentials)).client.list_droplet_actions(droplet_id)


@api_task(task_run_name="list snapshots of Droplet {droplet_id}", repeats=False)
async def list_snapshots_of_droplet(droplet_id: int, *, credentials: Credentials = None) -> list[Image]:
    """List the snapshots of a Droplet.

    https://docs.digitalocean.com/reference/api/digitalocean/#operation/droplets_list_snapshots

    Args:
        droplet_id: The Droplet, at least 1.
        credentials: The account: a block or its name; None for the token in the environment.

    Returns:
        Its snapshots.

    Raises:
        NotFound: The Droplet does not exist.
        APIError: The list cannot be read.
    """
    return await (await aconnect(credentials)).client.list_snapshots_of(droplet_id)


async def _find_started(
    since: datetime, droplet_id: int, request: TakeSnapshot, *, credentials: Connection, **_: object
) -> StartedSnapshot | None:
    return await find_started_snapshot(credentials.client, droplet_id, request, since)


@api_task(task_run_name="start snapshot of Droplet {droplet_id}", find_done=_find_started)
async def take_snapshot(
    droplet_id: int, request: TakeSnapshot, *, credentials: Credentials = None, permit: Permit | None = None
) -> StartedSnapshot:
    """Start a snapshot of a Droplet, exactly once.

    https://docs.digitalocean.com/reference/api/digitalocean/#operation/dropletActions_post

    Retried after a 429, or if no connection could be made. After a 5xx, an unexpected status, a malformed response or a
    broken connection, the Droplet's snapshots and actions are read first: if the snapshot exists or one is being taken,
    that is returned.

    Args:
        droplet_id: The Droplet, at least 1.
        request: The snapshot; no other of the Droplet may have its name.
        credentials: The account: a block or its name; None for the token in the environment.
        permit: A permit of its rate limiter, acquired for this request; None to acquire one.

    Returns:
        The action, which does not tell the snapshot's ID: find it by its name once the action has completed.

    Raises:
        InvalidArgument: The ID is not valid; nothing was sent.
        NotFound: The Droplet does not exist.
        UnprocessableEntity: The API refuses: the Droplet has a pending action, or cannot be snapshotted.
        Forbidden: Refused, perhaps temporarily: if you have other Droplets, try one of those first.
        Unauthorized: The token is wrong.
        APIError: Any other error, once no retries are left.
    """
    return await take_snapshot_once((await aconnect(credentials)).client, droplet_id, request, permit)
