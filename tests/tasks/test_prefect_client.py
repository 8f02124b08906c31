"""Requests to Prefect's server without retries."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import httpx
import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from tasks.prefect_client import PAUSES, client_without_retries, no_retries, retried

API = "http://127.0.0.1:1/api"


@pytest.fixture
def statuses(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """What Prefect's server answers: the last of these again and again."""
    answers: list[int] = []

    async def answer(_: httpx.AsyncHTTPTransport, request: httpx.Request) -> httpx.Response:
        status = answers.pop(0) if len(answers) > 1 else answers[0]
        return httpx.Response(status, json="3", request=request)

    monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", answer)
    with temporary_settings({PREFECT_API_URL: API, PREFECT_CLIENT_MAX_RETRIES: 5}):
        yield answers


async def version() -> str:
    async with client_without_retries(60.0) as client:
        return str(await client.api_version())


@pytest.mark.parametrize("status", [500, 502, 503])
async def test_what_an_overloaded_server_answers_is_raised_at_once(statuses: list[int], status: int) -> None:
    statuses.append(status)
    began = asyncio.get_running_loop().time()
    with pytest.raises(httpx.HTTPStatusError, match=str(status)):
        await version()
    assert asyncio.get_running_loop().time() == began


async def test_a_request_that_matters_is_repeated_after_short_pauses(statuses: list[int]) -> None:
    statuses[:] = [503, 503, 200]
    began = asyncio.get_running_loop().time()
    assert await retried(version) == "3"
    assert asyncio.get_running_loop().time() - began == pytest.approx(sum(PAUSES[:2]))


async def test_after_the_last_pause_the_error_is_raised(statuses: list[int]) -> None:
    statuses.append(503)
    began = asyncio.get_running_loop().time()
    with pytest.raises(httpx.HTTPStatusError):
        await retried(version)
    assert asyncio.get_running_loop().time() - began == pytest.approx(sum(PAUSES))


def test_only_the_retries_change_and_all_other_settings_are_those_in_use() -> None:
    for url in (API, f"{API}/other"):
        with temporary_settings({PREFECT_API_URL: url, PREFECT_CLIENT_MAX_RETRIES: 7}):
            with no_retries():
                assert PREFECT_CLIENT_MAX_RETRIES.value() == 0
                assert PREFECT_API_URL.value() == url
            assert PREFECT_CLIENT_MAX_RETRIES.value() == 7
