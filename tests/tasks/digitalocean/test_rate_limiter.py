"""When requests go: never more than the windows hold, never later than they allow."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.sandbox import Limits
from deployments.sandbox.request_log import peak
from tasks.digitalocean.rate_limiter import Permit, RateLimiter
from tasks.digitalocean.settings import RateLimit
from tests.virtual_time import EPOCH, VirtualClock, run

MINUTE, HOUR = 60.0, 3600.0
SMALL = (RateLimit(3, MINUTE), RateLimit(8, HOUR))
# Arithmetic on floating point numbers may be so much off.
HAIR = 1e-3
# Headers speak in whole seconds.
SECOND = 1.0


class OffClock(VirtualClock):
    """A machine's clock that is wrong."""

    def __init__(self, off_by: float) -> None:
        self.off_by = off_by

    def unix(self) -> float:
        return super().unix() + self.off_by


def make_rate_limiter(limits: Sequence[RateLimit] = SMALL, *, off_by: float = 0.0) -> RateLimiter:
    return RateLimiter(limits, OffClock(off_by), Random(1))  # noqa: S311


def now() -> float:
    return asyncio.get_running_loop().time()


async def spend(
    rate_limiter: RateLimiter,
    status: int | None = 200,
    headers: Mapping[str, str] | None = None,
    *,
    latency: float = 0.0,
    held: Permit | None = None,
) -> float:
    """Send a request; returns when it went."""
    permit = await rate_limiter.acquire(held=held)
    went = now()
    await asyncio.sleep(latency)
    rate_limiter.record_response(permit, status, headers)
    return went


def http_date(unix: float) -> str:
    return format_datetime(datetime.fromtimestamp(unix, UTC), usegmt=True)


@dataclass(frozen=True)
class Planned:
    """A request: when it is wanted, how long it takes to the server and back, and what is answered."""

    wanted_after: float
    there: float
    back: float
    status: int | None = 200
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Went:
    """When a request was sent and answered."""

    wanted: float
    sent: float
    seen: float
    answered: float


async def carry_out(plan: Sequence[Planned], rate_limiter: RateLimiter) -> list[Went]:
    """Send requests as they are wanted."""

    async def send(planned: Planned) -> Went:
        wanted = now()
        permit = await rate_limiter.acquire()
        sent = now()
        await asyncio.sleep(planned.there)
        seen = now()
        await asyncio.sleep(planned.back)
        rate_limiter.record_response(permit, planned.status, dict(planned.headers))
        return Went(wanted, sent, seen, now())

    sending = []
    for planned in plan:
        await asyncio.sleep(planned.wanted_after)
        sending.append(asyncio.create_task(send(planned)))
        await asyncio.sleep(0)
    return list(await asyncio.gather(*sending))


QUARTERS = st.integers(0, 40).map(lambda quarters: quarters / 4)
LONG_PAUSES = st.sampled_from([0.0, 0.0, 0.0, 0.25, 5.0, 30.0, 60.0, 900.0])
WILD_NUMBERS = st.sampled_from(["0", "1", "3", "8", "-1", "5000", "soon", "", "1e3", "9" * 30, "2.5"])
# A higher limit is believed, so only lower ones belong among headers that may say anything.
LIMIT_NUMBERS = st.sampled_from(["0", "1", "3", "8", "-1", "all", ""])
RESETS = st.one_of(WILD_NUMBERS, st.integers(-4000, 8000).map(lambda off: str(int(EPOCH) + off)))
DATES = st.one_of(st.sampled_from(["", "yesterday"]), st.integers(-9999, 9999).map(lambda off: http_date(EPOCH + off)))
WILD_HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "ratelimit-limit": LIMIT_NUMBERS,
        "ratelimit-remaining": WILD_NUMBERS,
        "ratelimit-reset": RESETS,
        "retry-after": st.one_of(st.sampled_from(["0", "1", "45", "-5", "2.5", "soon", ""]), DATES),
        "date": DATES,
    },
).map(lambda headers: tuple(headers.items()))
WILD_PLANS = st.lists(
    st.builds(
        Planned,
        LONG_PAUSES,
        QUARTERS,
        QUARTERS,
        st.sampled_from([200, 200, 201, 404, 429, 429, 500, None]),
        WILD_HEADERS,
    ),
    max_size=30,
)
CALM_PLANS = st.lists(st.builds(Planned, LONG_PAUSES, QUARTERS, QUARTERS), max_size=40)


