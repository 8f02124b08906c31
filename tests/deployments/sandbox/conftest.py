from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pydo
import pytest
from azure.core.pipeline.policies import HeadersPolicy

from deployments.sandbox import Behavior, Sandbox
from tests.deployments.sandbox.sandbox_clock import SandboxClock


@pytest.fixture
def clock() -> SandboxClock:
    return SandboxClock()


@pytest.fixture
def start(clock: SandboxClock) -> Iterator[Callable[..., Sandbox]]:
    """Starts sandboxes with the knobs a test asks for."""
    with ExitStack() as running:

        def started(**knobs: Any) -> Sandbox:
            wanted: dict[str, Any] = {"speed": 1, "clock": clock} | knobs
            return running.enter_context(Sandbox(**wanted))

        yield started


@pytest.fixture
def start_with_behavior(start: Callable[..., Sandbox]) -> Callable[..., Sandbox]:
    return lambda **behavior: start(behavior=Behavior(**behavior))


@pytest.fixture
def sandbox(start: Callable[..., Sandbox]) -> Sandbox:
    return start()


@pytest.fixture
def connect() -> Iterator[Callable[[Sandbox], httpx.Client]]:
    with ExitStack() as open_clients:

        def connected(sandbox: Sandbox) -> httpx.Client:
            headers = {"authorization": f"Bearer {sandbox.token}"}
            return open_clients.enter_context(httpx.Client(base_url=sandbox.url, headers=headers))

        yield connected


@pytest.fixture
def http(connect: Callable[[Sandbox], httpx.Client], sandbox: Sandbox) -> httpx.Client:
    return connect(sandbox)


@pytest.fixture
def connect_pydo() -> Callable[[Sandbox], Any]:
    """DigitalOcean's own client, which has to be told that plain HTTP will do here."""

    def connected(sandbox: Sandbox) -> Any:
        bearer = HeadersPolicy({"Authorization": f"Bearer {sandbox.token}"})
        return pydo.Client(sandbox.token, endpoint=sandbox.url, authentication_policy=bearer, retry_total=0)

    return connected


@pytest.fixture
def client(connect_pydo: Callable[[Sandbox], Any], sandbox: Sandbox) -> Any:
    return connect_pydo(sandbox)
