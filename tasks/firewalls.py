"""Tasks for cloud firewalls."""

from __future__ import annotations

from collections.abc import Mapping

from tasks.api_task import api_task
from tasks.connection import connect
from tasks.digitalocean import Connection, Firewall


@api_task(task_run_name="list firewalls", repeats=False)
async def list_firewalls(*, connection: Connection | None = None) -> list[Firewall]:
    """List the cloud firewalls.

    https://docs.digitalocean.com/reference/api/digitalocean/#operation/firewalls_list

    Args:
        connection: The API; None to connect with the settings in the environment.

    Returns:
        The firewalls.

    Raises:
        APIError: The list cannot be read.
    """
    return await (connection or connect()).client.list_firewalls()


@api_task(task_run_name="create firewall", idempotent=True)
async def create_firewall(firewall: Mapping[str, object], *, connection: Connection | None = None) -> Firewall:
    """Create a cloud firewall.

    https://docs.digitalocean.com/reference/api/digitalocean/#operation/firewalls_create

    Retried after any transient error, because no two firewalls can have the same name. If an earlier attempt created
    it, the last error may say so.

    Args:
        firewall: The request's body. The tags that it names must exist.
        connection: The API; None to connect with the settings in the environment.

    Returns:
        The firewall.

    Raises:
        APIError: The API refuses, for example because another firewall has the name, or it is not known whether it was
            created.
    """
    return await (connection or connect()).client.create_firewall(firewall)
