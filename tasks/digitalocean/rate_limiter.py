"""The rate limiter: one per token and process, it decides when the next request may be sent.

The API counts requests in sliding windows: each request counts until its own timer runs out. The rate limiter keeps the
same count. A request counts from the moment it is sent until one window after its response arrived, because the server
saw it between the two. So the count is never behind the server's, and ahead of it by at most a round trip.

Other clients may use the same token. `ratelimit-remaining` shows what they spend of the longest window; what they spend
of shorter ones is inferred from changes of that number and from 429s.

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

from tasks.digitalocean.clock import Clock
from tasks.digitalocean.headers import retry_after, server_time, whole_number
from tasks.digitalocean.learned_limit import LearnedLimit
from tasks.digitalocean.settings import RateLimit

TOO_MANY_REQUESTS = 429
SERVER_ERROR = 500
FIRST_BACKOFF_SECONDS = 1.0
LONGEST_BACKOFF_SECONDS = 60.0
# Headers have whole seconds, so the actual time may be up to one second later.
HEADER_RESOLUTION_SECONDS = 1.0
# Weight of the latest round trip in the moving average.
ROUND_TRIP_WEIGHT = 0.2
LONGEST_QUOTE = 60

# A permit counts from when it is issued, so starts get no more than the processor can use at once.
MOST_STARTS_AT_ONCE = 16
# A 429 refuses everything in flight, and the limit may be lower than documented. So only this part of the most requests
# accepted in a minute is in flight at once; but a start waits at most this long for the response to another.
PART_IN_FLIGHT = 0.02
LONGEST_WAIT_FOR_RESPONSE_SECONDS = 1.0

Priority: TypeAlias = tuple[float, ...]
# Reads go before starts of actions: their results make starts possible or unnecessary.
READ: Priority = (-math.inf,)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Permit:
    """Permission to send one request now.

    Attributes:
        number: The number of the permit, counted per rate limiter.
    """

    number: int
    priority: Priority = READ


class DistributedLimit(Protocol):
    """A limit shared with other processes that use the same token."""

    async def acquire(self) -> None:
        """Wait until one more request may be sent."""
        ...


@dataclass(frozen=True)
class InFlight:
    """A request without a response: when its permit was issued, and how many responses were recorded before."""

    since: float
    recorded_before: int


@dataclass
class Window:
    """One sliding window, with the times at which counted requests expire."""

    limit: int
    seconds: float
    expiries: list[float] = field(default_factory=list)

    def count(self, now: float) -> int:
        """The number of requests in the window."""
        while self.expiries and self.expiries[0] <= now:
            heapq.heappop(self.expiries)
        return len(self.expiries)

    def add(self, seen_at: float) -> None:
        """Count a request that the server saw at this time or before."""
        heapq.heappush(self.expiries, seen_at + self.seconds)


class RateLimiter:
    """The rate limiter of one token.

    Args:
        limits: Requests and seconds of each window; the headers describe the longest one.
        clock: The source of time; None for the system's.
        jitter: Random numbers for backoff, so that clients do not return at the same time; None for unseeded ones.
        distributed_limit: The limit shared with other processes; None to learn of them only from responses.
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
        self._clock = clock or Clock()
        self._distributed_limit = distributed_limit
        self._random = jitter or random.Random()  # noqa: S311  # spreads load, guards no secret
        self._numbers = 0
        self._in_flight: dict[int, InFlight] = {}
        self._recorded = 0
        self._round_trip = 0.0
        self._arrivals = itertools.count()
        self._waiting: list[tuple[Priority, int, asyncio.Future[Permit]]] = []
        self._issuing: asyncio.Task[None] | None = None
        self._started_at = -math.inf
        self._changed = asyncio.Event()

        # What other clients have spent of the longest window, and how long that is valid.
        self._spent_by_others = 0
        self._spent_by_others_until = -math.inf
        self._rate_of_others = 0.0
        self._windows_of_others = {window.seconds: Window(0, window.seconds) for window in self._windows}
        self._first_response_at: float | None = None
        self._last_response_at: float | None = None
        self._last_remaining = 0

        # The shortest limit may be lower than documented; every response shows the longest.
        shortest = self._windows[0]
        self._learned = LearnedLimit(ordered[0]) if shortest is not self._longest else None

        # After a 429, nothing is sent until this time, and then one request first, as a trial.
        self._paused_until = -math.inf
        self._on_trial = False
        self._paused_by = -1
        self._pauses = 0

    async def acquire(self, priority: Priority = READ, held: Permit | None = None) -> Permit:
        """Wait until one more request fits into every window.

        Args:
            priority: The lowest goes first; among equals, the first to arrive.
            held: A permit acquired earlier for this request. It is returned, unless it has been used or there was a 429
                since.

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
        """Release a permit that was not used; does nothing if it was."""
        self._in_flight.pop(permit.number, None)
        self._changed.set()

    async def _issue_permits(self) -> None:
        """Issue permits by priority, while requests wait."""
        while self._waiting:
            if self._distributed_limit:
                await self._distributed_limit.acquire()
            await self._wait_for_capacity()
            while self._waiting:
                priority, _, waiter = heapq.heappop(self._waiting)
                if not waiter.done():
                    waiter.set_result(self._issue(priority))
                    break

    def _issue(self, priority: Priority) -> Permit:
        now = self._clock.monotonic()
        self._numbers += 1
        self._in_flight[self._numbers] = InFlight(now, self._recorded)
        if priority != READ:
            self._started_at = now
        return Permit(self._numbers, priority)

    async def _wait_for_capacity(self) -> None:
        while (pause := max(self.pause(), self._pause_of_start())) > 0:
            self._changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(None if math.isinf(pause) else pause):
                    await self._changed.wait()

    def pause(self) -> float:
        """How long the next request has to wait.

        Returns:
            Seconds; infinity until a request in flight gets its response.
        """
        now = self._clock.monotonic()
        if self._learned:
            self._windows[0].limit = self._learned.current(now)
        if self._on_trial and self._in_flight:
            return math.inf
        return max(0.0, self._paused_until - now, *(self._pause_of(window, now) for window in self._windows))

    def _pause_of_start(self) -> float:
        """How long a start has to wait because of requests in flight; reads do not."""
        if not self._waiting or self._waiting[0][0] == READ:
            return 0.0
        if len(self._in_flight) >= MOST_STARTS_AT_ONCE:
            return math.inf
        most_accepted = self._learned.most_accepted if self._learned else math.inf
        if len(self._in_flight) < max(1, PART_IN_FLIGHT * most_accepted):
            return 0.0
        return max(0.0, self._started_at + LONGEST_WAIT_FOR_RESPONSE_SECONDS - self._clock.monotonic())

    def seconds_for(self, requests: int) -> float:
        """Estimate how long it takes to send this many requests, if no other client sends any."""
        now = self._clock.monotonic()
        free = [
            window.limit - window.count(now) - (self._spent_by_others if window is self._longest else 0)
            for window in self._windows
        ]
        waits = [
            max(0, requests - left) / window.limit * window.seconds
            for window, left in zip(self._windows, free, strict=True)
        ]
        return max(self.paused_for, *waits)

    @property
    def paused_for(self) -> float:
        """Seconds left of the pause after a 429; 0 without one."""
        return max(0.0, self._paused_until - self._clock.monotonic())

    def _pause_of(self, window: Window, now: float) -> float:
        mine = window.count(now) + len(self._in_flight)
        if window is not self._longest:
            free = window.limit - mine - self._unreported_by_others(window, now)
            if not window.expiries and not self._in_flight:
                return 0.0  # others may spend less by now: one request will show
            moment = window.expiries[0] if window.expiries else math.inf
        else:
            free = window.limit - mine - self._spent_by_others
            valid_until = self._spent_by_others_until
            moment = min([*window.expiries[:1], valid_until if valid_until > now else math.inf])
            if free <= 0 < window.limit - mine and valid_until <= now and not self._in_flight:
                return 0.0  # requests of others may have expired: one request will show
        return 0.0 if free > 0 else max(0.0, moment - now) or math.inf

    def _unreported_by_others(self, window: Window, now: float) -> float:
        """Estimate what others have spent of a shorter window since the last response, if they go on as before.

        At most half of the window, so that something is left even if the estimate is wrong.

        Beside a client that sends 30, 100 or 150 requests a minute, with round trips of 0.25 to 2 s, 0.4 to 4 % of the
        requests are answered with 429, and 2 to 17 % without this estimate, from the headers alone
        (`test_beside_a_steady_neighbour_...` in tests/tasks/digitalocean/test_rate_limiter.py).
        """
        if not self._rate_of_others or self._last_response_at is None:
            return 0.0
        since = min(now - self._last_response_at + self._round_trip, window.seconds)
        counted = self._windows_of_others[window.seconds].count(now)
        expected = self._rate_of_others * max(since, window.seconds - counted / self._rate_of_others)
        return min(math.ceil(expected + math.sqrt(expected)), window.limit // 2)

    def record_response(
        self, permit: Permit, status: int | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        """Record how a request ended.

        Args:
            permit: The request's permit.
            status: HTTP status of the response; None without a response.
            headers: Headers of the response, with lower-case names.
        """
        now = self._clock.monotonic()
        request = self._in_flight.pop(permit.number, InFlight(now, self._recorded))
        self._round_trip += ROUND_TRIP_WEIGHT * (now - request.since - self._round_trip)
        # Refused requests are counted too, in case the server does.
        for window in self._windows:
            window.add(now)
        headers = headers or {}
        if status == TOO_MANY_REQUESTS or _is_down(status, headers):
            self._pause_all(permit, now, headers, by_limit=status == TOO_MANY_REQUESTS)
        elif status is not None:
            before_refusal = permit.number <= self._paused_by
            if not before_refusal:
                self._on_trial = False
                self._pauses = 0
            self._read_headers(now, headers, overtaken_by=self._recorded - request.recorded_before)
            if self._learned:
                others = self._others_in_shortest(now)
                self._learned.accepted(request.since, now, others=others, before_refusal=before_refusal)
        self._recorded += 1
        self._changed.set()

    def _read_headers(self, now: float, headers: Mapping[str, str], overtaken_by: int) -> None:
        limit, remaining = (whole_number(headers.get(f"ratelimit-{name}", "")) for name in ("limit", "remaining"))
        # A limit below what this process alone has sent is not the API's.
        if limit is not None and limit >= max(1, self._longest.count(now)):
            self._longest.limit = limit
        if remaining is None:
            return
        if self._first_response_at is None:
            self._first_response_at = now
        not_mine = self._longest.limit - remaining - self._longest.count(now)
        # Responses overtake each other: `remaining` may include requests still in flight, and may not include those
        # recorded while this one was in flight.
        others = max(0, min(max(self._spent_by_others, not_mine - len(self._in_flight)), not_mine + overtaken_by))
        if self._last_response_at is not None:
            self._count_others(others - self._spent_by_others, self._last_response_at, now)
        self._spent_by_others = others
        self._spent_by_others_until = now + (self._until_reset(headers) or self._windows[0].seconds)
        self._last_response_at, self._last_remaining = now, remaining
        shortest = self._windows[0].seconds
        # If others spend as much as expires, `remaining` does not change: then an even rate is assumed.
        counted = self._windows_of_others[shortest].count(now)
        self._rate_of_others = max(counted / shortest, others / self._longest.seconds)

    def _count_others(self, requests: int, since: float, until: float) -> None:
        for window in self._windows[:-1]:
            for number in range(1, min(requests, window.limit) + 1):
                moment = since + (until - since) * number / requests
                window.add(moment)
                self._windows_of_others[window.seconds].add(moment)

    def _others_in_shortest(self, now: float) -> int:
        """The maximum number of requests of others in the shortest window."""
        shortest = self._windows[0]
        if self._first_response_at is None or now - self._first_response_at >= shortest.seconds:
            return self._windows_of_others[shortest.seconds].count(now)
        return self._spent_by_others  # they may have sent all of these within this window

    def _pause_all(self, permit: Permit, now: float, headers: Mapping[str, str], *, by_limit: bool) -> None:
        if permit.number <= self._paused_by:
            return  # sent before the pause, so this is nothing new
        self._paused_by = self._numbers
        self._on_trial = True
        pause, reason = self._pause_after_429(now, headers) if by_limit else self._requested_pause(headers)
        self._paused_until = max(self._paused_until, now + pause)
        what = "429 Too Many Requests" if by_limit else "The server is unavailable"
        logger.warning("%s: pausing all requests for %.0f s (%s)", what, pause, reason)

    def _pause_after_429(self, now: float, headers: Mapping[str, str]) -> tuple[float, str]:
        """Find out which limit was hit; returns the length of the pause, and its reason."""
        asked, until_reset = retry_after(headers, self._unix(headers)), self._until_reset(headers)
        if asked is None and until_reset is not None and not self._has_left_of_longest(now):
            return until_reset, "until ratelimit-reset"
        self._pauses += 1
        if self._learned:
            after_backoff = asked is None and self._pauses > 1
            self._learned.refused(now, after_backoff=after_backoff, others=self._others_in_shortest(now))
        pause, reason = self._requested_pause(headers)
        if asked is not None:
            self._fill_shorter_windows(now, pause)
        return pause, reason

    def _requested_pause(self, headers: Mapping[str, str]) -> tuple[float, str]:
        """The pause that `retry-after` asks for, at most as long as the longest window, or backoff; and its reason."""
        asked = retry_after(headers, self._unix(headers))
        if asked is None:
            return self._backoff(), "backoff, as the response has no retry-after"
        if asked <= self._longest.seconds:
            return asked, "as retry-after says"
        quoted = headers["retry-after"][:LONGEST_QUOTE]
        return self._longest.seconds, f"retry-after is {quoted}, which is longer than any rate limit lasts"

    def _has_left_of_longest(self, now: float) -> bool:
        """Whether the longest window cannot be full, because a shorter one allows fewer requests than it had left."""
        shortest = self._windows[0]
        if self._last_response_at is None or shortest is self._longest:
            return False
        most = shortest.limit * (1 + (now - self._last_response_at) // shortest.seconds)
        return self._last_remaining > most

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
        """Seconds until `ratelimit-reset`; None if it is missing, past, or further away than the longest window."""
        reset = whole_number(headers.get("ratelimit-reset", ""))
        if reset is None:
            return None
        seconds = reset - self._unix(headers)
        return seconds + HEADER_RESOLUTION_SECONDS if 0 < seconds <= max(self._longest.seconds, 3600) else None

    def _unix(self, headers: Mapping[str, str]) -> float:
        """The server's time, so that a wrong clock on either side does not matter."""
        unix = self._clock.unix()
        date = server_time(headers, unix)
        return unix if date is None else date


def _is_down(status: int | None, headers: Mapping[str, str]) -> bool:
    """Whether the server is unavailable and says when to retry."""
    return status is not None and status >= SERVER_ERROR and "retry-after" in headers
