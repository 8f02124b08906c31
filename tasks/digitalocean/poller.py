"""One waiter for every action in flight, so that nobody polls his own; it depends on no single source."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass

from tasks.digitalocean.client import LARGEST_PAGE, DigitalOceanClient
from tasks.digitalocean.durations import DurationEstimate
from tasks.digitalocean.errors import APIError, MalformedResponse, NotFound, ScopeMissing, Unauthorized
from tasks.digitalocean.models import Action
from tasks.digitalocean.polling import Feed, Look, Place, Situation, Subject, next_look
from tasks.digitalocean.sources import Either, Left, Sources
from tasks.digitalocean.usage import UsageCounter, charged_to, current_counters

# Whether to look is thought over whenever the time since the last look has grown by this part.
PART_BETWEEN_THOUGHTS = 0.1
# The longer the waiting lasts, the longer may nothing be looked at: after this part of it a look is overdue ...
PART_UNTIL_OVERDUE = 0.08
# ... and after this part it is taken whatever is expected of it.
PART_UNTIL_FORGOTTEN = 0.3
# An action that a list has not shown may be in it later.
INTERVALS_UNLISTED = 3
# An action may be unknown for some seconds after its start. After so many 404s, between which no list shows it either,
# it is not there, though its image is. https://github.com/digitalocean/api-v2/issues/26
MOST_NOT_FOUND = 5
# An action whose start lies further back by the server's clock tells more of the clocks than of the action.
OLDEST_START_SECONDS = 86400

logger = logging.getLogger(__name__)


@dataclass
class Watch:
    """An action that somebody waits for.

    Attributes:
        subject: The action and its image.
        action_type: Such as `transfer`.
        gigabytes: Size of the image, None where unknown.
        started: When it started, by the monotonic clock.
        seen: When it was last seen in progress.
        not_before: When it may be looked at again.
        outcome: The action once it is no longer in progress.
        blocking: Whether other work waits for its end.
        unlisted_until: Until when it is looked at alone, because a list has not shown it.
        tallies: What counts the requests of those who wait.
        waiting: How many wait for it.
        not_found: How often in a row the API did not know it.
    """

    subject: Subject
    action_type: str
    gigabytes: float | None
    started: float
    seen: float
    not_before: float
    outcome: asyncio.Future[Action]
    blocking: bool = False
    unlisted_until: float = -math.inf
    counters: tuple[UsageCounter, ...] = ()
    waiting: int = 0
    not_found: int = 0


class ActionPoller:
    """Looks at everything that is waited for, as rarely and as cheaply as it can.

    Args:
        client: Where to look, and where time comes from.
    """

    def __init__(self, client: DigitalOceanClient) -> None:
        self._shortest = client.settings.poll_interval_seconds
        self._longest = client.settings.poll_interval_max_seconds
        self._client = client
        self._clock = client.clock
        self._durations = DurationEstimate()
        self._feed = Feed(LARGEST_PAGE)
        self._sources = Sources(self._shortest, self._longest)
        self._watches: dict[int, Watch] = {}
        self._looked_at = 0.0
        self._waiting_since = 0.0
        self._think_at = 0.0
        self._sooner = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None

    async def wait(
        self, image_id: int, action: Action, gigabytes: float | None = None, *, blocking: bool = False
    ) -> Action:
        """Wait until an action is no longer in progress.

        Any number of callers may wait for the same action. There is no time-out here: cancel, or use
        `asyncio.timeout`.

        Args:
            image_id: The image it runs on.
            action: The action as it was last seen.
            gigabytes: The image's size, from which the waiter learns how long such actions take.
            blocking: Whether other work waits for its end, so that it should be noticed sooner.

        Returns:
            The action, completed or errored.

        Raises:
            NotFound: The image is gone, or the action is nowhere to be found.
            Unauthorized: The token was revoked.
            ScopeMissing: The token may not read images.
        """
        if not action.in_progress:
            return action
        watch = self._watches.get(action.id) or self._begin(image_id, action, gigabytes)
        watch.blocking |= blocking
        watch.waiting += 1
        watch.counters += current_counters()
        try:
            return await asyncio.shield(watch.outcome)
        finally:
            watch.waiting -= 1
            if not watch.waiting:
                self._watches.pop(action.id, None)

    def seconds_left(self, unstarted_gigabytes: float | None = None, starting_takes: float = 0.0) -> float | None:
        """Estimate when everything will be done.

        Args:
            unstarted_gigabytes: Size of the last transfer that is still to be started, None if there is none.
            starting_takes: Seconds until it can be started.

        Returns:
            Seconds from now; None as long as too little is known.
        """
        now = self._clock.monotonic()
        left = [
            None if takes is None else max(0.0, watch.started + takes - now)
            for watch in self._watches.values()
            for takes in [self._durations.typical(watch.action_type, watch.gigabytes)]
        ]
        if unstarted_gigabytes is not None:
            takes = self._durations.typical("transfer", unstarted_gigabytes)
            left.append(None if takes is None else starting_takes + takes)
        known = [seconds for seconds in left if seconds is not None]
        return max(known) if known and len(known) == len(left) else None

    def _begin(self, image_id: int, action: Action, gigabytes: float | None) -> Watch:
        now = self._clock.monotonic()
        age = (self._client.server_clock.now() - action.started_at).total_seconds()
        watch = Watch(
            subject=Subject(action.id, image_id),
            action_type=action.type,
            gigabytes=gigabytes,
            started=now - (age if 0 < age < OLDEST_START_SECONDS else 0.0),
            seen=now,
            not_before=now + self._shortest,
            outcome=asyncio.get_running_loop().create_future(),
        )
        self._watches[action.id] = watch
        self._feed.note([action.id])
        if self._looking is None or self._looking.done():
            self._looked_at = self._waiting_since = now
            self._looking = asyncio.create_task(self._look_until_done())
        elif watch.not_before < self._think_at:
            self._think_at = watch.not_before
            self._sooner.set()
        return watch

    async def _look_until_done(self) -> None:
        try:
            self._think_at = self._clock.monotonic() + self._shortest
            while self._watches:
                await self._until_time_to_think()
                await self._look_while_worthwhile()
                since_look = self._clock.monotonic() - self._looked_at
                pause = min(max(since_look * PART_BETWEEN_THOUGHTS, self._shortest / 4), self._longest / 4)
                self._think_at = self._clock.monotonic() + pause
        except APIError as error:
            # The user has to act first. Each of those who wait is told of its own action.
            for watch in list(self._watches.values()):
                path = f"/v2/images/{watch.subject.image_id}/actions/{watch.subject.action_id}"
                self._give_up([watch.subject], error.for_request("GET", path))
        except BaseException as error:
            # Nobody looks any more: whoever waits must hear of it.
            self._give_up(self._subjects(), error)
            raise

    async def _until_time_to_think(self) -> None:
        while (pause := self._think_at - self._clock.monotonic()) > 0:
            self._sooner.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._sooner.wait()

    async def _look_while_worthwhile(self) -> None:
        taken: set[Place] = set()
        while look := self._next_look(taken):
            taken.add(look.place)
            began = self._clock.monotonic()
            try:
                with charged_to(counter for watch in self._watched(look.shows) for counter in watch.counters):
                    seen = await self._take(look)
            except Unauthorized:
                raise
            except APIError as error:
                await self._note_failure(look, error)
            else:
                # Only what has shown something counts: after a failure, the next source is not put off for long.
                self._looked_at = began
                self._sources.note_success(look.place)
                self._note_missing(look, seen)

    def _next_look(self, taken: set[Place]) -> Look | None:
        left = self._sources.left(self._clock.monotonic())
        self._feed.readable = ("page", 1) not in left
        return next_look(self._situation(left), self._feed, Either(taken, left))

    async def _note_failure(self, look: Look, error: APIError) -> None:
        """Put off what a look should have shown, or look for it elsewhere; nothing is given up but what is gone."""
        in_feed = look.place[0] == "page"
        if isinstance(error, ScopeMissing) and not in_feed:
            raise error
        if isinstance(error, NotFound) and not in_feed and await self._is_gone(look, error):
            return
        # A token may be allowed images and not the account's actions.
        out_of_scope = isinstance(error, ScopeMissing)
        pause = self._sources.note_failure(look.place, self._clock.monotonic(), out_of_scope=out_of_scope)
        logger.log(
            logging.INFO if out_of_scope else logging.WARNING,
            "%s; asking for %d actions %s",
            error,
            len(look.shows),
            "again" if pause else "elsewhere",
        )
        self._look_later(look.shows, pause)

    async def _is_gone(self, look: Look, error: NotFound) -> bool:
        """Find out what a 404 means: only that of an image itself says that it was deleted."""
        watches = self._watched(look.shows)
        image_id = watches[0].subject.image_id if watches else 0
        try:
            if watches:
                await self._client.get_image(image_id)
        except NotFound as gone:
            self._give_up([each for each in self._subjects() if each.image_id == image_id], gone)
            return True
        except (Unauthorized, ScopeMissing):
            raise
        except APIError as unclear:
            logger.debug("Whether image %d is gone is unknown: %s", image_id, unclear)
        if look.place[0] == "action":
            for watch in watches:
                watch.not_found += 1
                if watch.not_found >= MOST_NOT_FOUND:
                    self._give_up([watch.subject], error)
        return not self._watched(look.shows)

    def _situation(self, left: Left) -> Situation:
        now = self._clock.monotonic()
        watches = self._watches.values()
        since_look = now - self._looked_at
        waited = now - self._waiting_since
        return Situation(
            chances={watch.subject: self._chance(watch, now) for watch in watches},
            blocking=frozenset(watch.subject for watch in watches if watch.blocking),
            unlisted=frozenset(
                watch.subject
                for watch in watches
                if now < watch.unlisted_until and ("action", watch.subject.action_id) not in left
            ),
            contended=self._client.rate_limiter.pause() > 0,
            overdue=since_look >= max(self._longest, waited * PART_UNTIL_OVERDUE),
            forgotten=since_look >= max(self._longest, waited * PART_UNTIL_FORGOTTEN),
        )

    def _chance(self, watch: Watch, now: float) -> float:
        if now < watch.not_before:
            return 0.0
        seen = max(watch.seen - watch.started, self._shortest)
        return self._durations.chance(watch.action_type, watch.gigabytes, seen, now - watch.started)

    async def _take(self, look: Look) -> set[int]:
        """Send a look's request; returns the ids of what it showed."""
        kind, key = look.place
        if kind == "action":
            (subject,) = look.shows
            actions = [await self._client.get_image_action(subject.image_id, key)]
        elif kind == "image":
            actions = await self._client.list_image_actions(key, retries=0)
        else:
            page = await self._client.list_recent_actions(key, retries=0)
            actions = page.actions
            images = {subject.image_id for subject in look.shows} | {None}
            if not images.isdisjoint(page.unread) and not any(action.id in self._watches for action in actions):
                raise MalformedResponse("GET", "/v2/actions", message="nothing of what is waited for can be read in it")
            self._feed.note(page.ids)
            if page.more and page.size:
                # Shorter than what was asked for, where the API's pages are.
                self._feed.page_size = page.size
        for action in actions:
            self._note(action)
        return {action.id for action in actions}

    def _note(self, action: Action) -> None:
        watch = self._watches.get(action.id)
        if watch is None or watch.outcome.done():
            return
        now = self._clock.monotonic()
        watch.not_found = 0
        if action.in_progress:
            watch.seen, watch.not_before = now, now + self._shortest
            self._durations.note_unfinished(watch.action_type, watch.gigabytes, now - watch.started)
            return
        if action.completed:
            # The server's own word, where it fits between the last look and this one.
            took = (action.completed_at - action.started_at).total_seconds() if action.completed_at else 0.0
            took = min(max(took, watch.seen - watch.started), now - watch.started)
            self._durations.learn(watch.action_type, watch.gigabytes, took)
        del self._watches[action.id]
        watch.outcome.set_result(action)

    def _note_missing(self, look: Look, seen: set[int]) -> None:
        kind, key = look.place
        now = self._clock.monotonic()
        for watch in self._watched(look.shows):
            action_id = watch.subject.action_id
            # Newer actions may have pushed it on to another page; otherwise no list shows it.
            if action_id not in seen and (kind != "page" or self._feed.page_of(action_id) == key):
                watch.unlisted_until = now + INTERVALS_UNLISTED * self._longest
                if kind == "action":
                    self._look_later([watch.subject], self._sources.note_failure(look.place, now))

    def _look_later(self, subjects: Collection[Subject], pause: float) -> None:
        for watch in self._watched(subjects):
            watch.not_before = self._clock.monotonic() + pause

    def _subjects(self) -> list[Subject]:
        return [watch.subject for watch in self._watches.values()]

    def _give_up(self, subjects: Collection[Subject], error: BaseException) -> None:
        for watch in self._watched(subjects):
            del self._watches[watch.subject.action_id]
            if not watch.outcome.done():
                watch.outcome.set_exception(error)

    def _watched(self, subjects: Collection[Subject]) -> list[Watch]:
        found = (self._watches.get(subject.action_id) for subject in subjects)
        return [watch for watch in found if watch is not None]
