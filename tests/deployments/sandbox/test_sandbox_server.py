"""The sandbox as a server, as an application, and as a command."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable

import httpx
import pytest

from deployments.sandbox import ConnectionDropped, Fault, FaultKind, Faults, Sandbox, make_account, sandbox_app
from tests.deployments.sandbox.sandbox_clock import NOON, SandboxClock

COMMAND = [sys.executable, "-m", "deployments.sandbox"]


def test_the_environment_points_a_client_to_the_sandbox_and_speeds_it_up(start: Callable[..., Sandbox]) -> None:
    sandbox = start(speed=60)
    environment = sandbox.environment()
    assert environment.pop("DIGITALOCEAN_TOKEN") == sandbox.token
    assert environment.pop("DIGITALOCEAN_API_URL") == sandbox.url
    assert json.loads(environment.pop("DIGITALOCEAN_RATE_LIMITS")) == [[250, 1], [5000, 60]]
    assert environment == {
        "DIGITALOCEAN_POLL_INTERVAL_SECONDS": "0.1",
        "DIGITALOCEAN_POLL_INTERVAL_MAX_SECONDS": "2",
    }


def test_every_response_has_the_time_of_the_sandbox_not_of_this_machine(
    sandbox: Sandbox, http: httpx.Client, clock: SandboxClock
) -> None:
    assert http.get("/v2/account").headers.get_list("date") == ["Tue, 22 Sep 2026 12:00:00 GMT"]
    clock.move(60 * 86400)
    assert http.get("/v2/account").headers.get_list("date") == ["Sat, 21 Nov 2026 12:00:00 GMT"]


def test_the_server_stops_when_its_block_ends(clock: SandboxClock) -> None:
    with Sandbox(clock=clock) as sandbox:
        assert sandbox.url.startswith("http://127.0.0.1:")
        assert httpx.get(sandbox.url).status_code == 401
    with pytest.raises(httpx.ConnectError):
        httpx.get(sandbox.url)


def test_stopping_does_not_wait_for_slow_responses(clock: SandboxClock) -> None:
    with Sandbox(clock=clock) as sandbox:
        sandbox.faults.add(Fault(FaultKind.SLOW, seconds=3600))
        with pytest.raises(httpx.ReadTimeout):
            httpx.get(f"{sandbox.url}/v2/account", headers=bearer(sandbox.token), timeout=0.05)


def test_a_port_in_use_raises_an_error_and_does_not_exit(sandbox: Sandbox) -> None:
    port = int(sandbox.url.rpartition(":")[2])
    with pytest.raises(OSError, match="in use"), Sandbox(port=port):
        pass


@pytest.mark.parametrize("speed", [0, -1])
def test_time_cannot_stand_still_or_run_backwards(speed: float) -> None:
    with pytest.raises(ValueError, match="speed"):
        Sandbox(speed=speed)


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


async def test_the_application_can_run_in_process_with_its_own_clock(clock: SandboxClock) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    faults = Faults()
    account = make_account(now=NOON)
    app = sandbox_app(account, token="t", faults=faults, clock=clock, sleep=sleep)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://api", headers=bearer("t")) as http:
        faults.add(Fault(FaultKind.SLOW, seconds=40), Fault(FaultKind.DROP_AFTER))
        links = (await http.get("/v2/images?per_page=1")).json()["links"]["pages"]
        assert links["next"].startswith("http://api/v2/images?")
        with pytest.raises(ConnectionDropped):
            await http.get("/v2/images")
    assert slept == [40]


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_the_command_says_how_to_use_it_and_stops_quietly(ending: signal.Signals) -> None:
    process = subprocess.Popen(
        [*COMMAND, "--port", "0", "--speed", "60", "--token", "secret"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    exports = {}
    for line in process.stdout:
        if line.startswith("export "):
            name, _, value = line.removeprefix("export ").strip().partition("=")
            exports[name] = value.strip("'")
        if "POLL_INTERVAL_MAX" in line:
            break
    url = exports["DIGITALOCEAN_API_URL"]
    assert httpx.get(f"{url}/v2/account", headers=bearer("secret")).status_code == 200
    process.send_signal(ending)
    rest, errors = process.communicate(timeout=10)
    assert (process.returncode, rest, errors) == (0, "", "")


def test_the_command_gives_advice_if_the_port_is_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = subprocess.run([*COMMAND, "--port", port], capture_output=True, text=True, check=False, env=os.environ)
    assert result.returncode == 1
    assert result.stderr == (f"Port {port} is in use. Choose another with --port, or let --port 0 find a free one.\n")


def test_a_thousand_droplets_are_listed_and_paged_through(clock: SandboxClock) -> None:
    account = make_account(now=NOON, droplets=1000, backups_per_droplet=1)
    regions = [region.slug for region in account.regions.values() if region.takes_images]
    for image in account.images.values():
        if image.droplet_id is not None:
            for region in regions:
                account.start(image, "transfer", region, NOON)
    assert len(account.started) > 12_000
    account.advance(NOON + 86400)
    assert all(action.status == "completed" for action in account.started)
    newest = account.newest_actions(NOON)
    assert [action.id for action in newest[:200]] == [action.id for action in account.started[:-201:-1]]
