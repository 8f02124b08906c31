"""Tasks for the account: its limits, SSH keys and private networks."""

from __future__ import annotations

from tasks.api_task import api_task
from tasks.connection import aconnect
from tasks.credentials import Credentials
from tasks.digitalocean import AccountInfo, SshKey, Vpc


@api_task(task_run_name="get account", repeats=False)
async def get_account(*, credentials: Credentials = None) -> AccountInfo:
    """Read the account's limits.

    https://docs.digitalocean.com/reference/api/digitalocean/#operation/account_get

    Args:
        credentials: The account: a block or its name; None for the token in the environment.

    Returns:
        The account.

    Raises:
        APIError: It cannot be read.
    """
    return await (await aconnect(credentials)).client.get_account()


@api_task(task_run_name="list SSH keys", repeats=False)
async def list_ssh_keys(*, credentials: Credentials = None) -> list[SshKey]:
    """List the team's SSH keys. The API allows 10 such requests a minute.

    https://docs.digitalocean.com/reference/api/digitalocean/#operation/sshKeys_list

    Args:
        credentials: The account: a block or its name; None for the token in the environment.

    Returns:
        The keys.

    Raises:
        APIError: The list cannot be read.
    """
    return await (await aconnect(credentials)).client.list_ssh_keys()


@api_task(task_run_name="list VPCs", repeats=False)
async def list_vpcs(*, credentials: Credentials = None) -> list[Vpc]:
    """List the private networks of all regions.

    https://docs.digitalocean.com/reference/api/digitalocean/#operation/vpcs_list

    Args:
        credentials: The account: a block or its name; None for the token in the environment.

    Returns:
        The networks.

    Raises:
        APIError: The list cannot be read.
    """
    return await (await aconnect(credentials)).client.list_vpcs()
