"""What an execution does to images, as task runs of Prefect; tests put something else in their place.

A run that has transfers in flight does not end because Prefect's server is under strain: where a task run fails of
anything but the API, the same is done without one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from tasks.api_task import is_repeated
from tasks.digitalocean import Action, Connection, DigitalOceanError, Image, ImageActionRequest
from tasks.digitalocean.idempotency import find_applied, post_once
from tasks.image_actions import list_image_actions, post_image_action
from tasks.images import get_image
from tasks.tags import put_tag, tag_images

# Longer than a request takes as a rule; who has pressed Ctrl-C waits no longer.
LONGEST_ENDING_SECONDS = 10.0

ResultT = TypeVar("ResultT")
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Operations:
    """The calls an execution makes.

    Attributes:
        post: Start an action on an image.
        list_actions: List an image's actions.
        get_image: Look at an image; None if it is gone.
        tag: Put a tag on images; returns those that could not be tagged.
    """

    post: Callable[[int, ImageActionRequest], Awaitable[Action]]
    list_actions: Callable[[int], Awaitable[list[Action]]]
    get_image: Callable[[int], Awaitable[Image | None]]
    tag: Callable[[str, list[int]], Awaitable[frozenset[int]]]


def as_task_runs(connection: Connection) -> Operations:
    """Do each call as a task run, or without one where Prefect fails.

    Args:
        connection: The API.

    Returns:
        The calls.
    """
    client = connection.client

    async def post(image_id: int, request: ImageActionRequest) -> Action:
        since = client.server_clock.now()

        async def without() -> Action:
            # Prefect may have failed after the request was sent.
            if found := await find_applied(client, image_id, request, since):
                return found
            return await client.repeating(lambda: post_once(client, image_id, request), when=is_repeated)

        return await or_else(lambda: post_image_action.aio(image_id, request), without)

    async def list_actions(image_id: int) -> list[Action]:
        return await or_else(lambda: list_image_actions.aio(image_id), lambda: client.list_image_actions(image_id))

    async def look(image_id: int) -> Image | None:
        return await or_else(lambda: get_image.aio(image_id), lambda: client.find_image(image_id))

    async def tag(name: str, image_ids: list[int]) -> frozenset[int]:
        async def without() -> frozenset[int]:
            return await client.repeating(lambda: put_tag(client, name, image_ids), when=lambda error: error.transient)

        return await or_else(lambda: tag_images.aio(name, image_ids), without)

    return Operations(post, list_actions, look, tag)


async def _seen_through(work: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Let a task run that is under way end before its caller is cancelled, as when a run's time is over.

    A start that was broken off may be carried out all the same, and Prefect would show its task run as Crashed.
    """
    under_way = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(under_way)
    except asyncio.CancelledError:
        done, _ = await asyncio.wait([under_way], timeout=LONGEST_ENDING_SECONDS)
        caller = asyncio.current_task()
        if not done or not caller:
            under_way.cancel()
            raise
        # The caller notes what has come of it, and is cancelled where it waits next.
        caller.cancel()
        return under_way.result()


async def or_else(
    run: Callable[[], Coroutine[Any, Any, ResultT]], without: Callable[[], Awaitable[ResultT]]
) -> ResultT:
    """Do something as a task run; if Prefect fails, without one.

    Args:
        run: As a task run.
        without: The same without Prefect, which may have failed after the request was sent.

    Returns:
        What came of it.

    Raises:
        DigitalOceanError: The API has failed, not Prefect.
    """
    try:
        return await _seen_through(run())
    except DigitalOceanError:
        raise
    except Exception as trouble:  # noqa: BLE001  # whatever Prefect raises when its server does not answer as it should
        logger.warning("Prefect could not run a task, doing without: %s: %s", type(trouble).__name__, trouble)
        return await without()
