"""Several processes and one token: never more than the API allows, hardly less, and never waiting for Prefect."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from random import Random
from typing import TypeAlias

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from deployments.sandbox.request_log import peak
from tasks.digitalocean.settings import RateLimit
from tasks.distributed_rate_limit import (
    REPORT_TIMEOUT_SECONDS,
    SECONDS_WITHOUT,
    SLOTS_PER_REQUEST,
    DistributedRateLimit,
    burst_of,
    requests_per_second,
    slots_per_second,
)
from tests.virtual_time import VirtualClock, run

Add: TypeAlias = Callable[[int], Awaitable[float | None]]

MINUTE = RateLimit(250, 60)
PROCESSES = 3
# Arithmetic on floating point numbers may be so much off.
HAIR = 1e-3


def now() -> float:
    return asyncio.get_running_loop().time()


class TickingClock(VirtualClock):
    """Has moved on a little whenever it is looked at again, as every true clock has."""

    def __init__(self) -> None:
        self._looks = 0

    def monotonic(self) -> float:
        self._looks += 1
        return super().monotonic() + self._looks * 1e-9


class Bucket:
    """What Prefect's server does with a rate limit: each update rounds down the number of leaked slots."""

    def __init__(self, limit: RateLimit, longest_way: float = 0.0, seed: int = 0) -> None:
        self._slots_per_second = slots_per_second([limit])
        self._longest_way = longest_way
        self._random = Random(seed)  # noqa: S311
        self._slots = 0
        self._updated = 0.0
        self.additions: list[int] = []

    async def add(self, requests: int) -> float | None:
        self.additions.append(requests)
        await self._way()
        leaked = math.floor(self._slots_per_second * (now() - self._updated))
        self._slots, self._updated = max(0, self._slots - leaked) + requests * SLOTS_PER_REQUEST, now()
        level = self._slots / SLOTS_PER_REQUEST
        await self._way()
        return level

    async def _way(self) -> None:
        await asyncio.sleep(self._random.uniform(0, self._longest_way / 2))


def process(add: Add, limit: RateLimit = MINUTE) -> DistributedRateLimit:
    return DistributedRateLimit([RateLimit(limit.requests * 20, 3600), limit], add=add, clock=TickingClock())


async def send_at_full_speed(shared: DistributedRateLimit, until: float, sent: list[float]) -> None:
    """Send as many requests as may go before a moment."""
    with suppress(TimeoutError):
        async with asyncio.timeout(until - now()):
            while True:
                await shared.acquire()
                sent.append(now())
                # Nothing is sent in no time at all.
                await asyncio.sleep(0.001)


def sent_by(add: Add, limit: RateLimit, seconds: float, *, processes: int = 1) -> list[float]:
    """When processes that want to send all the time may do so."""

    async def send() -> list[float]:
        sent: list[float] = []
        sharers = [process(add, limit) for _ in range(processes)]
        await asyncio.gather(*(send_at_full_speed(each, seconds, sent) for each in sharers))
        return sent

    return sorted(run(send()))


LIMITS = st.builds(RateLimit, requests=st.integers(30, 500), seconds=st.integers(5, 120))


def assert_that_three_processes_keep_it_and_get(share: float, limit: RateLimit, bucket: Bucket) -> None:
    sent = sent_by(bucket.add, limit, 10 * limit.seconds, processes=PROCESSES)
    assert peak(limit.seconds - HAIR, sent) <= limit.requests
    assert len(sent) >= share * 10 * limit.requests


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(limit=LIMITS, part=st.sampled_from([0.0, 0.002, 0.01, 1 / 30]), seed=st.integers(0, 999))
@example(limit=MINUTE, part=1 / 30, seed=1)
def test_three_busy_processes_respect_any_limit_and_use_most_of_it_if_responses_take_a_thirtieth_of_its_window(
    limit: RateLimit, part: float, seed: int
) -> None:
    # Of few requests, the bursts that are kept free are a larger part.
    share = 0.7 if limit.requests >= 60 else 0.65
    assert_that_three_processes_keep_it_and_get(share, limit, Bucket(limit, min(2.0, part * limit.seconds), seed))


# With a window not much longer than a response takes, no process learns of the others in time.
LONG_LIMITS = st.builds(RateLimit, requests=st.integers(30, 500), seconds=st.integers(20, 120))


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(limit=LONG_LIMITS, longest_way=st.sampled_from([0.5, 1.0, 2.0]), seed=st.integers(0, 999))
def test_three_busy_processes_respect_any_limit_and_use_half_of_it_if_responses_take_two_seconds(
    limit: RateLimit, longest_way: float, seed: int
) -> None:
    assert_that_three_processes_keep_it_and_get(0.5, limit, Bucket(limit, longest_way, seed))


