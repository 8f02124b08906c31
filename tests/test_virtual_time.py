"""The loop that the other tests run on."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.virtual_time import EPOCH, Endless, VirtualClock, VirtualTimeLoop, run


def test_a_day_of_sleep_takes_no_time_and_ends_at_the_second() -> None:
    async def sleep() -> tuple[float, float]:
        await asyncio.sleep(86400)
        return VirtualClock().monotonic(), VirtualClock().unix()

    began = time.perf_counter()
    assert run(sleep()) == (86400, EPOCH + 86400)
    assert time.perf_counter() - began < 1


def test_sleeping_tasks_wake_in_order() -> None:
    woken: list[float] = []

    async def sleep(seconds: float) -> None:
        await asyncio.sleep(seconds)
        woken.append(asyncio.get_running_loop().time())

    async def all_sleep() -> None:
        await asyncio.gather(*map(sleep, (3.0, 1.0, 2.5, 1.0)))

    run(all_sleep())
    assert woken == [1.0, 1.0, 2.5, 3.0]


def test_timeouts_occur_when_they_are_due() -> None:
    async def wait() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(40):
                await asyncio.Event().wait()
        return VirtualClock().monotonic()

    assert run(wait()) == 40


def test_waiting_for_something_that_never_happens_is_an_error() -> None:
    async def wait() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Endless, match="nothing is left"):
        run(wait())


def test_running_forever_is_an_error() -> None:
    async def poll() -> None:
        while True:  # noqa: ASYNC110
            await asyncio.sleep(5)

    with pytest.raises(Endless, match="3600 s"):
        run(poll(), longest=3600)


def test_looping_without_time_passing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.virtual_time.MOST_TURNS_AT_ONE_MOMENT", 1000)

    async def spin() -> None:
        while True:  # noqa: ASYNC110
            await asyncio.sleep(0)

    with pytest.raises(Endless, match="round and round"):
        run(spin())


async def test_an_async_test_runs_in_virtual_time() -> None:
    await asyncio.sleep(86400)
    assert VirtualClock().unix() == EPOCH + 86400


@pytest.mark.longest(3600)
async def test_a_mark_limits_the_virtual_time_of_a_test() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    assert loop.longest == 3600


@pytest.mark.real_time
async def test_a_mark_makes_an_async_test_run_in_real_time() -> None:
    assert not isinstance(asyncio.get_running_loop(), VirtualTimeLoop)
