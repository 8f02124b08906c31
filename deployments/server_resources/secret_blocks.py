"""The ping URLs, in Secret blocks, which Prefect stores encrypted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx
from prefect.blocks.system import Secret
from prefect.client.orchestration import PrefectClient
from prefect.exceptions import ObjectNotFound
from pydantic import SecretStr

from deployments.server_resources.server_resource import MISSING, SetupError

PING_BLOCK = "digitalocean-ping-url"


@dataclass(frozen=True)
class SecretResource:
    """A Secret block.

    Attributes:
        block: Its name.
        what: What it stores, in messages.
        value: The secret to store.
        other_block: Name of a block; if it contains the same, this one is left as it is. Empty for none.
    """

    block: str
    what: str
    value: SecretStr
    other_block: str = ""

    @property
    def name(self) -> str:
        """Its name in messages."""
        return f"secret {self.block}"

    async def diff(self, client: PrefectClient) -> str:
        """Say what differs on the server; empty if nothing does."""
        value = self.value.get_secret_value()
        if self.other_block and await read_secret(client, self.other_block) == value:
            # Such as the default account's, in `.env`.
            return ""
        kept = await read_secret(client, self.block)
        if kept is None:
            return MISSING
        return f"{self.what} differs" if value != kept else ""

    async def apply(self, client: PrefectClient) -> None:
        """Store the secret."""
        await Secret(value=self.value.get_secret_value()).save(self.block, overwrite=True, client=client)


async def read_secret(client: PrefectClient, name: str) -> str | None:
    """Read the value of a Secret block; None if it does not exist.

    Raises:
        SetupError: The server cannot read it.
    """
    data = await read_block(client, "secret", name)
    return None if data is None else str(data["value"])


async def read_block(client: PrefectClient, kind: str, name: str) -> Mapping[str, Any] | None:
    """Read what a block contains; None if it does not exist.

    Args:
        client: Prefect's server.
        kind: The slug of its type.
        name: Its name.

    Raises:
        SetupError: The server cannot read it.
    """
    try:
        # Not `Block.load`, which sends an event.
        document = await client.read_block_document_by_name(name, kind)
    except ObjectNotFound:
        return None
    except httpx.HTTPStatusError as error:
        if error.response.status_code != httpx.codes.INTERNAL_SERVER_ERROR:
            raise
        await _check_other_requests(client)
        raise SetupError(
            f"Prefect's server cannot read the block {kind}/{name}; was PREFECT_SERVER_ENCRYPTION_KEY changed? "
            "See deployments/production/README.md, under Back-ups"
        ) from error
    return document.data


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
