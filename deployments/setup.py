"""Create or update what the deployments need on a Prefect server: `python -m deployments.setup`."""

from __future__ import annotations

import asyncio
import sys
from getpass import getpass
from pathlib import Path
from typing import Annotated, Literal

import httpx
from cyclopts import App, Parameter
from cyclopts.validators import Number
from prefect.client.orchestration import PrefectClient, get_client
from prefect.settings import PREFECT_API_URL
from pydantic import SecretStr
from rich.console import Console

from deployments.server_resources.automations import automations
from deployments.server_resources.concurrency_limits import limits
from deployments.server_resources.deployment_limits import NoDeploymentLimitResource
from deployments.server_resources.secret_blocks import PING_BLOCK, TOKEN_BLOCK, SecretResource
from deployments.server_resources.server_resource import MISSING, ServerResource, SetupError
from deployments.server_resources.work_pool import WorkPoolResource, WorkQueueResource
from flows.command_start import COULD_NOT_START, DONE, EXIT_STATUSES, PARTLY_FAILED, raise_when_interrupted
from flows.messages import say
from flows.ping import load_ping_url
from flows.readiness import NotReady, require_server
from tasks.digitalocean import ConfigurationError, TokenMissing, load_settings

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


@app.default
def main(
    *,
    check: bool = False,
    notify: str | None = None,
    work_pool_type: Literal["process", "docker", "kubernetes"] = "process",
    event_runs: Annotated[int | None, Parameter(validator=Number(gte=1))] = None,
) -> int:
    """Create or update what the deployments need on the Prefect server at PREFECT_API_URL. Safe to run repeatedly.

    The API token comes from DIGITALOCEAN_TOKEN or .env; in a terminal, you are asked for it if the server has none yet.
    The URL that nightly runs ping comes from DIGITALOCEAN_PING_URL, if it is set.

    Args:
        check: Change nothing; list what is missing or differs, and exit with 1 if anything does.
        notify: The block that notifies when copies fail or do not happen, such as slack-webhook/ops. Create it in
            Prefect's UI first. Without it, existing automations keep their actions.
        work_pool_type: Type of a new work pool.
        event_runs: How many runs started by events may run at once; 2 unless the server already has another limit.

    Returns:
        Exit status: 0 if everything is up to date, 1 if not, 3 if the token or the server is missing.
    """
    try:
        resources = _required_resources(notify, work_pool_type, event_runs)
        require_server()
        raise_when_interrupted()
        return asyncio.run(_apply_all(resources, change=not check))
    except (NotReady, ConfigurationError) as error:
        say(str(error))
        return COULD_NOT_START
    except SetupError as error:
        say(str(error))
    except httpx.HTTPError as error:
        say(f"Prefect's server at {PREFECT_API_URL.value()} failed: {error!r}")
    return PARTLY_FAILED


def _required_resources(notify: str | None, work_pool_type: str, event_runs: int | None) -> list[ServerResource]:
    """List what the server needs, in the order in which it can be created.

    Raises:
        ConfigurationError: A setting is wrong, other than that the token is missing.
    """
    token: SecretStr | None = None
    try:
        settings = load_settings()
        token = settings.token
    except TokenMissing:
        settings = load_settings(token=SecretStr("none"))
    ping_url = load_ping_url()
    return [
        SecretResource(TOKEN_BLOCK, "token", token, _ask_for_token),
        *([SecretResource(PING_BLOCK, "URL", ping_url)] if ping_url else []),
        WorkPoolResource(work_pool_type),
        WorkQueueResource(event_runs),
        NoDeploymentLimitResource(),
        *limits(settings.rate_limits),
        *automations(notify),
    ]


async def _apply_all(resources: list[ServerResource], *, change: bool) -> int:
    """Compare each resource with the server, and create or update it; returns the exit status."""
    incomplete = 0
    async with get_client() as client:
        for resource in resources:
            incomplete += not await _apply(resource, client, change=change)
    if incomplete:
        command = "make setup" if (ROOT / "Makefile").exists() else "digitalocean-backups setup"
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
