"""Send Prefect the event that starts a run when backups are complete: `python -m deployments.notify`."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Annotated, Any

from cyclopts import App, Parameter
from prefect.events import Event, Resource
from prefect.events.clients import get_events_client
from prefect.settings import PREFECT_API_URL

from flows.command_start import COULD_NOT_START, DONE, EXIT_STATUSES, PARTLY_FAILED, raise_when_interrupted
from flows.messages import say
from flows.parameters import credentials_of
from flows.readiness import NotReady, require_server
from flows.reporting.events import ACCOUNT, BACKUP_COMPLETED
from tasks.digitalocean import ResourceId, TagName

app = App(
    name="python -m deployments.notify",
    version_flags=[],
    help_epilogue=EXIT_STATUSES,
    default_parameter=Parameter(negative_iterable="", consume_multiple=True),
)


def check_credentials(_kind: object, name: str | None) -> None:
    """Check the name of credentials for cyclopts: an event with a wrong one would start no run.

    Raises:
        ValueError: It is not the name of a block.
    """
    if name is not None and credentials_of(name) is None:
        raise ValueError("expected the name of a credentials block, not an empty text")


@app.default
def main(
    *,
    image_ids: list[ResourceId] | None = None,
    droplet_tag: TagName | None = None,
    droplet_id: ResourceId | None = None,
    credentials: Annotated[str | None, Parameter(validator=check_credentials)] = None,
) -> int:
    """Send the event `backup.completed` to the Prefect server at PREFECT_API_URL.

    Args:
        image_ids: The backups that are complete.
        droplet_tag: Copy the newest backups of the Droplets with this tag; without it and image_ids, of all Droplets.
        droplet_id: The Droplet that was backed up, as the event's resource.
        credentials: The account that the backups are in, by the name of its credentials block.

    Returns:
        Exit status: 0 if the event was sent, 1 if not, 3 if there is no server.
    """
    try:
        require_server()
    except NotReady as problem:
        say(str(problem))
        return COULD_NOT_START
    raise_when_interrupted()
    payload: dict[str, Any] = {"image_ids": image_ids, "droplet_tag": droplet_tag, "credentials": credentials}
    event = Event(
        event=BACKUP_COMPLETED,
        resource=Resource({"prefect.resource.id": f"digitalocean.droplet.{droplet_id}" if droplet_id else ACCOUNT}),
        payload={name: value for name, value in payload.items() if value},
    )
    try:
        asyncio.run(send(event))
    except Exception as error:  # noqa: BLE001  # a WebSocket fails in many ways, and cron needs a message and a status
        say(f"could not send the event to {PREFECT_API_URL.value()}: {error!r}")
        return PARTLY_FAILED
    print(f"{event.event} of {event.resource.id} sent: {event.payload}")  # noqa: T201
    return DONE


async def send(event: Event) -> None:
    """Send an event and wait until the server has received it."""
    async with get_events_client(reconnection_attempts=1) as client:
        await client.emit(event)


if __name__ == "__main__":
    # A mistyped option needs no link to pydantic's documentation.
    os.environ.setdefault("PYDANTIC_ERRORS_INCLUDE_URL", "0")
    sys.exit(app())
