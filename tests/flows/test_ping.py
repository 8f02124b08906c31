"""Pings of nightly runs: what is sent, and that nothing about them harms a run or shows their URL."""

from __future__ import annotations

import logging
import socket
import traceback
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from prefect.client.schemas import FlowRun
from prefect.settings import PREFECT_LOGGING_TO_API_ENABLED, temporary_settings

import flows.ping
from flows.ping import NIGHTLY, PingSettings, Signal, load_ping_url, ping, url_for
from flows.temporary_server import free_port
from tasks.digitalocean import ConfigurationError
from tests.flows.monitor import (
    SECRET,
    Monitor,
    Ping,
    Respond,
    answers,
    drips,
    hangs,
    monitor,
    sends_an_endless_body,
)

RUN = FlowRun(flow_id=uuid4(), deployment_id=uuid4())
SHORT_SECONDS = 0.3


@pytest.fixture(autouse=True)
def _a_nightly_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    # https://docs.prefect.io/v3/how-to-guides/workflows/access-runtime-info
    monkeypatch.setenv("PREFECT__RUNTIME__DEPLOYMENT__NAME", NIGHTLY)
    monkeypatch.setattr(flows.ping, "LONGEST_SECONDS", SHORT_SECONDS)
    with temporary_settings({PREFECT_LOGGING_TO_API_ENABLED: False}):
        yield


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[Monitor]:
    """A healthy monitor that is set as the one to ping."""
    # A busy machine may be slow.
    monkeypatch.setattr(flows.ping, "LONGEST_SECONDS", 30)
    with monitor() as running:
        monkeypatch.setenv("DIGITALOCEAN_PING_URL", running.url)
        yield running


@pytest.mark.parametrize(
    ("url", "signal", "wanted"),
    [
        ("https://hc-ping.com/id", Signal.START, "https://hc-ping.com/id/start"),
        ("https://hc-ping.com/id/", Signal.FAILURE, "https://hc-ping.com/id/fail"),
        ("https://hc-ping.com/key/slug?create=1", Signal.START, "https://hc-ping.com/key/slug/start?create=1"),
        ("https://me:pass@example.com:8443/a%2Fb?x=%2F", Signal.FAILURE, "https://me:pass@example.com:8443/a%2Fb/fail?x=%2F"),
        ("https://hc-ping.com/id?create=1", Signal.SUCCESS, "https://hc-ping.com/id?create=1"),
    ],
)  # fmt: skip
def test_a_signal_goes_into_the_path_and_the_query_survives(url: str, signal: Signal, wanted: str) -> None:
    assert url_for(signal, url) == wanted


def test_pings_are_posted_with_their_body(told: Monitor, caplog: pytest.LogCaptureFixture) -> None:
    ping(Signal.START, RUN)
    ping(Signal.SUCCESS, RUN, "2 images: 4 copied → done")
    ping(Signal.FAILURE, RUN, "1 failed")
    assert told.pings == [
        Ping("POST", "/start", ""),
        Ping("POST", "", "2 images: 4 copied → done"),
        Ping("POST", "/fail", "1 failed"),
    ]
    assert caplog.records == []


