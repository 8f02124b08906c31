"""Create or update what the deployments need on a Prefect server: `python -m deployments.setup`."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from getpass import getpass
from pathlib import Path
from typing import Annotated, Any, Literal

import httpx
from cyclopts import App, Parameter
from cyclopts.validators import Number
from prefect.client.orchestration import PrefectClient, get_client
from prefect.settings import PREFECT_API_URL
from pydantic import SecretStr
from rich.console import Console

from deployments.server_resources.account_deployments import NightlyDeploymentResource
from deployments.server_resources.automations import automations
from deployments.server_resources.concurrency_limits import limits
from deployments.server_resources.credentials_blocks import FORMER_TOKEN_BLOCK, CredentialsResource, settings_to_store
from deployments.server_resources.deployment_limits import NoDeploymentLimitResource
from deployments.server_resources.secret_blocks import PING_BLOCK, SecretResource, read_block
from deployments.server_resources.server_resource import MISSING, ServerResource, SetupError
from deployments.server_resources.work_pool import WorkPoolResource, WorkQueueResource
from flows.audit.accounts import SEVERAL_ACCOUNTS
from flows.command_start import COULD_NOT_START, DONE, EXIT_STATUSES, PARTLY_FAILED, raise_when_interrupted
from flows.messages import say
from flows.parameters import BLOCK_NAME
from flows.ping import load_ping_url
from flows.readiness import NotReady, require_server
from tasks.accounts import DEFAULT_ACCOUNT, UNSAVED_ACCOUNT, for_account
from tasks.credentials import BLOCK_TYPE, DigitalOceanCredentials
from tasks.digitalocean import ConfigurationError, TokenMissing, load_settings
from tasks.digitalocean.settings import RateLimit

NAME_WIDTH = 50
ROOT = Path(__file__).resolve().parent.parent
# From a package, there are neither deployments to make nor files for workers to run: entrypoints such as
# `flows/replicate_backups.py:replicate_backups` are relative to the directory of prefect.yaml.
NEEDS_REPOSITORY = (
    "\nThe server is ready. The deployments need the repository: run `make deploy` in a clone of it, "
    "at the same path on every worker"
)

console = Console(highlight=False, soft_wrap=True)
app = App(
    name="python -m deployments.setup",
    version_flags=[],
    help_epilogue=EXIT_STATUSES,
    default_parameter=Parameter(negative=""),
)


def check_account_name(_kind: object, name: str) -> None:
    """Check the name of an account for cyclopts.

    Raises:
        ValueError: It cannot be one.
    """
    if not re.fullmatch(BLOCK_NAME, name) or name in {UNSAVED_ACCOUNT, SEVERAL_ACCOUNTS}:
        raise ValueError(
            f"expected a name of lowercase letters, digits and dashes, other than {UNSAVED_ACCOUNT} and "
            f"{SEVERAL_ACCOUNTS}"
        )


@dataclass(frozen=True)
class Environment:
    """What the environment and `.env` set.

    Attributes:
        token: The API token; None if it is not set.
        ping_url: The URL for pings; None if it is not set.
        settings: Further settings to store in the credentials block.
        rate_limits: The token's.
    """

    token: SecretStr | None
    ping_url: SecretStr | None
    settings: Mapping[str, Any]
    rate_limits: Sequence[RateLimit]


@app.default
def main(
    *,
    check: bool = False,
    account: Annotated[str, Parameter(validator=check_account_name)] = DEFAULT_ACCOUNT,
    nightly: bool = False,
    notify: str | None = None,
    work_pool_type: Literal["process", "docker", "kubernetes"] = "process",
    event_runs: Annotated[int | None, Parameter(validator=Number(gte=1))] = None,
) -> int:
    """Create or update what the deployments need on the Prefect server at PREFECT_API_URL. Safe to run repeatedly.

    The API token comes from DIGITALOCEAN_TOKEN or .env; in a terminal, you are asked for it if the server has none yet.
    The URL that nightly runs ping comes from DIGITALOCEAN_PING_URL, if it is set.

    Args:
        check: Change nothing; list what is missing or differs, and exit with 1 if anything does.
        account: Name of another account, such as prod, whose token is in DIGITALOCEAN_TOKEN. Its runs have the
            parameter credentials set to this name.
        nightly: Also create that account's nightly deployment, a copy of replicate-backups/nightly.
        notify: The block that notifies when copies fail or do not happen, such as slack-webhook/ops. Create it in
            Prefect's UI first. Without it, existing automations keep their actions.
        work_pool_type: Type of a new work pool.
        event_runs: How many runs started by events may run at once; 2 unless the server already has another limit.

    Returns:
        Exit status: 0 if everything is up to date, 1 if not, 3 if the token or the server is missing.
    """
    try:
        environment = _read_environment(account)
        require_server()
        raise_when_interrupted()
        environment = asyncio.run(_with_limits_of(account, environment))
        if account == DEFAULT_ACCOUNT:
            resources = _resources(environment, notify, work_pool_type, event_runs)
        else:
            resources = _resources_of(account, environment, notify, work_pool_type, nightly=nightly)
        return asyncio.run(_apply_all(resources, _command(account, nightly=nightly), change=not check))
    except (NotReady, ConfigurationError) as error:
        say(str(error))
        return COULD_NOT_START
    except SetupError as error:
        say(str(error))
    except httpx.HTTPError as error:
        say(f"Prefect's server at {PREFECT_API_URL.value()} failed: {error!r}")
    return PARTLY_FAILED


def _command(account: str, *, nightly: bool) -> str:
    """Name the command that makes the changes that a check has found."""
    if account == DEFAULT_ACCOUNT and (ROOT / "Makefile").exists():
        return "make setup"
    options = "" if account == DEFAULT_ACCOUNT else f" --account {account}{' --nightly' if nightly else ''}"
    return f"digitalocean-backups setup{options}"


def _read_environment(account: str) -> Environment:
    """Read the settings to store for an account.

    Raises:
        ConfigurationError: A setting is wrong, other than that the token is missing.
    """
    try:
        settings = load_settings()
    except TokenMissing:
        settings, token = load_settings(token=SecretStr("none")), None
    else:
        token = settings.token
    return Environment(token, load_ping_url(), settings_to_store(settings, account), settings.rate_limits)


async def _with_limits_of(account: str, environment: Environment) -> Environment:
    """Replace the rate limits by those of the account's block, unless the environment sets them."""
    if "rate_limits" in environment.settings:
        return environment
    async with get_client() as client:
        kept = await read_block(client, BLOCK_TYPE, account)
    if kept is None:
        return environment
    return replace(environment, rate_limits=DigitalOceanCredentials(**kept).settings().rate_limits)


