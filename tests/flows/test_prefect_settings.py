"""What this project sets of Prefect, and the times that follow: added up from Prefect's own settings and code."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest
from prefect.flow_engine import MINIMUM_HEARTBEAT_INTERVAL
from prefect.settings import Settings
from prefect.utilities.math import clamped_poisson_interval

from flows.image_locks import LONGEST_ATTEMPT_SECONDS, MUTEX_SECONDS
from flows.liveness import LONGEST_RENEWAL_SECONDS
from flows.prefect_settings import DEAD_AFTER, HEARTBEAT, LONGEST_OUTAGE, PROCESS_SETTINGS, RUN_SETTINGS

ROOT = Path(__file__).parents[2]
# A server on half a core, with migrations.
LONGEST_SERVER_START = timedelta(seconds=60)


def settings_of(environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch | None = None) -> Settings:
    """Read Prefect's settings as a process with these variables does."""
    patch = monkeypatch or pytest.MonkeyPatch()
    with patch.context() as context:
        for name in [name for name in os.environ if name.startswith("PREFECT_")]:
            context.delenv(name)
        for name, value in environment.items():
            context.setenv(name, value)
        return Settings()


def pauses_of_client(settings: Settings) -> list[float]:
    """The longest pauses before Prefect's client repeats a request: `_send_with_retry` in `prefect/client/base.py`."""
    factor = 1 + settings.client.retry_jitter_factor
    return [2**attempt * factor for attempt in range(1, settings.client.max_retries + 1)]


def longest_silence_of_a_living_run(environment: Mapping[str, str]) -> timedelta:
    """From the last heartbeat that a server has heard until it hears of the run again.

    Either the server was away and the run sends heartbeats when it is back, or the run has ended meanwhile, and the
    client offers its last state until the server is back.
    """
    settings = settings_of(environment)
    assert settings.flows.heartbeat_frequency
    heartbeat = timedelta(seconds=settings.flows.heartbeat_frequency)
    until_heartbeat = LONGEST_OUTAGE + LONGEST_SERVER_START + heartbeat
    until_end = timedelta(seconds=sum(pauses_of_client(settings)))
    return heartbeat + max(until_heartbeat, until_end)


def test_a_live_run_is_never_silent_long_enough_to_count_as_dead() -> None:
    assert longest_silence_of_a_living_run(RUN_SETTINGS) < DEAD_AFTER


def test_prefects_default_settings_are_not_sufficient() -> None:
    """Why the settings are there: by default, the client has given up long before an outage is over."""
    by_default = settings_of({})
    assert timedelta(seconds=sum(pauses_of_client(by_default))) < LONGEST_OUTAGE
    assert by_default.flows.heartbeat_frequency != HEARTBEAT.total_seconds()


def test_a_client_keeps_trying_for_longer_than_the_longest_outage_and_the_start_of_the_server() -> None:
    settings = settings_of(RUN_SETTINGS)
    # At the least, the jitter shortens a pause by this.
    shortest = min(clamped_poisson_interval(1.0, settings.client.retry_jitter_factor) for _ in range(1000))
    pauses = [2**attempt * shortest for attempt in range(1, settings.client.max_retries + 1)]
    assert timedelta(seconds=sum(pauses)) > LONGEST_OUTAGE + LONGEST_SERVER_START


def test_the_heartbeat_is_the_shortest_that_prefect_sends() -> None:
    assert timedelta(seconds=MINIMUM_HEARTBEAT_INTERVAL) == HEARTBEAT
    assert settings_of(RUN_SETTINGS).flows.heartbeat_frequency == MINIMUM_HEARTBEAT_INTERVAL


def test_prefect_knows_every_setting() -> None:
    before = settings_of({}).to_environment_variables(exclude_unset=True)
    wanted = {name: value for name, value in (RUN_SETTINGS | PROCESS_SETTINGS).items() if name.startswith("PREFECT_")}
    known = settings_of(wanted).to_environment_variables(exclude_unset=True)
    assert set(known) - set(before) >= set(wanted)


def test_a_lock_is_acquired_long_before_the_mutex_expires() -> None:
    assert 2 * LONGEST_ATTEMPT_SECONDS < MUTEX_SECONDS
    assert HEARTBEAT.total_seconds() > LONGEST_RENEWAL_SECONDS


@pytest.mark.slow
@pytest.mark.parametrize("module", ["flows.replicate_backups", "deployments.setup"])
@pytest.mark.thorough(after=1)
def test_the_settings_are_in_place_before_prefect_reads_them_and_do_not_override_the_users(module: str) -> None:
    code = f"import {module}, prefect.settings as s; c = s.get_current_settings().client; print(c.max_retries)"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}

    def retries(environment: Mapping[str, str]) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**clean, **environment},
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    assert retries({}) == RUN_SETTINGS["PREFECT_CLIENT_MAX_RETRIES"]
    assert retries({"PREFECT_CLIENT_MAX_RETRIES": "3"}) == "3"
