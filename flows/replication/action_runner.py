"""Seeing one action through: started when its turn comes, understood when refused, waited for, started anew."""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from flows.replication.operations import Operations, as_task_runs
from flows.replication.planning import just_done
from flows.replication.refusals import Refusals
from flows.replication.starts import Priority, StartQueue
from flows.reporting.report import count
from tasks.digitalocean import (
    Action,
    APIError,
    Connection,
    ConvertImage,
    Forbidden,
    Image,
    ImageActionRequest,
    NotFound,
    ScopeMissing,
    TransferImage,
    Unauthorized,
    UnexpectedStatus,
    UnprocessableEntity,
)
from tasks.digitalocean.errors import MOST_REFUSALS

# An image stays locked for an unknown time after its conversion. The pauses between tries double, from the shortest
# poll interval to the longest: some five minutes with the defaults.
MOST_TRIES_WHILE_LOCKED = 7

LAST: Priority = (math.inf,)

logger = logging.getLogger(__name__)


class Ending(StrEnum):
    """What came of an action that was asked for."""

    NOTHING_TO_DO = "nothing_to_do"
    STARTED = "started"
    DONE = "done"
    ADOPTED = "adopted"


class ActionErrored(Exception):
    """An action that ended errored each time it was started.

    Args:
        starts: How often it was started.
    """

    def __init__(self, starts: int) -> None:
        super().__init__(f"the action ended errored, as did each of {count(starts, 'start')}")


class ImageDeleted(Exception):
    """An image that the API does not know any more.

    Args:
        image_id: The image.
    """

    def __init__(self, image_id: int) -> None:
        super().__init__(f"image {image_id} is gone, it was deleted meanwhile")


@dataclass(frozen=True)
class Started:
    """What came of asking for an action.

    Attributes:
        action: The action; None if there is nothing left to do.
        adopted: Whether somebody else had started it.
    """

    action: Action | None
    adopted: bool = False


@dataclass(frozen=True)
class Standing:
    """How an image stands after an action on it was refused.

    Attributes:
        image: The image, None if it is gone.
        actions: Its actions.
        now: The time.
    """

    image: Image | None
    actions: tuple[Action, ...]
    now: datetime

    def already(self, request: ImageActionRequest) -> Started | None:
        """Find what was asked for, done or under way."""
        if self.image is not None and request.shown_by(self.image):
            return Started(None)
        matching = [action for action in self.actions if request.matches(action)]
        for action in matching:
            if action.in_progress:
                return Started(action, adopted=True)
        # The action may be done some seconds before the image shows it.
        return Started(None) if any(just_done(action, self.now) for action in matching) else None

    def is_locked(self) -> bool:
        """Whether another action, or one that has just ended, may be what is in the way."""
        return any(action.in_progress or just_done(action, self.now) for action in self.actions)


