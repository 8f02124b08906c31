"""Tasks for cloud firewalls."""

from __future__ import annotations

from collections.abc import Mapping

from tasks.api_task import api_task
from tasks.connection import aconnect
from tasks.credentials import Credentials
from tasks.digitalocean import Firewall


@api_task(task_run_name="list firewalls", repeats=False)
async def list_firewalls(*, credentials: Credentials = None) -> list[Firewall]:
    """List the cloud firewalls.

    https://docs.digitalocean.com/reference/api/digitalocean/#operation/firewalls_list

    Args:
        credentials: The account: a block or its name; None for the token in the environment.

    Returns:
        The firewalls.

    Raises:
        APIError: The list cannot be read.
    """
    return await (await aconnect(credentials)).client.list_firewalls()


@api_task(task_run_name="create firewall", idempotent=True)
async def create_firewall(firewall: Mapping[str, object], *, credentials: Credentials = None) -> Firewall:
    """Create a cloud firewall.

    https://docs.digitalocean.com/reference/api/digitalocean/#operation/firewalls_create

    Retried after any transient error, because no two firewalls can have the same name. If an earlier attempt created
    it, the last error may say so.

    Args:
        firewall: The request's body. The tags that it names must exist.
        credentials: The account: a block or its name; None for the token in the environment.

    Returns:
        The firewall.

    Raises:
        APIError: The API refuses, for example because another firewall has the name, or it is not known whether it was
            created.
    """
    return await (await aconnect(credentials)).client.create_firewall(firewall)