def test_requests_sent_during_an_outage_of_minutes_delay_none_afterwards() -> None:
    bucket = Bucket(MINUTE)
    outage = range(60, 360)

    async def add(requests: int) -> float | None:
        if int(now()) in outage:
            raise ConnectionError
        return await bucket.add(requests)

    sent = sent_by(add, MINUTE, 600)
    after = [moment for moment in sent if moment > outage.start]
    assert max(later - earlier for earlier, later in itertools.pairwise(after)) < 10
    assert peak(60 - HAIR, sent) <= MINUTE.requests


@pytest.mark.parametrize("longest_way", [0.0, 2.0])
def test_a_single_process_respects_the_limit_and_uses_most_of_it(longest_way: float) -> None:
    sent = sent_by(Bucket(MINUTE, longest_way).add, MINUTE, 600)
    assert peak(60 - HAIR, sent) <= MINUTE.requests
    assert len(sent) >= 0.7 * 10 * MINUTE.requests


def test_a_short_burst_is_sent_at_once_even_if_the_server_is_slow() -> None:
    async def add(requests: int) -> float | None:
        await asyncio.sleep(5)
        return requests

    sent = sent_by(add, MINUTE, 60)
    assert sent[math.floor(burst_of(MINUTE)) - 1] < 1


async def test_requests_of_other_processes_are_taken_into_account() -> None:
    bucket = Bucket(MINUTE)

    enough_has_leaked = (100 + 2 - burst_of(MINUTE)) / requests_per_second([MINUTE])
    await bucket.add(100)
    shared = process(bucket.add)
    await shared.acquire()
    # The first request is sent on what is known; its report brings the count of the others.
    await asyncio.sleep(0.001)
    await shared.acquire()
    assert now() == pytest.approx(enough_has_leaked, abs=0.1)


async def _failing(requests: int) -> float | None:
    raise ConnectionError


async def _hanging(requests: int) -> float | None:
    await asyncio.Event().wait()
    return None


@pytest.mark.parametrize("add", [_failing, _hanging])
def test_a_server_that_fails_or_hangs_does_not_slow_down_a_process_within_the_limit(add: Add) -> None:
    sent = sent_by(add, MINUTE, 600)
    assert peak(60 - HAIR, sent) <= MINUTE.requests
    assert len(sent) >= 0.7 * 10 * MINUTE.requests


@pytest.mark.parametrize("ill", [_failing, _hanging])
def test_a_recovered_server_is_used_again(ill: Add) -> None:
    well_at = 100.0
    bucket = Bucket(MINUTE)

    async def add(requests: int) -> float | None:
        return await (bucket.add if now() > well_at else ill)(requests)

    sent = sent_by(add, MINUTE, 600)
    added_since = sum(bucket.additions)
    since = [each for each in sent if each > well_at + REPORT_TIMEOUT_SECONDS]
    assert added_since >= len(since) - burst_of(MINUTE)


def test_without_a_bucket_nothing_waits_and_the_bucket_is_looked_for_again_a_minute_later() -> None:
    asked: list[float] = []

    async def add(requests: int) -> float | None:
        asked.append(now())
        return None

    sent = sent_by(add, MINUTE, SECONDS_WITHOUT + 1)
    # One a millisecond: as fast as they are wanted.
    assert len(sent) > 900 * SECONDS_WITHOUT
    assert asked == pytest.approx([0, SECONDS_WITHOUT], abs=0.1)


def test_a_bucket_created_later_is_respected() -> None:
    bucket = Bucket(MINUTE)

    async def add(requests: int) -> float | None:
        return await bucket.add(requests) if now() > 1 else None

    later = [each for each in sent_by(add, MINUTE, 600) if each > SECONDS_WITHOUT + 1]
    assert peak(60 - HAIR, later) <= MINUTE.requests


def test_many_requests_need_few_reports_and_each_is_counted_once() -> None:
    bucket = Bucket(MINUTE, longest_way=0.1)
    sent = sent_by(bucket.add, MINUTE, 600)
    assert len(bucket.additions) <= 10 * 60 + 1
    assert len(sent) - burst_of(MINUTE) <= sum(bucket.additions) <= len(sent)


async def test_a_process_that_sends_nothing_adds_nothing() -> None:
    bucket = Bucket(MINUTE)

    await process(bucket.add).acquire()
    await asyncio.sleep(3600)
    assert bucket.additions == [1]