class ActionRunner:
    """Runs actions to their end; each starts as a task run of Prefect when the rate budget lets it go.

    Args:
        connection: The API.
        operations: How it is asked; None for task runs of Prefect.
    """

    def __init__(self, connection: Connection, operations: Operations | None = None) -> None:
        self._operations = operations or as_task_runs(connection)
        self.queue = StartQueue(connection.client.rate_limiter)
        self._connection = connection
        self._token_refused: APIError | None = None
        self._refusals = Refusals()
        self._settling_seconds = connection.settings.poll_interval_seconds
        self._unlocked: set[int] = set()

    @property
    def settling_seconds(self) -> float:
        """How long an image that was just converted should be given to be unlocked; learnt from refusals."""
        return self._settling_seconds

    async def see_through(
        self,
        image: Image,
        request: ImageActionRequest,
        priority: Priority,
        running: Action | None,
        note_start: Callable[[Action], None] = lambda _: None,
        *,
        wait: bool = True,
    ) -> Ending:
        """Start an action unless it runs already, wait for it, and start it anew if it ends errored.

        Args:
            image: The image to act on.
            request: What to do.
            priority: Lowest goes first.
            running: The action, if it is known to run already.
            note_start: Called with each action that was started or adopted.
            wait: Whether to wait for its end.

        Returns:
            What came of it.

        Raises:
            ActionErrored: It was started as often as is sensible, and always ended errored.
            ImageDeleted: The image is gone.
            APIError: It could not be started, or nobody knows.
        """
        started = Started(running, adopted=True) if running else await self._start(image, request, priority)
        restarts = self._connection.settings.action_restart_max
        for starts_left in reversed(range(restarts + 1)):
            if started.action is None:
                return Ending.NOTHING_TO_DO
            note_start(started.action)
            if not wait:
                return Ending.STARTED
            if await self._completes(image, request, started.action):
                break
            if not starts_left:
                raise ActionErrored(restarts + 1)
            started = await self._start(image, request, priority)
        return Ending.ADOPTED if started.adopted else Ending.DONE

    async def tag_converted(self, image_id: int, tag: str) -> None:
        """Tag an image that was just converted; tried again while the API still takes it for a backup.

        Args:
            image_id: The image.
            tag: The tag.
        """
        for tries in range(1, MOST_TRIES_WHILE_LOCKED + 1):
            try:
                if not await self._operations.tag(tag, [image_id]):
                    return
                if await self._operations.get_image(image_id) is None:
                    return  # the copies' rows say so
            except Exception as error:  # noqa: BLE001  # copying goes on
                logger.error("Image %d was converted but not tagged: %s", image_id, describe(error))  # noqa: TRY400
                return
            await asyncio.sleep(self._pause_after(tries))
        logger.error("Image %d was converted, but cannot be tagged %s", image_id, tag)

    def _pause_after(self, tries: int) -> float:
        """How long to wait before what was refused for the moment is tried again."""
        settings = self._connection.settings
        return min(settings.poll_interval_seconds * 2.0 ** (tries - 1), settings.poll_interval_max_seconds)

    async def _completes(self, image: Image, request: ImageActionRequest, action: Action) -> bool:
        try:
            # Transfers wait for a conversion, and it takes no longer for a large image.
            converting = isinstance(request, ConvertImage)
            gigabytes = None if converting else image.size_gigabytes
            ended = await self._connection.poller.wait(image.id, action, gigabytes, blocking=converting)
        except NotFound as error:
            # The action is gone, or the image is: what the image itself shows decides.
            shown = await self._operations.get_image(image.id)
            if shown is None:
                raise ImageDeleted(image.id) from error
            if request.shown_by(shown):
                return True
            raise
        return ended.completed

    async def _start(self, image: Image, request: ImageActionRequest, priority: Priority) -> Started:
        """Start an action, or find that it runs or has worked already.

        Args:
            image: The image to act on.
            request: What to do.
            priority: Lowest goes first.

        Returns:
            What came of it.

        Raises:
            ImageDeleted: The image is gone.
            APIError: The API refuses for good, the action was not started, or its fate is unknown.
        """
        for tries in range(1, MOST_TRIES_WHILE_LOCKED + 1):
            unlocked_before = image.id in self._unlocked
            try:
                return Started(await self._post(image, request, priority))
            except (UnprocessableEntity, NotFound, UnexpectedStatus) as refusal:
                if refusal.ambiguous:
                    raise
                standing = await self._look(image)
                if standing.image is None:
                    raise ImageDeleted(image.id) from refusal
                if found := standing.already(request):
                    return found
                locked = not unlocked_before and standing.is_locked()
                # A 404 although the image is there may pass; any other refusal only with a lock.
                passes = isinstance(refusal, NotFound) and tries < MOST_REFUSALS
                if tries == MOST_TRIES_WHILE_LOCKED or not (locked or passes):
                    raise
                logger.info("%s of image %d is refused for the moment: %s", request, image.id, refusal.message)
                await asyncio.sleep(self._pause_after(tries))
                if locked:
                    self._settling_seconds = max(self._settling_seconds, self._pause_after(tries + 1))
        raise AssertionError("unreachable: the last try returns or raises")

    async def _look(self, image: Image) -> Standing:
        shown = await self._operations.get_image(image.id)
        actions = await self._operations.list_actions(image.id) if shown else []
        return Standing(shown, tuple(actions), self._connection.client.server_clock.now())

    async def _post(self, image: Image, request: ImageActionRequest, priority: Priority) -> Action:
        self._refusals.want(image.id)
        try:
            for tries in itertools.count(1):
                try:
                    action = await self._post_in_turn(image, request, priority)
                except ScopeMissing:
                    raise
                except Forbidden as error:
                    if tries == MOST_REFUSALS:
                        raise
                    logger.warning("%s; asking again, other images first", error)
                    await asyncio.sleep(self._pause_after(tries))
                else:
                    if isinstance(request, TransferImage):
                        # Transfers of one image run side by side, so where one is accepted, no lock keeps others out.
                        self._unlocked.add(image.id)
                    return action
        finally:
            self._refusals.done(image.id)
        raise AssertionError("unreachable: the tries are counted without end")

    async def _post_in_turn(self, image: Image, request: ImageActionRequest, priority: Priority) -> Action:
        """Start an action once it is its turn, unless the token has been refused.

        Raises:
            ScopeMissing: The token may start no actions.
            Forbidden: The API refuses, which may pass.
        """
        async with self.queue.turn(priority):
            if not self._refusals.should_go_last(image.id):
                return await self._post_unless_refused(image, request)
        async with self.queue.turn(LAST):
            return await self._post_unless_refused(image, request)

    async def _post_unless_refused(self, image: Image, request: ImageActionRequest) -> Action:
        if self._token_refused:
            raise self._token_refused.for_request("POST", f"/v2/images/{image.id}/actions")
        clock = asyncio.get_running_loop()
        sent = clock.time()
        try:
            action = await self._operations.post(image.id, request)
        except Unauthorized as error:
            # It would be the same for every other action.
            self._token_refused = error
            raise
        except Forbidden as error:
            if not self._refusals.refused(image.id, sent, clock.time()):
                raise
            missing = ScopeMissing(error.method, error.path, error.status, error.error_id, error.message)
            self._token_refused = missing
            raise missing from error
        self._refusals.accepted()
        return action


def largest_first(image: Image) -> float:
    """Priority by size: the largest take longest, so they start first."""
    return -(image.size_gigabytes or 0.0)


def describe(error: Exception) -> str:
    """Say what went wrong with an image, for its row in the report; of the unforeseen, the log has the traceback."""
    if isinstance(error, (APIError, ActionErrored, ImageDeleted)):
        return str(error)
    logger.debug("Unforeseen", exc_info=error)
    return f"unexpected {type(error).__name__}: {error}"