def test_runs_of_other_deployments_send_nothing(told: Monitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT__RUNTIME__DEPLOYMENT__NAME", "manual")
    ping(Signal.START, RUN)
    assert told.pings == []


@pytest.mark.parametrize("run", [None, FlowRun(flow_id=uuid4())], ids=["no run", "no deployment"])
def test_runs_that_are_not_deployed_and_subflows_send_nothing(told: Monitor, run: FlowRun | None) -> None:
    ping(Signal.START, run)
    assert told.pings == []


def test_without_a_url_nothing_is_sent_or_logged(caplog: pytest.LogCaptureFixture) -> None:
    ping(Signal.START, RUN)
    assert caplog.records == []


# What goes wrong


def warning_of_a_ping(caplog: pytest.LogCaptureFixture) -> str:
    caplog.set_level(logging.DEBUG)
    ping(Signal.SUCCESS, RUN)
    assert SECRET not in caplog.text
    (warning,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert warning.levelno == logging.WARNING
    return warning.getMessage()


@pytest.mark.parametrize("respond", [hangs, drips])
def test_a_monitor_that_does_not_respond_in_time_is_given_up(
    respond: Respond, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monitor(respond) as running:
        monkeypatch.setenv("DIGITALOCEAN_PING_URL", running.url)
        said = warning_of_a_ping(caplog)
        assert not running.ended.is_set()
    assert said.startswith("Could not send the success ping, so the monitor may alarm: ")


def test_a_name_that_does_not_resolve_in_time_is_given_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monitor() as running:
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_options: running.ended.wait())
        monkeypatch.setenv("DIGITALOCEAN_PING_URL", f"https://monitor.example/{SECRET}")
        said = warning_of_a_ping(caplog)
        assert not running.ended.is_set()
    assert said.endswith(": no response within 0.3 s")


def test_an_endless_body_is_not_read(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(flows.ping, "LONGEST_SECONDS", 30)
    with monitor(sends_an_endless_body) as running:
        monkeypatch.setenv("DIGITALOCEAN_PING_URL", running.url)
        ping(Signal.SUCCESS, RUN)
        assert running.signals() == [""]
    assert caplog.records == []


@pytest.mark.parametrize("status", [HTTPStatus.NOT_FOUND, HTTPStatus.INTERNAL_SERVER_ERROR])
def test_an_error_status_is_a_warning(
    status: HTTPStatus, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(flows.ping, "LONGEST_SECONDS", 30)
    with monitor(answers(status)) as running:
        monkeypatch.setenv("DIGITALOCEAN_PING_URL", running.url)
        assert warning_of_a_ping(caplog).endswith(f": the response has status {status}")


def test_redirects_are_not_followed(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(flows.ping, "LONGEST_SECONDS", 30)
    with monitor(answers(HTTPStatus.FOUND, f"Location: /{SECRET}?create=1")) as running:
        monkeypatch.setenv("DIGITALOCEAN_PING_URL", running.url)
        assert warning_of_a_ping(caplog).endswith(": the response has status 302")
        assert running.signals() == [""]


def test_a_connection_that_is_refused_is_a_warning_with_the_cause(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(flows.ping, "LONGEST_SECONDS", 30)
    monkeypatch.setenv("DIGITALOCEAN_PING_URL", f"http://127.0.0.1:{free_port()}/{SECRET}")
    assert warning_of_a_ping(caplog).endswith(": ConnectionRefusedError")


def test_a_url_that_is_not_valid_is_a_warning_of_the_run(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("DIGITALOCEAN_PING_URL", f"hc-ping.com/{SECRET}")
    assert "DIGITALOCEAN_PING_URL: expected a URL" in warning_of_a_ping(caplog)


# What is logged


def test_the_http_client_logs_nothing_of_pings_and_everything_else(
    told: Monitor, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    # httpcore decides when it is imported and when a request begins what it logs.
    for name in ("httpx", "httpcore.connection", "httpcore.http11"):
        caplog.set_level(logging.DEBUG, name)
    ping(Signal.START, RUN)
    assert told.signals() == ["/start"]
    assert [record for record in caplog.records if record.name.startswith(("httpx", "httpcore"))] == []
    httpx.post(told.url, trust_env=False)
    assert {"httpx", "httpcore.connection", "httpcore.http11"} <= {record.name for record in caplog.records}


# The setting


@pytest.mark.parametrize(
    "url",
    [
        SECRET,
        f"hc-ping.com/{SECRET}",
        f"ftp://hc-ping.com/{SECRET}",
        f"https:///{SECRET}",
        f"https://hc-ping.com:port/{SECRET}",
        f"https://hc-ping.com/{SECRET} or none",
        f"https://hc-ping.com/{SECRET}\x00",
        f"https://hc-ping.com/{SECRET}#top",
    ],
)
def test_a_url_that_is_not_valid_is_rejected_without_quoting_it(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(url)
    assert str(caught.value).startswith("DIGITALOCEAN_PING_URL: expected a URL such as ")
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def read(url: str) -> Any:
    Path(".env").write_text(f"DIGITALOCEAN_PING_URL='{url}'\n")
    return load_ping_url()


@pytest.mark.parametrize("url", [f"https://hc-ping.com/{SECRET}", f"http://user:pass@10.0.0.1:8000/{SECRET}?create=1"])
def test_a_url_is_read_from_the_env_file_and_not_shown(url: str) -> None:
    found = read(url)
    assert found.get_secret_value() == url
    assert SECRET not in f"{PingSettings()!r} {PingSettings()}"


def test_an_empty_url_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIGITALOCEAN_PING_URL", "")
    assert load_ping_url() is None
