"""Make a Prefect server ready for this project's deployments; as often as you like: `python -m deployments.setup`."""

from __future__ import annotations

import asyncio
import sys
from getpass import getpass
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
from deployments.server_resources.deployment_limits import NoDeploymentLimitPart
from deployments.server_resources.server_resource import ServerResource, SetUpError
from deployments.server_resources.token_block import TokenPart
from deployments.server_resources.work_pool import WorkPoolPart
from deployments.server_resources.work_queue import WorkQueuePart
from flows.command_start import COULD_NOT_START, EXIT_STATUSES, PARTLY_FAILED, raise_when_interrupted
from flows.readiness import NotReady, require_server
from tasks.digitalocean import ConfigurationError, TokenMissing, load_settings

NAME_WIDTH = 50

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
    """Make what the deployments need on the Prefect server at PREFECT_API_URL, and say what was done.

    The API token is taken from DIGITALOCEAN_TOKEN or .env; in a terminal it is asked for if the server has none yet.

    Args:
        check: Change nothing; say what is missing, and exit with 1 if anything is.
        notify: The block that tells somebody when copies fail or do not happen, such as slack-webhook/ops. Make it in
            Prefect's UI first. Without it, automations that exist keep what they do.
        work_pool_type: What a new work pool is made of.
        event_runs: How many runs that events have started may be at work at once; 2 unless the server has another
            limit already.

    Returns:
        Exit status: 0 if everything is as it should be, 1 if not, 3 if there is no token or no server.
    """
    try:
        parts = parts_needed(notify, work_pool_type, event_runs)
        require_server()
        raise_when_interrupted()
        return asyncio.run(go_through(parts, change=not check))
    except (NotReady, ConfigurationError) as error:
        return complain(str(error), COULD_NOT_START)
    except SetUpError as error:
        return complain(str(error))
    except httpx.HTTPError as error:
        return complain(f"Prefect's server at {PREFECT_API_URL.value()} failed: {error!r}")


def parts_needed(notify: str | None, work_pool_type: str, event_runs: int | None = None) -> list[ServerResource]:
    """List what the server has to hold.

    Args:
        notify: The block that notifies, as `type/name`.
        work_pool_type: Type of a new work pool.
        event_runs: How many runs that events have started may be at work at once; None to keep the limit that is set.

    Returns:
        The parts, in the order in which they can be made.

    Raises:
        ConfigurationError: A setting is wrong, other than that the token is missing.
    """
    token: SecretStr | None = None
    try:
        settings = load_settings()
        token = settings.token
    except TokenMissing:
        settings = load_settings(token=SecretStr("none"))
    return [
        TokenPart(token, ask_for_token),
        WorkPoolPart(work_pool_type),
        WorkQueuePart(event_runs),
        NoDeploymentLimitPart(),
        *limits(settings.rate_limits),
        *automations(notify),
    ]


async def go_through(parts: list[ServerResource], *, change: bool) -> int:
    """Look at each part, and make it as it should be.

    Args:
        parts: The parts.
        change: Whether to change anything.

    Returns:
        Exit status: 1 if something is not as it should be.
    """
    incomplete = 0
    async with get_client() as client:
        for part in parts:
            incomplete += not await _see_to(part, client, change=change)
    if incomplete:
        console.print(f"\n{incomplete} of {len(parts)} are not as they should be: run this again without --check")
    return 1 if incomplete else 0


async def _see_to(part: ServerResource, client: PrefectClient, *, change: bool) -> bool:
    """Make one part as it should be; returns whether it is."""
    problem = await part.lacking(client)
    if problem and change:
        await part.make(client)
    verdict = ("made" if problem == "is missing" else f"corrected: it {problem}") if change else problem
    console.print(f"{part.name:{NAME_WIDTH}} {verdict if problem else 'already so'}", markup=False)
    return change or not problem


def ask_for_token() -> SecretStr:
    """Ask whoever sits at the terminal for the API token.

    Raises:
        TokenMissing: Nobody sits there.
    """
    if not sys.stdin.isatty():
        raise TokenMissing("there is no token yet: put it into DIGITALOCEAN_TOKEN or .env, or run this in a terminal")
    return load_settings(token=SecretStr(getpass("DigitalOcean API token: "))).token


def complain(sentence: str, status: int = PARTLY_FAILED) -> int:
    """Say why it cannot be done; returns the exit status."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(sentence, markup=False)
    return status


if __name__ == "__main__":
    sys.exit(app())
