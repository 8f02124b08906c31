"""The API token, in a Secret block, which Prefect stores encrypted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import httpx
from prefect.blocks.system import Secret
from prefect.client.orchestration import PrefectClient
from prefect.exceptions import ObjectNotFound
from pydantic import SecretStr

from deployments.server_resources.server_resource import MISSING, SetupError

BLOCK = "digitalocean-token"


@dataclass(frozen=True)
class TokenResource:
    """The token's block.

    Attributes:
        token: The token to store; None to keep that of an existing block.
        ask: Asks the user for the token if there is neither.
    """

    token: SecretStr | None
    ask: Callable[[], SecretStr]
    name: str = f"secret {BLOCK}"

    async def diff(self, client: PrefectClient) -> str:
        """Say what differs on the server; empty if nothing does."""
        kept = await _read(client)
        if kept is None:
            return MISSING
        return "token differs" if self.token and self.token.get_secret_value() != kept else ""

    async def apply(self, client: PrefectClient) -> None:
        """Store the token."""
        token = self.token or self.ask()
        await Secret(value=token.get_secret_value()).save(BLOCK, overwrite=True, client=client)


async def _read(client: PrefectClient) -> str | None:
    try:
        # Not `Secret.load`, which sends an event.
        block = await client.read_block_document_by_name(BLOCK, "secret")
    except ObjectNotFound:
        return None
    except httpx.HTTPStatusError as error:
        if error.response.status_code != httpx.codes.INTERNAL_SERVER_ERROR:
            raise
        await _check_other_requests(client)
        raise SetupError(
            f"Prefect's server cannot read the secret {BLOCK}; was PREFECT_SERVER_ENCRYPTION_KEY changed? "
            "See deployments/production/README.md, under Back-ups"
        ) from error
    return str(block.data["value"])


async def _check_other_requests(client: PrefectClient) -> None:
    """Check that the server can read its database for other requests.

    Raises:
        SetupError: It cannot.
    """
    try:
        await client.read_work_pools(limit=1)
    except httpx.HTTPStatusError as error:
        raise SetupError(
            f"Prefect's server returns {error.response.status_code} for every request; its log says why. Two known "
            "causes: non-ASCII characters in PREFECT_SERVER_API_AUTH_STRING, or a locked SQLite database"
        ) from error
