"""Which account a run works on."""

from __future__ import annotations

from prefect import get_run_logger
from prefect.context import FlowRunContext

from flows.liveness import current_heartbeat
from flows.prefect_client import PREFECT_ERRORS, client_without_retries, retried
from tasks.accounts import tag_for
from tasks.api_task import run_blocking
from tasks.connection import connect
from tasks.credentials import Credentials, account_of
from tasks.digitalocean import Connection

LONGEST_REQUEST_SECONDS = 20.0


def open_account(credentials: Credentials) -> Connection:
    """Connect to the account of a run, and tag the flow run with its name, for automations and for the UI.

    Args:
        credentials: The account: a block or its name; None for the token in the environment.

    Raises:
        ConfigurationError: A setting is missing or wrong, or there is no such block.
    """
    _tag_run(tag_for(account_of(credentials)))
    return connect(credentials)


def _tag_run(tag: str) -> None:
    """Tag the current flow run; does nothing without a shared Prefect server."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None or current_heartbeat.get() is None:
        return
    flow_run_id = context.flow_run.id

    async def add() -> None:
        async with client_without_retries(LONGEST_REQUEST_SECONDS) as client:
            tags = (await client.read_flow_run(flow_run_id)).tags
            if tag not in tags:
                await client.update_flow_run(flow_run_id, tags=[*tags, tag])

    try:
        run_blocking(retried(add))
    except PREFECT_ERRORS as error:
        get_run_logger().warning("Could not tag this flow run with %s: %s", tag, str(error) or type(error).__name__)
