"""The API token, in a Secret block: Prefect keeps those encrypted."""

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
        token: The token to store; None to keep that of a block that exists.
        ask: Gets the token where neither exists.
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
        await _check_that_it_answers_otherwise(client)
        raise SetupError(
            f"the server cannot read the secret {BLOCK}; was PREFECT_SERVER_ENCRYPTION_KEY changed? "
            "deployments/production/README.md says what to do, under Back-ups"
        ) from error
    return str(block.data["value"])


async def _check_that_it_answers_otherwise(client: PrefectClient) -> None:
    """Make sure that the server reads its database for other requests.

    Raises:
        SetupError: It does not.
    """
    try:
        await client.read_work_pools(limit=1)
    except httpx.HTTPStatusError as error:
        raise SetupError(
            f"Prefect's server answers {error.response.status_code} to every request; its log says why. Two known "
            "causes: PREFECT_SERVER_API_AUTH_STRING contains characters that are not ASCII, or SQLite is locked"
        ) from error
