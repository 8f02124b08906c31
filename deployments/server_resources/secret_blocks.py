"""The API token and the ping URL, in Secret blocks, which Prefect stores encrypted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import httpx
from prefect.blocks.system import Secret
from prefect.client.orchestration import PrefectClient
from prefect.exceptions import ObjectNotFound
from pydantic import SecretStr

from deployments.server_resources.server_resource import MISSING, SetupError

TOKEN_BLOCK = "digitalocean-token"  # noqa: S105  # the name of a block
PING_BLOCK = "digitalocean-ping-url"


@dataclass(frozen=True)
class SecretResource:
    """A Secret block.

    Attributes:
        block: Its name.
        what: What it stores, in messages.
        value: The secret to store; None to keep that of an existing block.
        ask: Asks the user for the secret if there is neither; None if it is optional.
    """

    block: str
    what: str
    value: SecretStr | None
    ask: Callable[[], SecretStr] | None = None

    @property
    def name(self) -> str:
        """Its name in messages."""
        return f"secret {self.block}"

    async def diff(self, client: PrefectClient) -> str:
        """Say what differs on the server; empty if nothing does."""
        kept = await read_secret(client, self.block)
        if kept is None:
            return MISSING
        return f"{self.what} differs" if self.value and self.value.get_secret_value() != kept else ""

    async def apply(self, client: PrefectClient) -> None:
        """Store the secret."""
        value = self.value or (self.ask() if self.ask else None)
        if value:
            await Secret(value=value.get_secret_value()).save(self.block, overwrite=True, client=client)


async def read_secret(client: PrefectClient, block: str) -> str | None:
    """Read the value of a Secret block; None if it does not exist.

    Raises:
        SetupError: The server cannot read it.
    """
    try:
        # Not `Secret.load`, which sends an event.
        document = await client.read_block_document_by_name(block, "secret")
    except ObjectNotFound:
        return None
    except httpx.HTTPStatusError as error:
        if error.response.status_code != httpx.codes.INTERNAL_SERVER_ERROR:
            raise
        await _check_other_requests(client)
        raise SetupError(
            f"Prefect's server cannot read the secret {block}; was PREFECT_SERVER_ENCRYPTION_KEY changed? "
            "See deployments/production/README.md, under Back-ups"
        ) from error
    return str(document.data["value"])


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