@given(plan=WILD_PLANS)
async def test_no_responses_or_latencies_ever_exceed_a_window(plan: list[Planned]) -> None:
    went = await carry_out(plan, make_rate_limiter())
    assert len(went) == len(plan)
    for limit in SMALL:
        assert peak(limit.seconds - HAIR, sorted(each.seen for each in went)) <= limit.requests


@given(plan=CALM_PLANS, per_minute=st.integers(1, 5), per_hour=st.integers(1, 20))
async def test_any_limits_are_respected(plan: list[Planned], per_minute: int, per_hour: int) -> None:
    limits = (RateLimit(per_hour, HOUR), RateLimit(per_minute, MINUTE))
    went = await carry_out(plan, make_rate_limiter(limits))
    for limit in limits:
        assert peak(limit.seconds - HAIR, sorted(each.seen for each in went)) <= limit.requests


@given(plan=CALM_PLANS)
async def test_a_single_process_leaves_no_budget_unused_while_requests_wait(plan: list[Planned]) -> None:
    went = await carry_out(plan, make_rate_limiter())
    for place, each in enumerate(went):
        earliest = max([each.wanted, *(before.sent for before in went[:place])])
        for limit in SMALL:
            # Only once so many have expired is there room, and the last answer tells when that is.
            expiries = sorted(before.answered + limit.seconds for before in went[:place])
            if place >= limit.requests:
                earliest = max(earliest, expiries[place - limit.requests])
        assert each.sent <= earliest + HAIR


@given(latency=QUARTERS, wanted=st.lists(LONG_PAUSES, max_size=40))
async def test_accurate_headers_never_delay_a_single_process(latency: float, wanted: list[float]) -> None:
    """As long as no request overtakes another; what comes at the same moment is therefore kept in order."""
    order = 1e-6

    rate_limiter, server = make_rate_limiter(), Limits(3, 8)

    async def send(place: int) -> float:
        permit = await rate_limiter.acquire()
        sent = now()
        await asyncio.sleep(latency / 2 + place * order)
        assert server.standing(EPOCH + now()).refused_by is None
        server.spend(EPOCH + now())
        headers = server.standing(EPOCH + now()).headers()
        await asyncio.sleep(latency / 2 + place * order)
        rate_limiter.record_response(permit, 200, headers)
        return sent

    sending = []
    for place, pause in enumerate(wanted):
        await asyncio.sleep(pause)
        sending.append(asyncio.create_task(send(place)))
        await asyncio.sleep(0)
    sent = await asyncio.gather(*sending)
    moments = [sum(wanted[: place + 1]) for place in range(len(wanted))]
    for place, moment in enumerate(moments):
        earliest = max([moment, *sent[:place]])
        for limit in SMALL:
            if place >= limit.requests:
                earliest = max(earliest, sent[place - limit.requests] + latency + limit.seconds)
        assert sent[place] <= earliest + HAIR


@given(
    wanted=st.lists(LONG_PAUSES, min_size=1, max_size=30),
    neighbour=st.sampled_from([0.5, 1, 2.5]),
    latency=QUARTERS,
    seed=st.integers(0, 3),
)
@settings(max_examples=50)
async def test_beside_a_neighbor_every_request_succeeds_and_no_window_is_exceeded(
    wanted: list[float], neighbour: float, latency: float, seed: int
) -> None:
    """The sandbox's own limits judge; what they refuse is sent again through the same gate."""
    server = Limits(4, 60)
    counted: list[float] = []
    draw = Random(seed)  # noqa: S311

    async def send(rate_limiter: RateLimiter) -> int:
        for attempt in range(1, 1000):
            permit = await rate_limiter.acquire()
            await asyncio.sleep(there := latency * draw.random())
            standing = server.standing(EPOCH + now())
            if standing.refused_by is None:
                counted.append(now())
                server.spend(EPOCH + now())
                standing = server.standing(EPOCH + now())
                status, headers = 200, standing.headers()
            else:
                status, headers = 429, standing.refusal_headers()
            await asyncio.sleep(latency - there)
            rate_limiter.record_response(permit, status, headers)
            if status == 200:
                return attempt
        raise AssertionError("it never got through")

    rate_limiter = make_rate_limiter((RateLimit(4, MINUTE), RateLimit(60, HOUR)))
    server.set_neighbour(neighbour, EPOCH)
    sending = []
    for pause in wanted:
        await asyncio.sleep(pause)
        sending.append(asyncio.create_task(send(rate_limiter)))
    attempts = list(await asyncio.gather(*sending))
    assert len(attempts) == len(wanted)
    assert peak(MINUTE - HAIR, counted) <= 4
    assert peak(HOUR - HAIR, counted) <= 60


