"""One token's short-term rate limit, shared by the processes of several runs through Prefect's server.

Each process keeps the token's limits by itself, and learns from the responses what others spend; but what they send
within the same seconds it learns too late. So all of them add their requests to one leaky bucket, a global concurrency
limit of Prefect's, and a process that finds it fuller than a short burst waits until enough has leaked.

No request waits for Prefect's server: requests are added afterwards, many at a time, and the level of the bucket counts
for the requests to come. Until the next report, others are assumed to go on as before. If the server does not answer
for the length of the limit, they are assumed to have stopped, and what they send shows only in the API's responses.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Sequence

from prefect.client.orchestration import PrefectClient, get_client
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from tasks.digitalocean.clock import Clock, SystemClock
from tasks.digitalocean.settings import RateLimit

DISTRIBUTED_LIMIT = "digitalocean-api-requests"
# Prefect rounds the leak down at each update, so a request is worth many slots.
SLOTS_A_REQUEST = 1000
# Never reached: a refusal would reset the time from which Prefect counts the leak.
MOST_SLOTS = 1_000_000_000
# This many processes may send a burst before they know of each other.
PROCESSES = 3
BURST_PART = 0.04
PART_BETWEEN_REPORTS = 1 / 60
LONGEST_QUESTION_SECONDS = 10.0
SECONDS_WITHOUT = 60.0

logger = logging.getLogger(__name__)


class DistributedRateLimit:
    """The leaky bucket, as one process sees it; without one on the server, no request waits.

    Args:
        limits: The token's limits. The shortest is shared; how much is left of the longest, every answer tells.
        add: Adds requests, possibly 0, and returns the level of the bucket, or None where it does not exist; None for
            Prefect's.
        clock: Where time comes from.
    """

    def __init__(
        self,
        limits: Sequence[RateLimit],
        add: Callable[[int], Awaitable[float | None]] | None = None,
        clock: Clock | None = None,
    ) -> None:
        shortest = min(limits, key=lambda limit: limit.seconds)
        self._seconds = shortest.seconds
        self._burst = burst_of(shortest)
        self._rate = requests_a_second(limits)
        self._seconds_between_reports = PART_BETWEEN_REPORTS * shortest.seconds
        self._add = add or PrefectLeakyBucket().add
        self._clock = clock or SystemClock()
        self._level = 0.0
        self._level_at = self._clock.monotonic()
        self._level_heard: float | None = None
        self._heard_at = self._level_at
        # A part is left for this process, however much the others want; as long as nothing is known, they want much.
        self._most_for_others = self._rate * (PROCESSES - 1) / PROCESSES
        self._others = self._most_for_others
        self._waiting = 0
        self._unreported = 0
        self._reporting: asyncio.Task[None] | None = None
        self._without_until = -math.inf

    async def turn(self) -> None:
        """Wait until one more request may go, and count it."""
        if self._clock.monotonic() < self._without_until:
            return
        self._waiting += 1
        try:
            while (pause := self._pause()) > 0:
                self._begin_to_report()
                await asyncio.sleep(min(pause, self._seconds_between_reports))
        finally:
            self._waiting -= 1
        self._set_level(self._level_now() + 1)
        self._unreported += 1
        self._begin_to_report()

    def _pause(self) -> float:
        """Seconds until one more request fits, as far as this process knows."""
        return (self._level_now() + 1 - self._burst) / self._rate

    def _level_now(self) -> float:
        """The level of the bucket, as far as this process knows."""
        now = self._clock.monotonic()
        silence = (now - self._heard_at) / self._seconds
        run_out = (self._rate - self._others * max(0.0, 1 - silence)) * (now - self._level_at)
        return max(0.0, self._level - run_out)

    def _set_level(self, level: float) -> None:
        self._level, self._level_at = level, self._clock.monotonic()

    def _begin_to_report(self) -> None:
        if self._reporting is None or self._reporting.done():
            self._reporting = asyncio.create_task(self._report())

    async def _report(self) -> None:
        """Add what was sent, and read the level of the bucket while requests wait."""
        while self._unreported or self._waiting:
            number, self._unreported = self._unreported, 0
            try:
                async with asyncio.timeout(LONGEST_QUESTION_SECONDS):
                    level = await self._add(number)
            except Exception as error:  # noqa: BLE001  # whatever Prefect raises: images are copied without it, too
                logger.debug("Prefect's server cannot say what others send: %r", error)
                # What has leaked meanwhile no longer counts: after an outage of minutes, all of it at once would stop
                # every process for minutes.
                self._unreported = min(self._unreported + number, math.ceil(self._level_now()))
            else:
                if level is None:
                    self._without_until = self._clock.monotonic() + SECONDS_WITHOUT
                    self._level = self._unreported = 0
                    return
                self._learn(level, number)
            await asyncio.sleep(self._seconds_between_reports)

    def _learn(self, level: float, added: int) -> None:
        """Learn the level of the bucket, and how fast others fill it."""
        now = self._clock.monotonic()
        if self._level_heard is not None:
            elapsed = now - self._heard_at
            mine = max(0.0, self._level_heard - self._rate * elapsed) + added
            others = max(0.0, level - mine) / max(elapsed, self._seconds_between_reports)
            self._others = min(self._most_for_others, (self._others + others) / 2)
        self._level_heard, self._heard_at = level, now
        self._set_level(level + self._unreported)


class PrefectLeakyBucket:
    """The bucket on Prefect's server."""

    def __init__(self) -> None:
        self._client: PrefectClient | None = None

    async def add(self, requests: int) -> float | None:
        """Add requests, possibly 0, and return the level of the bucket; None if it does not exist."""
        if self._client is None:
            # For as long as the process lives, as the connection to the API is.
            self._client = await get_client().__aenter__()
        slots = requests * SLOTS_A_REQUEST
        # A report is not worth the seconds after which Prefect's client tries again: the next one makes up for it.
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
            try:
                limit = await self._client.read_global_concurrency_limit_by_name(DISTRIBUTED_LIMIT)
            except ObjectNotFound:
                # To add all the same would make the server write, and with SQLite keep others from it.
                return None
            if slots:
                await self._client.increment_concurrency_slots([DISTRIBUTED_LIMIT], slots, "rate_limit")
        return (limit.active_slots + slots) / SLOTS_A_REQUEST


def burst_of(limit: RateLimit) -> float:
    """How many requests may go at once."""
    return max(1.0, BURST_PART * limit.requests)


def requests_a_second(limits: Sequence[RateLimit]) -> float:
    """How fast the bucket leaks, so that what fits through it fits into the shortest window."""
    shortest = min(limits, key=lambda limit: limit.seconds)
    # One more each, as the last request of a burst begins before the bucket has run out by a whole one.
    return max(1.0, shortest.requests - PROCESSES * (burst_of(shortest) + 1)) / shortest.seconds


def slots_a_second(limits: Sequence[RateLimit]) -> float:
    """The same, as Prefect counts."""
    return requests_a_second(limits) * SLOTS_A_REQUEST
