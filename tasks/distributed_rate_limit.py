"""The distributed rate limit: several processes share a token's limit per minute through Prefect's server.

Each process keeps to the token's limits, and learns from responses what others have sent, but too late for those sent
in the same seconds. So all processes add their requests to one leaky bucket, a global concurrency limit of Prefect's,
and wait while its level is above a short burst.

No request waits for Prefect's server: each process reports what it has sent afterwards, in batches, and uses the level
from the response for its next requests. Until the next report, it assumes that the others go on at their previous rate.
If no report succeeds for the length of the limit, it assumes that they have stopped.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Sequence

from prefect.client.orchestration import PrefectClient
from prefect.exceptions import ObjectNotFound

from tasks.digitalocean.clock import Clock
from tasks.digitalocean.settings import RateLimit
from tasks.prefect_client import new_client, no_retries

DISTRIBUTED_LIMIT = "digitalocean-api-requests"
# At each update, Prefect rounds down the number of slots that have leaked; with many slots per request, little is lost.
SLOTS_PER_REQUEST = 1000
# Never reached: a refused update would reset the time since when Prefect counts leaked slots.
MOST_SLOTS = 1_000_000_000
# This many processes may each send a burst before they know of each other.
PROCESSES = 3
BURST_PART = 0.04
PART_BETWEEN_REPORTS = 1 / 60
REPORT_TIMEOUT_SECONDS = 10.0
# How long to wait before looking for a missing bucket again.
SECONDS_WITHOUT = 60.0

logger = logging.getLogger(__name__)


class DistributedRateLimit:
    """The leaky bucket, as one process knows it; without a bucket on the server, requests do not wait.

    Args:
        limits: The token's limits. Only the shortest is shared; every response shows what is left of the longest.
        name: Name of the bucket on Prefect's server.
        add: Adds requests, 0 or more, to the bucket and returns its level; None without a bucket. By default Prefect's.
        clock: The source of time; None for the system's.
    """

    def __init__(
        self,
        limits: Sequence[RateLimit],
        name: str = DISTRIBUTED_LIMIT,
        add: Callable[[int], Awaitable[float | None]] | None = None,
        clock: Clock | None = None,
    ) -> None:
        shortest = min(limits, key=lambda limit: limit.seconds)
        self._seconds = shortest.seconds
        self._burst = burst_of(shortest)
        self._rate = requests_per_second(limits)
        self._seconds_between_reports = PART_BETWEEN_REPORTS * shortest.seconds
        self._add = add or PrefectLeakyBucket(name).add
        self._clock = clock or Clock()
        self._level = 0.0
        self._level_at = self._clock.monotonic()
        self._reported_level: float | None = None
        self._reported_at = self._level_at
        # The others never get everything. Until something is known, they are assumed to use their maximum.
        self._most_for_others = self._rate * (PROCESSES - 1) / PROCESSES
        self._others_rate = self._most_for_others
        self._waiting = 0
        self._unreported = 0
        self._reporting: asyncio.Task[None] | None = None
        self._without_until = -math.inf

    async def acquire(self) -> None:
        """Wait until one more request may be sent, and count it."""
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
        """Estimate the seconds until one more request fits."""
        return (self._level_now() + 1 - self._burst) / self._rate

    def _level_now(self) -> float:
        """Estimate the bucket's level."""
        now = self._clock.monotonic()
        silence = (now - self._reported_at) / self._seconds
        leaked = (self._rate - self._others_rate * max(0.0, 1 - silence)) * (now - self._level_at)
        return max(0.0, self._level - leaked)

    def _set_level(self, level: float) -> None:
        self._level, self._level_at = level, self._clock.monotonic()

    def _begin_to_report(self) -> None:
        if self._reporting is None or self._reporting.done():
            self._reporting = asyncio.create_task(self._report())

    async def _report(self) -> None:
        """Report what was sent, and read the level while requests wait."""
        while self._unreported or self._waiting:
            number, self._unreported = self._unreported, 0
            try:
                async with asyncio.timeout(REPORT_TIMEOUT_SECONDS):
                    level = await self._add(number)
            except Exception as error:  # noqa: BLE001  # whatever Prefect raises: requests go on without it
                logger.debug("Could not update the distributed rate limit: %r", error)
                # Requests that would have leaked by now no longer count: after an outage of minutes, adding all of
                # them at once would block every process for minutes.
                self._unreported = min(self._unreported + number, math.ceil(self._level_now()))
            else:
                if level is None:
                    self._without_until = self._clock.monotonic() + SECONDS_WITHOUT
                    self._level = self._unreported = 0
                    return
                self._learn(level, number)
            await asyncio.sleep(self._seconds_between_reports)

    def _learn(self, level: float, added: int) -> None:
        """Update the level, and the rate of the others."""
        now = self._clock.monotonic()
        if self._reported_level is not None:
            elapsed = now - self._reported_at
            mine = max(0.0, self._reported_level - self._rate * elapsed) + added
            others = max(0.0, level - mine) / max(elapsed, self._seconds_between_reports)
            self._others_rate = min(self._most_for_others, (self._others_rate + others) / 2)
        self._reported_level, self._reported_at = level, now
        self._set_level(level + self._unreported)


class PrefectLeakyBucket:
    """The leaky bucket on Prefect's server.

    Args:
        name: Name of the global concurrency limit.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._client: PrefectClient | None = None

    async def add(self, requests: int) -> float | None:
        """Add requests, 0 or more; returns the level in requests, None if there is no bucket."""
        if self._client is None:
            # Stays open for the life of the process, like the connection to the API.
            self._client = await new_client().__aenter__()
        slots = requests * SLOTS_PER_REQUEST
        # No retries: the next report makes up for a failed one.
        with no_retries():
            try:
                limit = await self._client.read_global_concurrency_limit_by_name(self._name)
            except ObjectNotFound:
                # An update would still make the server write, which blocks other writers on SQLite.
                return None
            if slots:
                await self._client.increment_concurrency_slots([self._name], slots, "rate_limit")
        return (limit.active_slots + slots) / SLOTS_PER_REQUEST


def burst_of(limit: RateLimit) -> float:
    """The number of requests that may be sent at once."""
    return max(1.0, BURST_PART * limit.requests)


def requests_per_second(limits: Sequence[RateLimit]) -> float:
    """The leak rate at which all bursts together fit into the shortest window."""
    shortest = min(limits, key=lambda limit: limit.seconds)
    # One more per process: the last request of a burst is sent before a whole one has leaked.
    return max(1.0, shortest.requests - PROCESSES * (burst_of(shortest) + 1)) / shortest.seconds


def slots_per_second(limits: Sequence[RateLimit]) -> float:
    """The leak rate in Prefect's slots."""
    return requests_per_second(limits) * SLOTS_PER_REQUEST