@pytest.mark.parametrize("latency", [0.25, 1.0, 2.0])
@pytest.mark.parametrize("neighbour", [30, 100, 150])
async def test_beside_a_steady_neighbor_few_requests_are_refused_and_most_of_the_rest_is_used(
    neighbour: float, latency: float
) -> None:
    statuses: list[int] = []

    rate_limiter, server = make_rate_limiter((RateLimit(250, MINUTE), RateLimit(5000, HOUR))), Limits(250, 5000)
    server.set_neighbour(neighbour, EPOCH - 300)
    draw = Random(1)  # noqa: S311

    async def send() -> None:
        status = 0
        while status != 200:
            permit = await rate_limiter.acquire()
            await asyncio.sleep(there := latency * draw.random())
            standing = server.standing(EPOCH + now())
            headers, status = standing.refusal_headers(), 429
            if standing.refused_by is None:
                server.spend(EPOCH + now())
                headers, status = server.standing(EPOCH + now()).headers(), 200
            statuses.append(status)
            await asyncio.sleep(latency - there)
            rate_limiter.record_response(permit, status, headers)

    async def some(number: int) -> None:
        for _ in range(number):
            await send()

    await asyncio.gather(*(some(60) for _ in range(16)))
    took = now()
    # Each minute is full: when it closes, all of the sixteen that are in flight are refused.
    assert statuses.count(429) <= 0.06 * len(statuses)
    assert took <= 1.25 * 960 / (250 - neighbour) * MINUTE


async def test_requests_that_overtake_each_other_are_not_mistaken_for_use_by_others() -> None:
    rate_limiter, server = make_rate_limiter((RateLimit(250, MINUTE), RateLimit(5000, HOUR))), Limits(250, 5000)
    draw, sent = Random(1), list[float]()  # noqa: S311

    async def send() -> None:
        permit = await rate_limiter.acquire()
        sent.append(now())
        await asyncio.sleep(draw.uniform(0.05, 0.25))
        server.spend(EPOCH + now())
        headers = server.standing(EPOCH + now()).headers()
        await asyncio.sleep(draw.uniform(0.05, 0.25))
        rate_limiter.record_response(permit, 200, headers)

    await asyncio.gather(*(send() for _ in range(2000)))
    # Alone, 2000 are sent in eight bursts, the last of which begins after seven minutes and some latencies.
    assert max(sent) <= 7 * 60.5 + SECOND


async def test_a_full_burst_is_sent_at_once_and_the_next_one_a_minute_later() -> None:
    rate_limiter = make_rate_limiter((RateLimit(250, MINUTE), RateLimit(5000, HOUR)))
    assert list(await asyncio.gather(*(spend(rate_limiter) for _ in range(600)))) == pytest.approx(
        [0.0] * 250 + [60.0] * 250 + [120.0] * 100
    )


async def test_an_hours_budget_lasts_an_hour() -> None:
    rate_limiter = make_rate_limiter((RateLimit(250, MINUTE), RateLimit(5000, HOUR)))
    sent = [await spend(rate_limiter) for _ in range(5001)]
    assert sent[4999] == pytest.approx(19 * 60)
    assert sent[5000] == pytest.approx(3600)


async def test_requests_are_sent_in_order() -> None:
    rate_limiter, order = make_rate_limiter(), list[int]()

    async def go(number: int) -> None:
        permit = await rate_limiter.acquire()
        order.append(number)
        rate_limiter.record_response(permit, 200)

    await asyncio.gather(*(go(number) for number in range(20)))
    assert order == [*range(20)]


