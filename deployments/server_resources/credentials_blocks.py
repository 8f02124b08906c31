"""The credentials blocks, one per account, which Prefect stores encrypted."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from prefect.client.orchestration import PrefectClient
from pydantic import SecretStr

from deployments.server_resources.secret_blocks import read_block, read_secret
from deployments.server_resources.server_resource import MISSING, SetupError
from flows.messages import say
from tasks.accounts import DEFAULT_ACCOUNT
from tasks.connection import read_tokens
from tasks.credentials import BLOCK_TYPE, DigitalOceanCredentials
from tasks.digitalocean import Settings
from tasks.digitalocean.settings import PREFIX

# Where earlier versions kept the token.
FORMER_TOKEN_BLOCK = "digitalocean-token"  # noqa: S105  # the name of a block
# Fields of the block, besides the token, that are also settings.
FIELDS = ("api_url", "rate_limits")


@dataclass(frozen=True)
class CredentialsResource:
    """The credentials block of an account.

    Attributes:
        account: The account, whose name is that of the block.
        token: The token to store; None to keep that of an existing block.
        settings: URL and limits to store: those that are set in the environment.
        ask: Asks the user for the token if there is neither.
        former_secret: Name of a Secret block with the token, to use if there is neither.
    """

    account: str
    token: SecretStr | None
    settings: Mapping[str, Any]
    ask: Callable[[], SecretStr]
    former_secret: str = ""

    @property
    def name(self) -> str:
        """Its name in messages."""
        return f"credentials {self.account}"

    async def diff(self, client: PrefectClient) -> str:
        """Say what differs on the server; empty if nothing does."""
        kept = await read_block(client, BLOCK_TYPE, self.account)
        if other := await self._account_with_token(client):
            if kept:
                # Such as the default account's, in `.env`: the environment is not about this account.
                say(f"DIGITALOCEAN_TOKEN is the token of account {other!r}, so account {self.account!r} keeps its own")
                return ""
            raise SetupError(
                f"DIGITALOCEAN_TOKEN, in the environment or .env, is the token of account {other!r}: "
                f"set it to that of {self.account!r}"
            )
        if kept is None:
            return MISSING
        wanted = self._block(kept)
        differing = ["token"] if wanted.token.get_secret_value() != kept["token"] else []
        differing += [each for each in FIELDS if getattr(wanted, each) != kept.get(each)]
        verb = "differs" if len(differing) == 1 else "differ"
        return f"{' and '.join(differing)} {verb}" if differing else ""

    async def apply(self, client: PrefectClient) -> None:
        """Store the block, and register its type."""
        kept = dict(await read_block(client, BLOCK_TYPE, self.account) or {})
        if not self.token and "token" not in kept:
            former = await read_secret(client, self.former_secret) if self.former_secret else None
            kept["token"] = former or self.ask().get_secret_value()
        await self._block(kept).save(self.account, overwrite=True, client=client)

    def _block(self, kept: Mapping[str, Any]) -> DigitalOceanCredentials:
        """Make the block from what was stored and what is to change."""
        token = {"token": self.token} if self.token else {}
        return DigitalOceanCredentials(**{**kept, **token, **self.settings})

    async def _account_with_token(self, client: PrefectClient) -> str:
        """Find another account that already has this token; returns its name, or an empty text."""
        for account, token in (await read_tokens(client)).items():
            if self.token and account != self.account and token == self.token.get_secret_value():
                return account
        return ""


def settings_to_store(settings: Settings, account: str) -> dict[str, Any]:
    """Choose the settings that belong into a credentials block: those that are set.

    Args:
        settings: From the environment and `.env`.
        account: The account; for others than the default one, `.env` does not count.
    """
    from_file = account == DEFAULT_ACCOUNT
    return {
        each: getattr(settings, each)
        for each in FIELDS
        if each in settings.model_fields_set and (from_file or f"{PREFIX}{each.upper()}" in os.environ)
    }
