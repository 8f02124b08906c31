"""One thing that a Prefect server has to hold."""

from __future__ import annotations

from typing import Protocol

from prefect.client.orchestration import PrefectClient


class SetUpError(Exception):
    """A part cannot be made; the message says what to do."""


class ServerResource(Protocol):
    """One thing that a Prefect server has to hold."""

    @property
    def name(self) -> str:
        """What it is, for people."""
        ...

    async def lacking(self, client: PrefectClient) -> str:
        """Say what is not as it should be; empty if nothing."""
        ...

    async def make(self, client: PrefectClient) -> None:
        """Make it as it should be.

        Raises:
            SetUpError: That cannot be done.
        """
        ...