async def test_a_cancelled_wait_delays_no_other_request() -> None:
    rate_limiter = make_rate_limiter((RateLimit(1, MINUTE),))
    await spend(rate_limiter)
    impatient = asyncio.create_task(spend(rate_limiter))
    await asyncio.sleep(10)
    patient = asyncio.create_task(spend(rate_limiter))
    await asyncio.sleep(0)
    impatient.cancel()
    assert await patient == pytest.approx(60)


# What a 429 says


def closing(headers: Mapping[str, str], *, off_by: float = 0.0) -> float:
    """How long nothing goes after a 429 with such headers."""

    async def close() -> float:
        rate_limiter = make_rate_limiter(off_by=off_by)
        await spend(rate_limiter, 429, headers)
        return await spend(rate_limiter)

    return run(close())


def reset_in(seconds: int) -> str:
    return str(int(EPOCH) + seconds)


def test_retry_after_takes_precedence() -> None:
    assert closing({"retry-after": "45", "ratelimit-reset": reset_in(900)}) == pytest.approx(45, abs=SECOND)


def test_retry_after_may_be_a_date() -> None:
    assert closing({"retry-after": http_date(EPOCH + 45)}) == pytest.approx(45, abs=SECOND)


@pytest.mark.parametrize("seconds", [1, 900, 3599])
def test_without_retry_after_a_future_reset_is_used(seconds: int) -> None:
    waited = closing({"ratelimit-remaining": "0", "ratelimit-reset": reset_in(seconds)})
    assert seconds <= waited <= seconds + SECOND + HAIR


@pytest.mark.parametrize(("remaining", "waits_for_the_reset"), [(250, True), (251, False), (4000, False)])
async def test_the_reset_is_ignored_if_more_of_the_hour_was_left_than_a_minute_allows(
    remaining: int, waits_for_the_reset: bool
) -> None:
    rate_limiter = make_rate_limiter([RateLimit(250, MINUTE), RateLimit(5000, HOUR)])
    await spend(rate_limiter, 200, {"ratelimit-remaining": str(remaining), "ratelimit-reset": reset_in(3000)})
    await asyncio.sleep(MINUTE - SECOND)
    await spend(rate_limiter, 429, {"ratelimit-remaining": "0", "ratelimit-reset": reset_in(3000)})
    assert (rate_limiter.paused_for > MINUTE) == waits_for_the_reset


async def test_an_old_remaining_count_of_the_hour_is_ignored() -> None:
    rate_limiter = make_rate_limiter([RateLimit(250, MINUTE), RateLimit(5000, HOUR)])
    await spend(rate_limiter, 200, {"ratelimit-remaining": "4000", "ratelimit-reset": reset_in(3000)})
    await asyncio.sleep(15 * MINUTE)
    await spend(rate_limiter, 429, {"ratelimit-remaining": "0", "ratelimit-reset": reset_in(3000)})
    assert rate_limiter.paused_for == pytest.approx(3000 - 15 * MINUTE, abs=SECOND + HAIR)


@pytest.mark.parametrize(
    "reset", ["0", "-1", "soon", "", reset_in(-1), reset_in(-3600), reset_in(3700), reset_in(10**6)]
)
def test_a_reset_in_the_past_or_beyond_the_hour_is_ignored(reset: str) -> None:
    assert 0.5 < closing({"ratelimit-remaining": "0", "ratelimit-reset": reset}) < 3


@pytest.mark.parametrize("retry_after", ["soon", "", "-7"])
def test_an_invalid_retry_after_falls_back_to_the_reset(retry_after: str) -> None:
    assert closing({"retry-after": retry_after, "ratelimit-reset": reset_in(900)}) == pytest.approx(900, abs=SECOND)


@pytest.mark.parametrize("headers", [{}, {"ratelimit-reset": reset_in(-60)}])
async def test_without_a_hint_pauses_grow_up_to_a_maximum(headers: Mapping[str, str]) -> None:
    rate_limiter = make_rate_limiter((RateLimit(1000, HOUR),))
    times = [await spend(rate_limiter, 429, headers) for _ in range(14)]
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert 0.5 <= pauses[0] <= 2
    for shorter, longer in pairwise(pauses[:6]):
        assert longer > shorter
    assert 30 <= pauses[-1] <= 90


