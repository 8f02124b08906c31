"""Tasks for Droplets."""

from __future__ import annotations

from datetime import datetime

from tasks.api_task import api_task
from tasks.connection import aconnect
from tasks.credentials import Credentials
from tasks.digitalocean import BackupPolicy, Connection, CreateDroplet, Droplet, Size
from tasks.digitalocean.idempotency import create_droplet_once, delete_droplet_once, find_created
from tasks.digitalocean.rate_limiter import Permit


@api_task(task_run_name="list Droplets", repeats=False)
async def list_droplets(tag: str | None = None, *, credentials: Credentials = None) -> list[Droplet]:
    """List Droplets with the IDs of their backups and snapshots.

    https://docs.digitalocean.com/reference/api/digitalocean/#operation/droplets_list

    Args:
        tag: Only those with this tag; None for all.
        credentials: The account: a block or its name; None for the token in the environment.

    Returns:
        The Droplets.

    Raises:
        InvalidArgument: The tag is not valid; nothing was sent.
        APIError: The list cannot be read.
    """
    return await (await aconnect(credentials)).client.list_droplets(tag)


@api_task(task_run_name="list Droplets tagged {tag}", repeats=False)
async def list_droplets_tagged(tag: str, *, credentials: Credentials = None) -> list[Droplet]:
    """List the Droplets with a tag, without GPU Droplets: one request for up to 200.

    https://docs.digitalocean.com/reference/api/digitalocean/#operation/droplets_list

    Args:
        tag: The tag; it need not exist.
        credentials: The account: a block or its name; None for the token in the environment.

    Returns:
        The Droplets.

    Raises:
        InvalidArgument: The tag is not valid; nothing was sent.
        APIError: The list cannot be read.
    """
    return await (await aconnect(credentials)).client.list_droplets_tagged(tag)


async def _find_created(
    _since: datetime, request: CreateDroplet, marker: str, *, credentials: Connection, **_: object
) -> Droplet | None:
    return await find_created(credentials.client, request, marker)


@api_task(task_run_name="create {request.name} in {request.region}", find_done=_find_created)
async def create_droplet(
    request: CreateDroplet, marker: str, *, credentials: Credentials = None, permit: Permit | None = None
) -> Droplet:
    """Create a Droplet, exactly once.

    https://docs.digitalocean.com/reference/api/digitalocean/#operation/droplets_create

    Retried after a 429, or if no connection could be made. After a 5xx, an unexpected status, a malformed response or a
    broken connection, the Droplets with its marker are read first: if it was created, it is returned.

    Args:
        request: What to create.
        marker: The one of its tags that no other Droplet in the region has.
        credentials: The account: a block or its name; None for the token in the environment.
        permit: A permit of its rate limiter, acquired for this request; None to acquire one.

    Returns:
        The Droplet, which is still being created.

    Raises:
        UnprocessableEntity: The API refuses: the region has no capacity or lacks the image, the size does not fit, or
            the account has reached its Droplet limit.
        Forbidden: The token is not allowed to create Droplets.
        Unauthorized: The token is wrong.
        APIError: Any other error, once no retries are left.
    """
    return await create_droplet_once((await aconnect(credentials)).client, request, marker, permit)


@api_task(task_run_name="destroy Droplet {droplet_id}")
async def destroy_droplet(droplet_id: int, *, credentials: Credentials = None) -> bool:
    """Destroy a Droplet, exactly once.

    https://docs.digitalocean.com/reference/api/digitalocean/#operation/droplets_destroy

    Args:
        droplet_id: The Droplet, at least 1.
        credentials: The account: a block or its name; None for the token in the environment.

    Returns:
        True if this call destroyed it, False if it was already gone.

    Raises:
        UnprocessableEntity: The API refuses: an action on it is pending.
        APIError: Any other error, once no retries are left.
    """
    return await delete_droplet_once((await aconnect(credentials)).client, droplet_id)


@api_task(task_run_name="list backup policies", repeats=False)
async def list_backup_policies(*, credentials: Credentials = None) -> list[BackupPolicy]:
    """List when Droplets are backed up: one request for up to 200.

    https://docs.digitalocean.com/reference/api/digitalocean/#operation/droplets_list_backup_policies

    Args:
        credentials: The account: a block or its name; None for the token in the environment.

    Returns:
        The policies that can be read, including those of Droplets without backups.

    Raises:
        APIError: The list cannot be read.
    """
    return await (await aconnect(credentials)).client.list_backup_policies()


@api_task(task_run_name="list sizes", repeats=False)
async def list_sizes(*, credentials: Credentials = None) -> list[Size]:
    """List the sizes of Droplets, with prices and regions.

    https://docs.digitalocean.com/reference/api/digitalocean/#operation/sizes_list

    Args:
        credentials: The account: a block or its name; None for the token in the environment.

    Returns:
        The sizes.

    Raises:
        APIError: The list cannot be read.
    """
    return await (await aconnect(credentials)).client.list_sizes()