def _resources(
    environment: Environment, notify: str | None, work_pool_type: str, event_runs: int | None
) -> list[ServerResource]:
    """List what the server needs, in the order in which it can be created."""
    credentials = CredentialsResource(
        DEFAULT_ACCOUNT, environment.token, environment.settings, _ask_for_token, FORMER_TOKEN_BLOCK
    )
    ping_url = environment.ping_url
    return [
        credentials,
        *([SecretResource(PING_BLOCK, "URL", ping_url)] if ping_url else []),
        WorkPoolResource(work_pool_type),
        WorkQueueResource(event_runs),
        NoDeploymentLimitResource(),
        *limits(environment.rate_limits),
        *automations(notify),
    ]


def _resources_of(
    account: str, environment: Environment, notify: str | None, work_pool_type: str, *, nightly: bool
) -> list[ServerResource]:
    """List what another account needs in addition."""
    ping_url = environment.ping_url
    return [
        CredentialsResource(account, environment.token, environment.settings, _ask_for_token),
        *([SecretResource(for_account(PING_BLOCK, account), "URL", ping_url, PING_BLOCK)] if ping_url else []),
        WorkPoolResource(work_pool_type),
        *limits(environment.rate_limits, account),
        *automations(notify, account, nightly=nightly),
        *([NightlyDeploymentResource(account)] if nightly else []),
    ]


async def _apply_all(resources: list[ServerResource], command: str, *, change: bool) -> int:
    """Compare each resource with the server, and create or update it; returns the exit status."""
    incomplete = 0
    async with get_client() as client:
        for resource in resources:
            incomplete += not await _apply(resource, client, change=change)
    if incomplete:
        console.print(f"\n{incomplete} of {len(resources)} resources need changes: run `{command}`")
    elif not (ROOT / "prefect.yaml").exists():
        console.print(NEEDS_REPOSITORY)
    return PARTLY_FAILED if incomplete else DONE


async def _apply(resource: ServerResource, client: PrefectClient, *, change: bool) -> bool:
    """Create or update one resource; returns whether it is up to date."""
    difference = await resource.diff(client)
    status = difference or "unchanged"
    if difference and change:
        await resource.apply(client)
        status = "created" if difference == MISSING else f"updated ({difference})"
    console.print(f"{resource.name:{NAME_WIDTH}} {status}", markup=False)
    return change or not difference


def _ask_for_token() -> SecretStr:
    """Ask for the API token in the terminal."""
    if not sys.stdin.isatty():
        raise TokenMissing("no token found: set DIGITALOCEAN_TOKEN, also in .env, or run this in a terminal")
    return load_settings(token=SecretStr(getpass("DigitalOcean API token: "))).token


if __name__ == "__main__":
    sys.exit(app())