async def test_pauses_start_over_after_a_success() -> None:
    rate_limiter = make_rate_limiter((RateLimit(1000, HOUR),))
    for _ in range(8):
        await spend(rate_limiter, 429)
    await spend(rate_limiter, 200)
    began = await spend(rate_limiter, 429)
    assert 0.5 <= (await spend(rate_limiter) - began) <= 2


@pytest.mark.parametrize("off_by", [-7200.0, -30.0, 30.0, 7200.0])
def test_the_date_of_the_server_corrects_a_wrong_clock(off_by: float) -> None:
    date = http_date(EPOCH)
    assert 900 <= closing({"ratelimit-reset": reset_in(900), "date": date}, off_by=off_by) <= 900 + SECOND + HAIR
    retry = {"retry-after": http_date(EPOCH + 45), "date": date}
    assert closing(retry, off_by=off_by) == pytest.approx(45, abs=SECOND)


async def test_paused_for_says_how_long_a_429_holds_requests_back() -> None:
    rate_limiter = make_rate_limiter()
    assert rate_limiter.paused_for == 0
    await spend(rate_limiter, 429, {"retry-after": "45"})
    assert rate_limiter.paused_for == pytest.approx(45, abs=SECOND)
    await asyncio.sleep(15)
    assert rate_limiter.paused_for == pytest.approx(30, abs=SECOND)
    await asyncio.sleep(60)
    assert rate_limiter.paused_for == 0


@pytest.mark.parametrize("outcome", [200, 404, 429])
async def test_after_a_429_one_request_is_tried_and_the_others_wait_for_its_response(outcome: int) -> None:
    rate_limiter = make_rate_limiter((RateLimit(1000, HOUR),))
    await spend(rate_limiter, 429, {"retry-after": "45"})
    trial = asyncio.create_task(spend(rate_limiter, outcome, {"retry-after": "20"}, latency=7))
    await asyncio.sleep(0)
    others = [spend(rate_limiter) for _ in range(5)]
    tried, *waited = await asyncio.gather(trial, *others)
    assert tried == pytest.approx(45, abs=SECOND)
    if outcome != 429:
        assert waited == pytest.approx([tried + 7] * 5)
    else:
        assert waited == pytest.approx([tried + 27] * 5, abs=SECOND)


async def test_a_trial_without_a_response_is_followed_by_another() -> None:
    rate_limiter = make_rate_limiter((RateLimit(1000, HOUR),))
    await spend(rate_limiter, 429, {"retry-after": "45"})
    first, second, third = [
        await spend(rate_limiter, None, latency=30),
        await spend(rate_limiter),
        await spend(rate_limiter),
    ]
    assert second == pytest.approx(first + 30)
    assert third == pytest.approx(second)


async def test_responses_to_earlier_requests_do_not_restart_the_pause() -> None:
    rate_limiter = make_rate_limiter((RateLimit(1000, HOUR),))
    permits = [await rate_limiter.acquire() for _ in range(50)]
    for permit in permits:
        rate_limiter.record_response(permit, 429)
    assert 0.5 <= (await spend(rate_limiter)) <= 2


async def test_a_burst_limit_that_was_hit_still_counts_when_requests_resume() -> None:
    """Others filled the minute: when the first of their requests expires, the rest still count."""

    rate_limiter = make_rate_limiter((RateLimit(60, MINUTE), RateLimit(5000, HOUR)))
    await spend(rate_limiter, 429, {"retry-after": "10", "ratelimit-remaining": "4000"})
    sent = list(await asyncio.gather(*(spend(rate_limiter) for _ in range(30))))
    assert sent[0] == pytest.approx(10, abs=SECOND)
    assert sent[-1] > 20


# What other answers say


async def test_a_lower_limit_is_adopted() -> None:
    rate_limiter = make_rate_limiter((RateLimit(1000, HOUR),))
    await spend(rate_limiter, 200, {"ratelimit-limit": "5"})
    sent = [await spend(rate_limiter) for _ in range(5)]
    assert sent[:4] == [0.0] * 4
    assert sent[4] == pytest.approx(3600)


