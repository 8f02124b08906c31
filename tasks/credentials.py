"""The block with an account's API token, which Prefect stores encrypted."""

from __future__ import annotations

import json
from typing import TypeAlias

from prefect.blocks.core import Block
from pydantic import ConfigDict, Field, HttpUrl, SecretStr, field_validator

from tasks.accounts import DEFAULT_ACCOUNT, UNSAVED_ACCOUNT
from tasks.digitalocean import ConfigurationError, Connection, DigitalOceanClient, Settings, load_settings

BLOCK_TYPE = "digitalocean-credentials"


class DigitalOceanCredentials(Block):
    """The API token of a DigitalOcean account, with its limits.

    The name of the block is the name of the account. All other settings come from the environment.

    Attributes:
        token: API token: https://docs.digitalocean.com/reference/api/create-personal-access-token/
        api_url: URL of the API. Plain HTTP is allowed only for loopback addresses.
        rate_limits: Sliding windows of the token, as JSON: requests and seconds of each. The default is that of the
            documentation: https://docs.digitalocean.com/reference/api/digitalocean/#section/Introduction/Rate-Limit

    Example:
        ```python
        from flows.replicate_backups import replicate_backups
        from tasks.credentials import DigitalOceanCredentials

        replicate_backups(credentials=DigitalOceanCredentials.load("prod"))
        ```
    """

    _block_type_name = "DigitalOcean Credentials"
    _block_type_slug = BLOCK_TYPE
    _description = "The API token of a DigitalOcean account, for the flows that copy its backups."
    _documentation_url = HttpUrl("https://docs.digitalocean.com/reference/api/scopes/")

    # A rejected value may be the token itself.
    model_config = ConfigDict(hide_input_in_errors=True)

    token: SecretStr = Field(title="API token", description="The API token, with the scopes that the flows need.")
    api_url: str = Field(
        default=Settings.model_fields["api_url"].default, title="API URL", description="Change it only for tests."
    )
    rate_limits: str = Field(
        default=json.dumps(Settings.model_fields["rate_limits"].default),
        title="Rate limits",
        description="Requests and seconds of each of the token's limits. Change it only if yours differ.",
    )

    @field_validator("rate_limits", mode="before")
    @classmethod
    def _as_json(cls, limits: object) -> object:
        return json.dumps(limits) if isinstance(limits, (list, tuple)) else limits

    @property
    def account(self) -> str:
        """The name of the account."""
        return self._block_document_name or UNSAVED_ACCOUNT

    def settings(self) -> Settings:
        """Read the other settings from the environment.

        Raises:
            ConfigurationError: One of them, or a field of this block, is not valid.
        """
        try:
            return load_settings(token=self.token, api_url=self.api_url, rate_limits=self.rate_limits)
        except ConfigurationError as error:
            raise ConfigurationError(f"credentials {self.account!r}: {error}") from error

    def get_client(self) -> DigitalOceanClient:
        """Get the process's client for this account.

        Returns:
            The client, whose methods can be awaited in any event loop. All calls, tasks and flows with these
            credentials use the same one, so that they share its rate limiter.

        Raises:
            ConfigurationError: A setting is not valid.

        Example:
            ```python
            client = DigitalOceanCredentials.load("prod").get_client()
            regions = await client.list_regions()
            ```
        """
        from tasks.connection import connect  # noqa: PLC0415  # which imports this module

        return connect(self).client


# What tasks accept: a block, its name, or an open connection; None for the token in the environment.
Credentials: TypeAlias = DigitalOceanCredentials | str | Connection | None


def account_of(credentials: Credentials) -> str:
    """Name the account that credentials belong to."""
    if isinstance(credentials, (DigitalOceanCredentials, Connection)):
        return credentials.account
    return credentials or DEFAULT_ACCOUNT
