"""The process's connections to the API, one per account, with a rate limit that all runs share through Prefect."""

from __future__ import annotations

from typing import Any

import httpx
from prefect.client.orchestration import PrefectClient, get_client
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL

from tasks.accounts import UNSAVED_ACCOUNT, for_account
from tasks.credentials import BLOCK_TYPE, Credentials, DigitalOceanCredentials, account_of
from tasks.digitalocean import ConfigurationError, Connection, connection_for, load_settings, start_in_background
from tasks.distributed_rate_limit import DISTRIBUTED_LIMIT, DistributedRateLimit


def connect(credentials: Credentials = None) -> Connection:
    """Get the process's connection for an account, from sync code.

    Args:
        credentials: The account: a block, its name, or a connection, which is returned; None for the token in the
            environment.

    Raises:
        ConfigurationError: A setting is missing or wrong, or the block does not exist.
    """
    if isinstance(credentials, str):
        return start_in_background(aconnect(credentials)).result()
    return _connection(credentials)


async def aconnect(credentials: Credentials = None) -> Connection:
    """Do the same from async code."""
    return _connection(await _load(credentials) if isinstance(credentials, str) else credentials)


def _connection(credentials: DigitalOceanCredentials | Connection | None) -> Connection:
    if isinstance(credentials, Connection):
        return credentials
    settings = credentials.settings() if credentials else load_settings()
    account = account_of(credentials)

    def distributed_limit() -> DistributedRateLimit | None:
        if account == UNSAVED_ACCOUNT or not PREFECT_API_URL.value():
            return None
        return DistributedRateLimit(settings.rate_limits, for_account(DISTRIBUTED_LIMIT, account))

    return connection_for(settings, account, distributed_limit)


async def read_tokens(client: PrefectClient) -> dict[str, str]:
    """Read the tokens in all credentials blocks, by name."""
    return {name: str(data.get("token")) for name, data in (await _read_blocks(client)).items()}


async def _read_blocks(client: PrefectClient, *, include_secrets: bool = True) -> dict[str, dict[str, Any]]:
    try:
        await client.read_block_type_by_slug(BLOCK_TYPE)
    except ObjectNotFound:
        return {}
    blocks = await client.read_block_documents_by_type(BLOCK_TYPE, include_secrets=include_secrets)
    return {each.name: each.data for each in blocks if each.name}


async def _load(name: str) -> DigitalOceanCredentials:
    """Load a block.

    Raises:
        ConfigurationError: It does not exist, or cannot be read.
    """
    try:
        async with get_client() as client:
            try:
                return await DigitalOceanCredentials.aload(name, client=client)
            except ValueError as error:
                # A ValidationError is one, too.
                if not isinstance(error.__cause__, ObjectNotFound):
                    raise
                raise ConfigurationError(await _explain_missing(name, client)) from error
    except ConfigurationError:
        raise
    except (httpx.HTTPError, RuntimeError, ValueError) as error:
        # Not the message, which may quote the block.
        raise ConfigurationError(
            f"credentials {name!r}: Prefect's server cannot read the block {BLOCK_TYPE}/{name} ({type(error).__name__})"
        ) from error


async def _explain_missing(name: str, client: PrefectClient) -> str:
    names = ", ".join(sorted(await _read_blocks(client, include_secrets=False)))
    advice = f"create it with `digitalocean-backups setup --account {name}`"
    if not PREFECT_API_URL.value():
        advice = "blocks are on a Prefect server: set PREFECT_API_URL to its address"
    known = f"there are: {names}" if names else "there are none"
    return f"credentials {name!r}: there is no such block ({known}); {advice}"
