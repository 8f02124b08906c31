"""One waiter for every action in flight, so that nobody polls his own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass

from tasks.digitalocean.client import LARGEST_PAGE, DigitalOceanClient
from tasks.digitalocean.clock import Clock, SystemClock
from tasks.digitalocean.errors import APIError, MalformedAnswer, NotFound
from tasks.digitalocean.looks import Feed, Look, Place, Subject, choose_look
from tasks.digitalocean.models import Action
from tasks.digitalocean.pace import Pace

logger = logging.getLogger(__name__)


@dataclass
class Watch:
    """An action that somebody waits for."""

    subject: Subject
    action_type: str
    gigabytes: float | None
    started: float
    look_at: float
    outcome: asyncio.Future[Action]
    waiting: int = 0
    failed_looks: int = 0


class ActionWaiter:
    """Looks at everything that is waited for, as rarely and as cheaply as it can.

    Args:
        client: Where to look.
        clock: Where time comes from; None for this machine's.
    """

    def __init__(self, client: DigitalOceanClient, clock: Clock | None = None) -> None:
        settings = client.settings
        self._client = client
        self._clock = clock or SystemClock()
        self._pace = Pace(settings.poll_interval_seconds, settings.poll_interval_max_seconds)
        self._feed = Feed(LARGEST_PAGE)
        self._watches: dict[int, Watch] = {}
        self._changed = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None

    async def wait(self, image_id: int, action: Action, gigabytes: float | None = None) -> Action:
        """Wait until an action is no longer in progress.

        Any number of callers may wait for the same action. There is no time-out here: cancel, or use
        `asyncio.timeout`.

        Args:
            image_id: The image it runs on.
            action: The action as it was last seen.
            gigabytes: The image's size, from which the waiter learns how long such actions take.

        Returns:
            The action, completed or errored.

        Raises:
            NotFound: The action, or its image, is gone.
            APIError: The API cannot be asked any more, for example because the token was revoked.
        """
        if not action.in_progress:
            return action
        watch = self._watches.get(action.id) or self._begin(image_id, action, gigabytes)
        watch.waiting += 1
        try:
            return await asyncio.shield(watch.outcome)
        finally:
            watch.waiting -= 1
            if not watch.waiting:
                self._watches.pop(action.id, None)

    def _begin(self, image_id: int, action: Action, gigabytes: float | None) -> Watch:
        now = self._clock.monotonic()
        watch = Watch(
            subject=Subject(action.id, image_id),
            action_type=action.type,
            gigabytes=gigabytes,
            started=now,
            look_at=now + self._pace.pause(action.type, gigabytes, age=0),
            outcome=asyncio.get_running_loop().create_future(),
        )
        self._watches[action.id] = watch
        self._feed.note([action.id])
        self._changed.set()
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_until_done())
        return watch

    async def _look_until_done(self) -> None:
        try:
            while self._watches:
                now = self._clock.monotonic()
                pause = min(watch.look_at for watch in self._watches.values()) - now
                if pause > 0:
                    await self._pause(pause)
                else:
                    await self._look_at_due(now)
        except BaseException as error:
            # Nobody looks any more: whoever waits must hear of it.
            self._give_up([watch.subject for watch in self._watches.values()], error)
            raise

    async def _pause(self, seconds: float) -> None:
        """Sleep, until something new is to be watched."""
        self._changed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    async def _look_at_due(self, now: float) -> None:
        # What would be due within half the shortest pause is looked at now: later it would cost a request more.
        soon = now + self._pace.shortest / 2
        due = {watch.subject for watch in self._watches.values() if watch.look_at <= soon}
        taken: set[Place] = set()
        while look := choose_look(due, self._feed, taken):
            taken.add(look.place)
            try:
                seen = await self._take(look)
            except NotFound as error:
                due -= look.shows
                self._give_up(look.shows, error)
            except APIError as error:
                if not error.transient:
                    self._give_up([watch.subject for watch in self._watches.values()], error)
                    return
                due -= look.shows
                self._look_later(look.shows, error)
            else:
                due = {each for each in due if each.action_id not in seen and each.action_id in self._watches}
        for subject in due:
            problem = MalformedAnswer("GET", "/v2/actions", message=f"action {subject.action_id} is in no list")
            self._look_later([subject], problem)

    async def _take(self, look: Look) -> set[int]:
        """Send a look's request; returns the ids of what it showed."""
        kind, key = look.place
        if kind == "action":
            (subject,) = look.shows
            actions = [await self._client.get_image_action(subject.image_id, key)]
        elif kind == "image":
            actions = await self._client.list_image_actions(key)
        else:
            actions, _ = await self._client.list_recent_actions(key)
            self._feed.note(action.id for action in actions)
        for action in actions:
            self._note(action)
        return {action.id for action in actions}

    def _note(self, action: Action) -> None:
        watch = self._watches.get(action.id)
        if watch is None or watch.outcome.done():
            return
        age = self._clock.monotonic() - watch.started
        if action.in_progress:
            watch.failed_looks = 0
            watch.look_at = watch.started + age + self._pace.pause(watch.action_type, watch.gigabytes, age)
            return
        if action.completed:
            self._pace.learn(watch.action_type, watch.gigabytes, age)
        del self._watches[action.id]
        watch.outcome.set_result(action)

    def _look_later(self, subjects: Collection[Subject], error: APIError) -> None:
        logger.warning("Could not look at %d actions, will look again: %s", len(subjects), error)
        for watch in self._watched(subjects):
            watch.failed_looks += 1
            pause = min(self._pace.shortest * 2**watch.failed_looks, self._pace.longest)
            watch.look_at = self._clock.monotonic() + pause

    def _give_up(self, subjects: Collection[Subject], error: BaseException) -> None:
        for watch in self._watched(subjects):
            del self._watches[watch.subject.action_id]
            if not watch.outcome.done():
                watch.outcome.set_exception(error)

    def _watched(self, subjects: Collection[Subject]) -> list[Watch]:
        found = (self._watches.get(subject.action_id) for subject in subjects)
        return [watch for watch in found if watch is not None]
