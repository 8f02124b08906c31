"""The rate limiter: one per token and process, it decides when the next request may go.

The API counts requests in sliding windows: each request has a timer of its own and stops counting when that runs
out. The rate limiter keeps the same count. A request counts from the moment it is sent until a window's length after
its response came, because the server saw it somewhere between the two; so the count here is never behind the
server's, and ahead of it by a round trip at most.

Others may spend from the same token. What they spend of the longest window shows in `ratelimit-remaining`; what
they spend of the shorter ones is inferred from how that number moves, and from 429s.

Limits and headers: https://docs.digitalocean.com/reference/api/digitalocean/#section/Introduction/Rate-Limit
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import math
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from tasks.digitalocean.clock import Clock, SystemClock
from tasks.digitalocean.headers import retry_after, server_time, whole_number
from tasks.digitalocean.learned_limit import LearnedLimit
from tasks.digitalocean.settings import RateLimit

TOO_MANY_REQUESTS = 429
SERVER_ERROR = 500
FIRST_BACKOFF_SECONDS = 1.0
LONGEST_BACKOFF_SECONDS = 60.0
# The headers count in whole seconds, so a moment named there may lie up to one second later.
HEADER_RESOLUTION_SECONDS = 1.0
# How much the last round trip tells of the next.
ROUND_TRIP_WEIGHT = 0.2
LONGEST_QUOTE = 60

# A permit counts from when it is issued, so no more are issued to starts than the processor can use at once.
MOST_STARTS_AT_ONCE = 16
# A 429 refuses everything in flight, and the limit may be lower than is known. So only this part of what has proven to
# fit into a minute is in flight at once; but a start waits no longer than this for the response to another.
PART_AT_ONCE = 0.05
LONGEST_WAIT_FOR_ROOM_SECONDS = 1.0

Priority: TypeAlias = tuple[float, ...]
# Reads, before anything that starts an action: what they show makes starts possible or needless.
READ: Priority = (-math.inf,)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Permit:
    """The right to send one request now.

    Attributes:
        number: Counts the permits of a rate limiter.
        priority: What it was requested with.
    """

    number: int
    priority: Priority = READ


class DistributedLimit(Protocol):
    """A limit that this process shares with others that use the same token."""

    async def turn(self) -> None:
        """Wait until one more request may go."""
        ...


@dataclass(frozen=True)
class InFlight:
    """A request that has no answer yet: since when, and how many had been settled by then."""

    since: float
    settled_before: int


@dataclass
class Window:
    """One sliding window: the moments at which counted requests stop counting."""

    limit: int
    seconds: float
    expiries: list[float] = field(default_factory=list)

    def count(self, now: float) -> int:
        """How many requests are in the window."""
        while self.expiries and self.expiries[0] <= now:
            heapq.heappop(self.expiries)
        return len(self.expiries)

    def add(self, seen_at: float) -> None:
        """Count a request that the server saw at this moment or before."""
        heapq.heappush(self.expiries, seen_at + self.seconds)


class RateLimiter:
    """Both windows of one token, as far as they can be known from here.

    Args:
        limits: Requests and seconds of each window; the longest is the one that the headers speak of.
        clock: Where time comes from.
        jitter: Stretches the pauses that the API has not named, so that clients do not return together.
        distributed_limit: What other processes with the same token wait for, too; None where each has to learn of the
            others from the responses.
    """

    def __init__(
        self,
        limits: Sequence[RateLimit],
        clock: Clock | None = None,
        jitter: random.Random | None = None,
        distributed_limit: DistributedLimit | None = None,
    ) -> None:
        ordered = sorted(limits, key=lambda limit: limit.seconds)
        self._windows = [Window(limit.requests, limit.seconds) for limit in ordered]
        self._longest = self._windows[-1]
        self._clock = clock or SystemClock()
        self._distributed_limit = distributed_limit
        self._random = jitter or random.Random()  # noqa: S311  # spreads load, guards no secret
        self._numbers = 0
        self._in_flight: dict[int, InFlight] = {}
        self._settled = 0
        self._round_trip = 0.0
        self._arrivals = itertools.count()
        self._waiting: list[tuple[Priority, int, asyncio.Future[Permit]]] = []
        self._issuing: asyncio.Task[None] | None = None
        self._started_at = -math.inf
        self._changed = asyncio.Event()

        # Others: what they have spent of the longest window, and until when that knowledge holds.
        self._others = 0
        self._others_until = -math.inf
        self._heard_at: float | None = None
        self._heard_remaining = 0
        self._others_rate = 0.0
        self._heard_since: float | None = None
        self._others_noted = {window.seconds: Window(0, window.seconds) for window in self._windows}

        # The shortest window may hold less than is documented; of the longest, every answer tells.
        shortest = self._windows[0]
        self._learned = LearnedLimit(ordered[0]) if shortest is not self._longest else None

        # Closed after a 429: nothing goes before this moment, and then one request first, as a trial.
        self._paused_until = -math.inf
        self._on_trial = False
        self._paused_by = -1
        self._pauses = 0

    async def acquire(self, priority: Priority = READ, held: Permit | None = None) -> Permit:
        """Wait for the moment when one more request fits into every window.

        Args:
            priority: The lowest goes first; among equals, who came first.
            held: A permit that was acquired for this request before. It is used, unless it has been used already, or
                there was a 429 since it was issued.

        Returns:
            A permit, for one call of `record_response` or `release`.
        """
        if held and held.number in self._in_flight:
            if held.number > self._paused_by or not (self._on_trial or self.paused_for):
                return held
            self.release(held)
        waiter: asyncio.Future[Permit] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (held.priority if held else priority, next(self._arrivals), waiter))
        self._changed.set()
        if self._issuing is None or self._issuing.done():
            self._issuing = asyncio.create_task(self._issue_permits())
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.release(waiter.result())
            raise

    @asynccontextmanager
    async def permit(self, priority: Priority) -> AsyncIterator[Permit]:
        """Acquire a permit, and release it at the end of the block if nothing was sent with it.

        Args:
            priority: As in `acquire`.

        Yields:
            The permit.
        """
        permit = await self.acquire(priority)
        try:
            yield permit
        finally:
            self.release(permit)

    def release(self, permit: Permit) -> None:
        """Take back a permit with which nothing was sent; does nothing if something was."""
        self._in_flight.pop(permit.number, None)
        self._changed.set()

    async def _issue_permits(self) -> None:
        """Issue permits, in order of priority, while anyone waits for one."""
        while self._waiting:
            if self._distributed_limit:
                await self._distributed_limit.turn()
            await self._until_open()
            while self._waiting:
                priority, _, waiter = heapq.heappop(self._waiting)
                if not waiter.done():
                    waiter.set_result(self._issue(priority))
                    break

    def _issue(self, priority: Priority) -> Permit:
        now = self._clock.monotonic()
        self._numbers += 1
        self._in_flight[self._numbers] = InFlight(now, self._settled)
        if priority != READ:
            self._started_at = now
        return Permit(self._numbers, priority)

    async def _until_open(self) -> None:
        while (pause := max(self.pause(), self._pause_for_room())) > 0:
            self._changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(None if math.isinf(pause) else pause):
                    await self._changed.wait()

    def pause(self) -> float:
        """How long the next request has to wait.

        Returns:
            Seconds; 0 for not at all, infinity where only an answer to what is in flight can tell.
        """
        now = self._clock.monotonic()
        if self._learned:
            self._windows[0].limit = self._learned.now(now)
        if self._on_trial and self._in_flight:
            return math.inf
        return max(0.0, self._paused_until - now, *(self._pause_of(window, now) for window in self._windows))

    def _pause_for_room(self) -> float:
        """How long a start has to wait because others are in flight; reads do not."""
        if not self._waiting or self._waiting[0][0] == READ:
            return 0.0
        if len(self._in_flight) >= MOST_STARTS_AT_ONCE:
            return math.inf
        if len(self._in_flight) < max(1, PART_AT_ONCE * self._proven):
            return 0.0
        return max(0.0, self._started_at + LONGEST_WAIT_FOR_ROOM_SECONDS - self._clock.monotonic())

    def seconds_for(self, requests: int) -> float:
        """Estimate the seconds until N more requests have been sent, if no one else sends any."""
        now = self._clock.monotonic()
        free = [
            window.limit - window.count(now) - (self._others if window is self._longest else 0)
            for window in self._windows
        ]
        waits = [
            max(0, requests - left) / window.limit * window.seconds
            for window, left in zip(self._windows, free, strict=True)
        ]
        return max(self.paused_for, *waits)

    @property
    def _proven(self) -> float:
        """How many requests of this process have been let through in the shortest window, at most."""
        return self._learned.proven if self._learned else math.inf

    @property
    def paused_for(self) -> float:
        """Seconds for which a 429 has closed the budget; 0 when open."""
        return max(0.0, self._paused_until - self._clock.monotonic())

    def _pause_of(self, window: Window, now: float) -> float:
        mine = window.count(now) + len(self._in_flight)
        if window is not self._longest:
            free = window.limit - mine - self._unheard(window, now)
            if not window.expiries and not self._in_flight:
                return 0.0  # what others spend may be less by now: one request will tell
            moment = window.expiries[0] if window.expiries else math.inf
        else:
            free = window.limit - mine - self._others
            moment = min([*window.expiries[:1], self._others_until if self._others_until > now else math.inf])
            if free <= 0 < window.limit - mine and self._others_until <= now and not self._in_flight:
                return 0.0  # what others spent may be free again: one request will tell
        return 0.0 if free > 0 else max(0.0, moment - now) or math.inf

    def _unheard(self, window: Window, now: float) -> float:
        """Estimate what others have spent of a shorter window that no answer has told of yet, if they go on as before.

        At most half of the window, so that something is left even if the estimate is wrong.
        """
        if not self._others_rate or self._heard_at is None:
            return 0.0
        since = min(now - self._heard_at + self._round_trip, window.seconds)
        noted = self._others_noted[window.seconds].count(now)
        expected = self._others_rate * max(since, window.seconds - noted / self._others_rate)
        return min(math.ceil(expected + math.sqrt(expected)), window.limit // 2)

    def record_response(
        self, permit: Permit, status: int | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        """Record the end of a request.

        Args:
            permit: The request's admission.
            status: HTTP status of the response, None where there was none.
            headers: Headers of the response, by lower-case names.
        """
        now = self._clock.monotonic()
        in_flight_request = self._in_flight.pop(permit.number, InFlight(now, self._settled))
        self._round_trip += ROUND_TRIP_WEIGHT * (now - in_flight_request.since - self._round_trip)
        # One that is turned away may count all the same; where it does not, little is lost.
        for window in self._windows:
            window.add(now)
        headers = headers or {}
        if status == TOO_MANY_REQUESTS or _is_down(status, headers):
            self._close(permit, now, headers, by_limit=status == TOO_MANY_REQUESTS)
        elif status is not None:
            before_refusal = permit.number <= self._paused_by
            if not before_refusal:
                self._on_trial = False
                self._pauses = 0
            self._compare(now, headers, overtaken_by=self._settled - in_flight_request.settled_before)
            if self._learned:
                others = self._others_in_the_shortest(now)
                self._learned.let_through(in_flight_request.since, now, others=others, before_refusal=before_refusal)
        self._settled += 1
        self._changed.set()

    def _compare(self, now: float, headers: Mapping[str, str], overtaken_by: int) -> None:
        limit, remaining = (whole_number(headers.get(f"ratelimit-{name}", "")) for name in ("limit", "remaining"))
        # A limit that this process alone has gone beyond is a proxy's, or a mistake.
        if limit is not None and limit >= max(1, self._longest.count(now)):
            self._longest.limit = limit
        if remaining is None:
            return
        if self._heard_since is None:
            self._heard_since = now
        not_mine = self._longest.limit - remaining - self._longest.count(now)
        # Answers overtake each other: what is in flight may have been counted already, and what was settled while this
        # was in flight may not.
        others = max(0, min(max(self._others, not_mine - len(self._in_flight)), not_mine + overtaken_by))
        if self._heard_at is not None:
            self._note_others(others - self._others, self._heard_at, now)
        self._others = others
        self._others_until = now + (self._until_reset(headers) or self._windows[0].seconds)
        self._heard_at, self._heard_remaining = now, remaining
        shortest = self._windows[0].seconds
        # Where others spend as much as runs out, the number says nothing of when: evenly, as far as one can know.
        self._others_rate = max(self._others_noted[shortest].count(now) / shortest, others / self._longest.seconds)

    def _note_others(self, requests: int, since: float, until: float) -> None:
        for window in self._windows[:-1]:
            for number in range(1, min(requests, window.limit) + 1):
                moment = since + (until - since) * number / requests
                window.add(moment)
                self._others_noted[window.seconds].add(moment)

    def _others_in_the_shortest(self, now: float) -> int:
        """How many requests of others are in the shortest window, at most."""
        shortest = self._windows[0]
        if self._heard_since is None or now - self._heard_since >= shortest.seconds:
            return self._others_noted[shortest.seconds].count(now)
        return self._others  # all that they have spent of the longest may have been in this minute

    def _close(self, permit: Permit, now: float, headers: Mapping[str, str], *, by_limit: bool) -> None:
        if permit.number <= self._paused_by:
            return  # sent before the budget was closed: it tells nothing new
        self._paused_by = self._numbers
        self._on_trial = True
        pause, reason = self._pause_by_limit(now, headers) if by_limit else self._pause_asked_for(headers)
        self._paused_until = max(self._paused_until, now + pause)
        what = "429 Too Many Requests" if by_limit else "The API is down"
        logger.warning("%s: no request for %.0f s (%s)", what, pause, reason)

    def _pause_by_limit(self, now: float, headers: Mapping[str, str]) -> tuple[float, str]:
        """Take note of which limit was hit; returns how long nothing goes, and why."""
        asked, until_reset = self._asked_for(headers), self._until_reset(headers)
        if asked is None and until_reset is not None and not self._has_left_of_the_longest(now):
            return until_reset, "the oldest counted request expires then"
        self._pauses += 1
        if self._learned:
            again = asked is None and self._pauses > 1
            self._learned.refused(now, again=again, others=self._others_in_the_shortest(now))
        pause, reason = self._pause_asked_for(headers)
        if asked is not None:
            self._fill_shorter_windows(now, pause)
        return pause, reason

    def _pause_asked_for(self, headers: Mapping[str, str]) -> tuple[float, str]:
        """How long nothing goes because the API asks for it, and its reason; not for longer than any limit lasts."""
        asked = self._asked_for(headers)
        if asked is None:
            return self._backoff(), "the API did not say for how long"
        if asked <= self._longest.seconds:
            return asked, "the API said so"
        quoted = headers["retry-after"][:LONGEST_QUOTE]
        return self._longest.seconds, f"the API said retry-after: {quoted}, which is longer than any rate limit lasts"

    def _asked_for(self, headers: Mapping[str, str]) -> float | None:
        return retry_after(headers, self._unix(headers))

    def _has_left_of_the_longest(self, now: float) -> bool:
        """Whether it was a shorter window for certain: that lets too little through to have used up what was left."""
        shortest = self._windows[0]
        if self._heard_at is None or shortest is self._longest:
            return False
        most = shortest.limit * (1 + (now - self._heard_at) // shortest.seconds)
        return self._heard_remaining > most

    def _fill_shorter_windows(self, now: float, free_in: float) -> None:
        for window in self._windows[:-1]:
            unknown = window.limit - window.count(now) - len(self._in_flight)
            span = max(0.0, window.seconds - free_in)
            for number in range(unknown):
                window.add(now + free_in + span * number / unknown - window.seconds)

    def _backoff(self) -> float:
        pause = min(LONGEST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2.0 ** max(0, self._pauses - 1))
        return pause * self._random.uniform(0.75, 1.25)

    def _until_reset(self, headers: Mapping[str, str]) -> float | None:
        """Seconds to `ratelimit-reset`, or None where that is not within the window to come."""
        reset = whole_number(headers.get("ratelimit-reset", ""))
        if reset is None:
            return None
        seconds = reset - self._unix(headers)
        return seconds + HEADER_RESOLUTION_SECONDS if 0 < seconds <= max(self._longest.seconds, 3600) else None

    def _unix(self, headers: Mapping[str, str]) -> float:
        """The server's time, so that a wrong clock on either side does no harm."""
        unix = self._clock.unix()
        date = server_time(headers, unix)
        return unix if date is None else date


def _is_down(status: int | None, headers: Mapping[str, str]) -> bool:
    """Whether the server is down, and says when it will be back."""
    return status is not None and status >= SERVER_ERROR and "retry-after" in headers
