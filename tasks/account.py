"""Tasks for the account: its limits, SSH keys and private networks."""

from __future__ import annotations

from tasks.api_task import api_task
from tasks.connection import connect
from tasks.digitalocean import AccountInfo, Connection, SshKey, Vpc


@api_task(task_run_name="get account", repeats=False)
async def get_account(*, connection: Connection | None = None) -> AccountInfo:
    """Read the account's limits.

    https://docs.digitalocean.com/reference/api/digitalocean/#operation/account_get

    Args:
        connection: The API; None to connect with the settings in the environment.

    Returns:
        The account.

    Raises:
        APIError: It cannot be read.
    """
    return await (connection or connect()).client.get_account()


@api_task(task_run_name="list SSH keys", repeats=False)
async def list_ssh_keys(*, connection: Connection | None = None) -> list[SshKey]:
    """List the team's SSH keys. The API allows 10 such requests a minute.

    https://docs.digitalocean.com/reference/api/digitalocean/#operation/sshKeys_list

    Args:
        connection: The API; None to connect with the settings in the environment.

    Returns:
        The keys.

    Raises:
        APIError: The list cannot be read.
    """
    return await (connection or connect()).client.list_ssh_keys()


@api_task(task_run_name="list VPCs", repeats=False)
async def list_vpcs(*, connection: Connection | None = None) -> list[Vpc]:
    """List the private networks of all regions.

    https://docs.digitalocean.com/reference/api/digitalocean/#operation/vpcs_list

    Args:
        connection: The API; None to connect with the settings in the environment.

    Returns:
        The networks.

    Raises:
        APIError: The list cannot be read.
    """
    return await (connection or connect()).client.list_vpcs()