async def test_a_higher_limit_is_adopted() -> None:
    rate_limiter = make_rate_limiter((RateLimit(5, HOUR),))
    await spend(rate_limiter, 200, {"ratelimit-limit": "100"})
    assert [await spend(rate_limiter) for _ in range(99)] == [0.0] * 99


async def test_the_share_of_the_hour_that_others_used_is_not_used_again() -> None:
    rate_limiter = make_rate_limiter((RateLimit(1000, MINUTE), RateLimit(5000, HOUR)))
    headers = {"ratelimit-limit": "5000", "ratelimit-remaining": "3", "ratelimit-reset": reset_in(600)}
    await spend(rate_limiter, 200, headers)
    sent = list(await asyncio.gather(*(spend(rate_limiter, latency=1) for _ in range(4))))
    assert sent[:3] == [0.0] * 3
    assert 600 <= sent[3] <= 602


async def test_a_falling_remaining_count_means_that_others_use_the_minute_too() -> None:
    rate_limiter = make_rate_limiter((RateLimit(100, MINUTE), RateLimit(5000, HOUR)))
    await spend(rate_limiter, 200, {"ratelimit-limit": "5000", "ratelimit-remaining": "4999"})
    await asyncio.sleep(10)
    # Of the 99 that are gone since, one is ours.
    await spend(rate_limiter, 200, {"ratelimit-limit": "5000", "ratelimit-remaining": "4900"})
    assert 20 < (await asyncio.gather(*(spend(rate_limiter) for _ in range(5))))[-1] <= 70 + SECOND


async def test_use_by_others_is_forgotten_when_they_stop() -> None:
    # Beside ours, 50 went in the first minute: 550 need six windows, the last of which begins after five minutes.
    rate_limiter, server = make_rate_limiter((RateLimit(100, MINUTE), RateLimit(5000, HOUR))), Limits(100, 5000)
    sent = []
    for place in range(500):
        permit = await rate_limiter.acquire()
        if place == 10:
            server.spend(EPOCH + now(), 50)
        assert server.standing(EPOCH + now()).refused_by is None
        server.spend(EPOCH + now())
        sent.append(now())
        rate_limiter.record_response(permit, 200, server.standing(EPOCH + now()).headers())
    assert sent[-1] <= 5 * 60 + SECOND


async def test_a_burst_by_others_is_forgotten_when_its_hour_has_passed() -> None:
    rate_limiter, server = make_rate_limiter((RateLimit(250, MINUTE), RateLimit(30, HOUR))), Limits(250, 30)
    server.spend(EPOCH + now(), 28)
    sent = []
    for _ in range(12):
        permit = await rate_limiter.acquire()
        assert server.standing(EPOCH + now()).refused_by is None
        server.spend(EPOCH + now())
        sent.append(now())
        rate_limiter.record_response(permit, 200, server.standing(EPOCH + now()).headers())
    assert sent[-1] <= HOUR + MINUTE


@pytest.mark.parametrize("limit", ["0", "-1", "all", ""])
async def test_a_limit_that_would_block_all_requests_is_ignored(limit: str) -> None:
    rate_limiter = make_rate_limiter()
    assert [await spend(rate_limiter, 200, {"ratelimit-limit": limit}) for _ in range(4)] == pytest.approx(
        [0.0, 0.0, 0.0, 60.0]
    )


async def test_a_used_up_hour_ends_even_if_others_were_seen_long_ago() -> None:
    rate_limiter = make_rate_limiter((RateLimit(5, HOUR),))
    await spend(rate_limiter, 200, {"ratelimit-remaining": "1", "ratelimit-reset": reset_in(100)})
    for _ in range(4):
        await asyncio.sleep(150)
        await spend(rate_limiter, 502)
    assert await spend(rate_limiter) == pytest.approx(3600)


async def test_responses_without_rate_limit_headers_change_nothing() -> None:
    rate_limiter = make_rate_limiter()
    await spend(rate_limiter, 502)
    await spend(rate_limiter, None)
    assert [await spend(rate_limiter), await spend(rate_limiter)] == pytest.approx([0.0, 60.0])


