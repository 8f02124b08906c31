"""One token's short-term rate limit, shared by the processes of several runs through Prefect's server.

Each process keeps to the token's limits by itself, and learns from the answers what others spend; but what they send
in the same seconds it learns too late. So all of them pour their requests into one bucket with a hole, a global
concurrency limit of Prefect's, and whoever finds it fuller than a short burst waits until enough has run out.

No request waits for Prefect's server: what was sent is poured afterwards, many at a time, and how full the bucket is
then counts for the requests to come. Until the next answer, others are taken to go on as they did; where there is none
for the length of the limit, they are taken to have stopped, and what they send shows in the API's answers alone.
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
# Prefect rounds down what has run out, each time somebody pours: so a request is worth many slots.
SLOTS_A_REQUEST = 1000
# Never reached: to be turned away would set the time back from which Prefect counts what has run out.
MOST_SLOTS = 1_000_000_000
# So many processes may send a burst before they know of each other.
PROCESSES = 3
BURST_PART = 0.04
PART_BETWEEN_REPORTS = 1 / 60
LONGEST_QUESTION_SECONDS = 10.0
SECONDS_WITHOUT = 60.0

logger = logging.getLogger(__name__)


class DistributedRateLimit:
    """The bucket, as one process sees it; holds nobody up where nobody has set it up.

    Args:
        limits: The token's limits. The shortest is shared; how much is left of the longest, every answer tells.
        pour: Counts requests on the server, which may be none, and tells how many are in the bucket then, or None where
            there is no bucket; None for Prefect's.
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
        """How full the bucket is, as far as this process knows."""
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
        """Pour what was sent, and look how full the bucket is while somebody waits."""
        while self._unreported or self._waiting:
            number, self._unreported = self._unreported, 0
            try:
                async with asyncio.timeout(LONGEST_QUESTION_SECONDS):
                    level = await self._add(number)
            except Exception as error:  # noqa: BLE001  # whatever Prefect raises: images are copied without it, too
                logger.debug("Prefect's server cannot say what others send: %r", error)
                # What has run out of the bucket meanwhile no longer counts: after an outage of minutes, all of it at
                # once would hold every process up for minutes.
                self._unreported = min(self._unreported + number, math.ceil(self._level_now()))
            else:
                if level is None:
                    self._without_until = self._clock.monotonic() + SECONDS_WITHOUT
                    self._level = self._unreported = 0
                    return
                self._learn(level, number)
            await asyncio.sleep(self._seconds_between_reports)

    def _learn(self, level: float, added: int) -> None:
        """Take note of how full the bucket is, and of how fast others fill it."""
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
        """Count requests, which may be none, and tell how many are in the bucket then; None if there is no bucket."""
        if self._client is None:
            # For as long as the process lives, as the connection to the API is.
            self._client = await get_client().__aenter__()
        slots = requests * SLOTS_A_REQUEST
        # A pour is not worth the seconds after which Prefect's client tries again: the next one makes up for it.
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
            try:
                limit = await self._client.read_global_concurrency_limit_by_name(DISTRIBUTED_LIMIT)
            except ObjectNotFound:
                # To pour all the same would make the server write, and with SQLite keep others from it.
                return None
            if slots:
                await self._client.increment_concurrency_slots([DISTRIBUTED_LIMIT], slots, "rate_limit")
        return (limit.active_slots + slots) / SLOTS_A_REQUEST


def burst_of(limit: RateLimit) -> float:
    """How many requests may go at once."""
    return max(1.0, BURST_PART * limit.requests)


def requests_a_second(limits: Sequence[RateLimit]) -> float:
    """How fast the bucket empties, so that what fits through it fits into the shortest window."""
    shortest = min(limits, key=lambda limit: limit.seconds)
    # One more each, as the last request of a burst begins before the bucket has run out by a whole one.
    return max(1.0, shortest.requests - PROCESSES * (burst_of(shortest) + 1)) / shortest.seconds


def slots_a_second(limits: Sequence[RateLimit]) -> float:
    """The same, as Prefect counts."""
    return requests_a_second(limits) * SLOTS_A_REQUEST
