"""Checks within seconds whether a command can start: its settings, certificates, and Prefect's server.

Prefect's client would try for minutes to reach a server, and fail with a traceback.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import httpx
import prefect
from prefect.client.base import ServerType
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, get_current_settings, temporary_settings
from pydantic import SecretStr

from flows import temporary_server
from flows.command_start import loaded
from flows.environment import certificates_problem
from flows.ping import load_ping_url
from tasks.connection import connect
from tasks.credentials import DigitalOceanCredentials
from tasks.digitalocean import ConfigurationError, load_settings

# Not on the PATH of those who install this project with `uv tool`.
PREFECT = shlex.quote(str(Path(sys.executable).with_name("prefect")))
START_A_SERVER = f"start one with `{PREFECT} --no-prompt server start`"
EXAMPLE = "http://127.0.0.1:4200/api"
# Prefect's client tries four times to connect, on top of these retries.
TIMEOUT = httpx.Timeout(5, connect=2)
MAX_RETRIES = 1
VERSION = re.compile(r"\d+\.\d+")


class NotReady(Exception):
    """A command cannot start; the message says why and what to do."""


def make_ready_to_run(credentials: Sequence[DigitalOceanCredentials | str] = ()) -> None:
    """Make sure that a run can start, and start a temporary server if PREFECT_API_URL is not set.

    Args:
        credentials: The accounts that it works on; none for the token in the environment.

    Raises:
        NotReady: A setting or credentials are missing or wrong, or the server does not answer.
    """
    loaded()
    try:
        # With credentials, the token in the environment does not matter.
        load_settings(**({"token": SecretStr("unused")} if credentials else {}))
        load_ping_url()
    except ConfigurationError as error:
        raise NotReady(str(error)) from error
    _check_certificates()
    settings = get_current_settings()
    if settings.api.url is not None:
        check_server(settings.api.url)
    elif settings.server.ephemeral.enabled:
        _start_temporary_server(settings.server.ephemeral.startup_timeout_seconds)
    else:
        raise NotReady(
            "PREFECT_API_URL is not set, and PREFECT_SERVER_EPHEMERAL_ENABLED disables the temporary server: set either"
        )
    problems = [problem for each in credentials if (problem := _credentials_problem(each))]
    if problems and len(problems) == len(credentials):
        raise NotReady("; ".join(problems))


def _credentials_problem(credentials: DigitalOceanCredentials | str) -> str:
    """Say why an account cannot be used; empty if it can."""
    try:
        connect(credentials)
    except ConfigurationError as error:
        return str(error)
    return ""


def require_server() -> None:
    """Make sure that PREFECT_API_URL is the address of a Prefect server.

    Raises:
        NotReady: It is not set, or is not such an address.
    """
    loaded()
    _check_certificates()
    url = get_current_settings().api.url
    if not url:
        raise NotReady(
            f"PREFECT_API_URL is not set: set it to the address of your Prefect server, such as {EXAMPLE}; "
            f"if you have none, {START_A_SERVER}"
        )
    check_server(url)


def _check_certificates() -> None:
    """Raise NotReady if the certificates for Prefect's client cannot be read."""
    if problem := certificates_problem(get_current_settings().api.ssl_cert_file):
        raise NotReady(f"PREFECT_API_SSL_CERT_FILE {problem}")


def check_server(url: str) -> None:
    """Make sure that a Prefect server answers at PREFECT_API_URL, whose value is `url`.

    Raises:
        NotReady: It does not; the message says what answers instead.
    """
    address = _checked_address(url)
    try:
        version = _version_of_server()
    except httpx.TransportError as error:
        raise NotReady(
            f"Prefect's server at {address} does not answer ({str(error) or type(error).__name__}): "
            "start it, or correct PREFECT_API_URL"
        ) from error
    except PrefectHTTPStatusError as error:
        raise NotReady(_refusal(address, error.response.status_code)) from error
    except (ValueError, httpx.HTTPError) as error:
        raise NotReady(_not_the_api(address)) from error
    if not VERSION.match(version):
        raise NotReady(_not_the_api(address))
    if version.partition(".")[0] != prefect.__version__.partition(".")[0]:
        raise NotReady(
            f"The Prefect server at PREFECT_API_URL={address} has version {version}, but this project needs "
            f"{prefect.__version__.partition('.')[0]}.x: {START_A_SERVER}"
        )


def _checked_address(url: str) -> str:
    """Return the address without its password; raise NotReady if it is not an address."""
    if not url:
        raise NotReady(f"PREFECT_API_URL is set but empty: unset it, or set it to an address such as {EXAMPLE}")
    wrong = NotReady(f"PREFECT_API_URL is not the address of a Prefect server: expected one such as {EXAMPLE}")
    try:
        parts = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise wrong from error
    if parts.scheme not in {"http", "https"} or not parts.host:
        raise wrong
    return str(parts.copy_with(userinfo=b""))


def _version_of_server() -> str:
    few_retries = temporary_settings({PREFECT_CLIENT_MAX_RETRIES: MAX_RETRIES})
    with few_retries, get_client({"timeout": TIMEOUT}, sync_client=True) as client:
        # Prefect's client does not ask Prefect Cloud for its version.
        return client.client_version() if client.server_type == ServerType.CLOUD else str(client.api_version())


def _refusal(address: str, status: int) -> str:
    """Explain an error status."""
    if status in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
        advice = "set PREFECT_API_AUTH_STRING to what your Prefect server expects, or correct the address"
        return f"The server at PREFECT_API_URL={address} refuses access ({status}): {advice}"
    if status >= httpx.codes.INTERNAL_SERVER_ERROR:
        return f"The server at PREFECT_API_URL={address} answers with status {status}: see its log, or try again later"
    return _not_the_api(address)


def _not_the_api(address: str) -> str:
    missing = "" if address.rstrip("/").endswith("/api") else "; the address of a Prefect server ends in /api"
    return f"What answers at PREFECT_API_URL={address} is not Prefect's API: correct the address{missing}"


def _start_temporary_server(within_seconds: float) -> None:
    try:
        temporary_server.start(within_seconds=within_seconds)
    except temporary_server.ServerDidNotStart as error:
        files = get_current_settings().home
        raise NotReady(
            f"{error} (Prefect's files are in {files}); to see more, {START_A_SERVER}, "
            f"and set PREFECT_API_URL to {EXAMPLE}"
        ) from error
