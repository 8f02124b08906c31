"""The protocol of a resource on a Prefect server."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol, TypeVar

from prefect.client.orchestration import PrefectClient
from prefect.exceptions import ObjectNotFound

MISSING = "missing"
ObjectT = TypeVar("ObjectT")


async def if_exists(reading: Awaitable[ObjectT]) -> ObjectT | None:
    """Await an object from Prefect's server; None if it does not exist."""
    try:
        return await reading
    except ObjectNotFound:
        return None


class SetupError(Exception):
    """A resource cannot be created or updated; the message says what to do."""


class ServerResource(Protocol):
    """Something that the deployments need on a Prefect server."""

    @property
    def name(self) -> str:
        """Its name in messages."""
        ...

    async def diff(self, client: PrefectClient) -> str:
        """Say what differs on the server; empty if nothing does."""
        ...

    async def apply(self, client: PrefectClient) -> None:
        """Create or update it.

        Raises:
            SetupError: It cannot be created or updated.
        """
        ...
