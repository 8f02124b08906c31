"""Tell Prefect that backups are complete, so that they are copied: `python -m deployments.notify`."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

from cyclopts import App, Parameter
from prefect.events import Event, Resource
from prefect.events.clients import get_events_client
from prefect.settings import PREFECT_API_URL

from flows.command_start import COULD_NOT_START, DONE, EXIT_STATUSES, PARTLY_FAILED, raise_when_interrupted
from flows.messages import say
from flows.readiness import NotReady, require_server
from flows.reporting.events import ACCOUNT, BACKUP_COMPLETED
from tasks.digitalocean import ResourceId, TagName

app = App(
    name="python -m deployments.notify",
    version_flags=[],
    help_epilogue=EXIT_STATUSES,
    default_parameter=Parameter(negative_iterable="", consume_multiple=True),
)


@app.default
def main(
    *,
    image_ids: list[ResourceId] | None = None,
    droplet_tag: TagName | None = None,
    droplet_id: ResourceId | None = None,
) -> int:
    """Send the event `backup.completed` to the Prefect server at PREFECT_API_URL.

    Args:
        image_ids: The backups that are complete.
        droplet_tag: Droplets whose newest backups are to be copied; without image_ids and this: all.
        droplet_id: The Droplet that was backed up, as the event's resource.

    Returns:
        Exit status: 0 if the server has taken the event, 1 if not, 3 if there is no server.
    """
    try:
        require_server()
    except NotReady as problem:
        say(str(problem))
        return COULD_NOT_START
    raise_when_interrupted()
    event = backup_completed(image_ids, droplet_tag, droplet_id)
    try:
        asyncio.run(send(event))
    except Exception as error:  # noqa: BLE001  # a web socket fails in many ways, and cron needs a sentence and a status
        say(f"{PREFECT_API_URL.value()} has not taken the event: {error!r}")
        return PARTLY_FAILED
    print(f"{event.event} of {event.resource.id} sent: {event.payload}")  # noqa: T201
    return DONE


def backup_completed(image_ids: list[int] | None, droplet_tag: str | None, droplet_id: int | None) -> Event:
    """Compose the event.

    Args:
        image_ids: The backups that are complete.
        droplet_tag: Droplets whose newest backups are to be copied.
        droplet_id: The Droplet that was backed up.

    Returns:
        The event, whose payload names only what is known.
    """
    resource = f"digitalocean.droplet.{droplet_id}" if droplet_id else ACCOUNT
    payload: dict[str, Any] = {"image_ids": image_ids, "droplet_tag": droplet_tag}
    return Event(
        event=BACKUP_COMPLETED,
        resource=Resource({"prefect.resource.id": resource}),
        payload={name: value for name, value in payload.items() if value},
    )


async def send(event: Event) -> None:
    """Send an event, and make sure that it has arrived."""
    async with get_events_client(reconnection_attempts=1) as client:
        await client.emit(event)


if __name__ == "__main__":
    # A link to pydantic's documentation does not help with a mistyped option.
    os.environ.setdefault("PYDANTIC_ERRORS_INCLUDE_URL", "0")
    sys.exit(app())
