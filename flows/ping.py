"""Pings a dead man's switch when nightly runs start and end: it alarms when the pings stop.

An automation inside Prefect's server cannot report that the server itself is down, so the alarm must come from
elsewhere: https://healthchecks.io, or anything with the same API.

The URL is a secret: whoever has it can silence the alarm.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextvars import copy_context
from enum import StrEnum
from queue import Empty, SimpleQueue
from threading import Thread, current_thread
from urllib.parse import urlsplit

import httpx
from prefect.client.schemas import FlowRun
from prefect.logging.loggers import flow_run_logger
from prefect.runtime import deployment
from pydantic import SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from flows.names import account_of_run
from tasks.accounts import for_account
from tasks.digitalocean import ConfigurationError, Settings
from tasks.digitalocean.http_client import USER_AGENT
from tasks.digitalocean.settings import explain

NIGHTLY = "nightly"
# Instead of a URL: an empty variable would let one in `.env` count.
NO_PINGS = "none"
# For the whole ping, whatever the monitor does. A ping takes less than a second.
LONGEST_SECONDS = 5.0
THREAD_NAME = "ping"
LOGGERS = ("httpx", "httpcore")


class Signal(StrEnum):
    """What a ping says: the end of its URL's path. https://healthchecks.io/docs/http_api/."""

    START = "/start"
    SUCCESS = ""
    FAILURE = "/fail"


class PingSettings(BaseSettings):
    """Settings of the pings.

    They are apart from those of the API client, so that a wrong URL cannot keep a deployed run from copying backups.

    Attributes:
        ping_url: URL for pings; None, or the text `none`, for none.
    """

    model_config = SettingsConfigDict(**Settings.model_config)

    ping_url: SecretStr | None = None

    @field_validator("ping_url")
    @classmethod
    def _is_a_url(cls, url: SecretStr | None) -> SecretStr | None:
        if url is None:
            return None
        value = url.get_secret_value().strip()
        if value == NO_PINGS:
            return None
        try:
            parts = httpx.URL(value)
        except httpx.InvalidURL:
            # Its message quotes the URL.
            parts = httpx.URL()
        if parts.scheme not in {"http", "https"} or not parts.host or " " in value or parts.fragment:
            raise ValueError("expected a URL such as https://hc-ping.com/ and an ID")
        return SecretStr(value)


def load_ping_url() -> SecretStr | None:
    """Read the URL for pings from the environment and `.env`.

    Returns:
        The URL; None if it is not set.

    Raises:
        ConfigurationError: It is not valid; the message does not contain it.
    """
    try:
        return PingSettings().ping_url
    except ValidationError as error:
        raise ConfigurationError(explain(error)) from None


def ping(signal: Signal, flow_run: FlowRun | None, body: str = "") -> None:
    """Send a ping if a URL is set and the run is one of a nightly deployment; log a warning if that fails.

    These are the deployments named `nightly`, and those of other accounts, such as `nightly-prod`.

    Takes at most LONGEST_SECONDS, and never raises. Runs that another run has started as subflows send nothing.

    Args:
        signal: What to say.
        flow_run: The run.
        body: A text for the monitor to show.
    """
    # A subflow would read the deployment's name of its parent.
    if flow_run is None or flow_run.deployment_id is None:
        return
    try:
        url = load_ping_url()
    except ConfigurationError as error:
        problem = str(error)
    else:
        if url is None:
            return
        nightly = for_account(NIGHTLY, account_of_run(flow_run.parameters, flow_run.name))
        problem = _within(LONGEST_SECONDS, lambda: _send_if_nightly(nightly, url, signal, body))
    if problem:
        name = f"{signal.name.lower()} ping"
        flow_run_logger(flow_run).warning("Could not send the %s, so the monitor may alarm: %s", name, problem)


def url_for(signal: Signal, url: str) -> str:
    """Add a signal to the path of the URL, before its query."""
    parts = urlsplit(url)
    return parts._replace(path=parts.path.rstrip("/") + signal).geturl() if signal else url


def _within(seconds: float, work: Callable[[], str]) -> str:
    """Do work that returns a problem; returns another problem if it takes too long.

    A thread of its own, because nothing can interrupt the resolution of a host name, and a daemon, because the process
    must not wait for it when it exits.
    """
    results: SimpleQueue[str] = SimpleQueue()
    in_context = copy_context()
    Thread(target=lambda: results.put(in_context.run(work)), name=THREAD_NAME, daemon=True).start()
    try:
        return results.get(timeout=seconds)
    except Empty:
        return f"no response within {seconds:g} s"


def _send_if_nightly(nightly: str, url: SecretStr, signal: Signal, body: str) -> str:
    """Send a ping if the current run is one of a deployment with this name; returns what went wrong."""
    try:
        return _send(url_for(signal, url.get_secret_value()), body) if deployment.name == nightly else ""
    except Exception as error:  # noqa: BLE001  # whatever it is, it must not fail the run
        # Not the message, which may contain the URL.
        return type(_root_cause(error)).__name__


def _send(url: str, body: str) -> str:
    # A redirect would lead the body elsewhere.
    with httpx.Client(timeout=LONGEST_SECONDS, headers={"User-Agent": USER_AGENT}, follow_redirects=False) as client:
        _silence_loggers()
        # The body of the response may be endless, so it is not read.
        with client.stream("POST", url, content=body.encode()) as response:
            return "" if response.is_success else f"the response has status {response.status_code}"


def _root_cause(error: BaseException) -> BaseException:
    while cause := error.__cause__ or error.__context__:
        error = cause
    return error


def _silence_loggers() -> None:
    """Let the HTTP client log nothing of pings: its messages contain the URL, or the host and response headers."""
    for name in list(logging.root.manager.loggerDict):
        if name.partition(".")[0] in LOGGERS:
            # Adds it only once.
            logging.getLogger(name).addFilter(_is_not_of_a_ping)


def _is_not_of_a_ping(_record: logging.LogRecord) -> bool:
    return current_thread().name != THREAD_NAME