# Permits that are held


async def test_a_held_permit_is_used_immediately_and_only_once() -> None:
    rate_limiter = make_rate_limiter((RateLimit(2, MINUTE),))
    permit = await rate_limiter.acquire()
    await spend(rate_limiter)
    await asyncio.sleep(5)
    first = await spend(rate_limiter, held=permit)
    second = await spend(rate_limiter, held=permit)
    assert first == 5
    assert second == pytest.approx(60)


async def test_a_permit_acquired_before_a_429_waits_like_the_others() -> None:
    rate_limiter = make_rate_limiter((RateLimit(1000, HOUR),))
    held = await rate_limiter.acquire()
    await spend(rate_limiter, 429, {"retry-after": "45"})
    first = await spend(rate_limiter, held=held)
    second = await spend(rate_limiter, held=await rate_limiter.acquire())
    assert [first, second] == pytest.approx([45, 45], abs=SECOND)


async def test_an_unused_permit_is_released() -> None:
    rate_limiter = make_rate_limiter((RateLimit(1, MINUTE),))
    async with rate_limiter.permit((0,)):
        waiting = asyncio.create_task(spend(rate_limiter))
        await asyncio.sleep(20)
    assert await waiting == pytest.approx(20)


async def test_a_permit_is_released_if_its_request_fails() -> None:
    rate_limiter = make_rate_limiter((RateLimit(1, MINUTE),))
    with pytest.raises(LookupError):
        async with rate_limiter.permit((0,)):
            raise LookupError
    assert await spend(rate_limiter) == 0


async def test_a_used_permit_is_not_released_again() -> None:
    rate_limiter = make_rate_limiter((RateLimit(1, MINUTE),))
    async with rate_limiter.permit((0,)) as permit:
        await spend(rate_limiter, held=permit)
    assert await spend(rate_limiter) == pytest.approx(60)


async def test_a_later_start_of_higher_priority_overtakes_waiting_ones_and_a_read_overtakes_all_starts() -> None:
    order: list[str] = []

    rate_limiter = make_rate_limiter((RateLimit(1, MINUTE),))

    async def start(name: str, priority: float) -> None:
        async with rate_limiter.permit((priority,)) as permit:
            rate_limiter.record_response(permit, 200, {})
            order.append(name)

    waiting = [asyncio.create_task(start(name, priority)) for name, priority in [("a", 0), ("c", 2), ("d", 3)]]
    await asyncio.sleep(30)
    waiting.append(asyncio.create_task(start("b", 1)))
    await asyncio.sleep(1)
    await spend(rate_limiter)
    order.append("read")
    await asyncio.gather(*waiting)
    assert order == ["a", "read", "b", "c", "d"]


@pytest.mark.parametrize("steps", range(8))
async def test_a_permit_is_released_whenever_its_request_is_cancelled(steps: int) -> None:
    rate_limiter = make_rate_limiter((RateLimit(1, MINUTE),))

    async def start() -> None:
        async with rate_limiter.permit((0,)):
            await asyncio.sleep(1)

    for _ in range(20):
        gone = asyncio.create_task(start())
        for _ in range(steps):
            await asyncio.sleep(0)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
    async with asyncio.timeout(1), rate_limiter.permit((0,)) as permit:
        rate_limiter.record_response(permit, 200, {})


async def test_the_pause_is_infinite_while_a_response_is_outstanding() -> None:
    rate_limiter = make_rate_limiter((RateLimit(1, MINUTE),))
    permit = await rate_limiter.acquire()
    assert math.isinf(rate_limiter.pause())
    waiting = asyncio.create_task(spend(rate_limiter))
    await asyncio.sleep(1000)
    rate_limiter.record_response(permit, None)
    assert await waiting == pytest.approx(1060)


async def test_the_time_for_many_requests_follows_from_the_tightest_window() -> None:
    rate_limiter = make_rate_limiter((RateLimit(250, MINUTE), RateLimit(5000, HOUR)))
    assert (rate_limiter.seconds_for(250), rate_limiter.seconds_for(500), rate_limiter.seconds_for(15000)) == (
        0.0,
        MINUTE,
        2 * HOUR,
    )
