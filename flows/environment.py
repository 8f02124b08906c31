"""Checks a command's environment before it imports Prefect, which would fail with a traceback."""

from __future__ import annotations

import io
import os
import ssl
import sys
from contextlib import redirect_stderr

import httpx
from pydantic import ValidationError

from flows.prefect_settings import PROXY_VARIABLES
from tasks.digitalocean.settings import env_file_problem


def environment_problem() -> str:
    """Say which variable or line of `.env` is wrong; empty if none is. Never contains a value that may be a secret."""
    return env_file_problem() or network_problem() or prefect_problem()


def network_problem() -> str:
    """Say which variable for servers, proxies or certificates is wrong; empty if none is."""
    try:
        httpx.URL(os.environ.get("PREFECT_API_URL", ""))
    except httpx.InvalidURL as error:
        return f"PREFECT_API_URL is not the address of a Prefect server: {error}"
    for name in PROXY_VARIABLES:
        if problem := _proxy_problem(os.environ.get(name)):
            return f"{name} {problem}"
    if problem := certificates_problem(os.environ.get("SSL_CERT_FILE")):
        return f"SSL_CERT_FILE {problem}"
    return ""


def _proxy_problem(value: str | None) -> str:
    """Check a proxy as httpx does: https://www.python-httpx.org/environment_variables/."""
    if not value:
        return ""
    try:
        proxy = httpx.Proxy(value if "://" in value else f"http://{value}")
        httpx.HTTPTransport(proxy=proxy, verify=False).close()
    except ImportError:
        return "names a SOCKS proxy, but only HTTP proxies are supported: change or unset it"
    except (ValueError, httpx.InvalidURL):
        return "is not the address of a proxy: expected one such as http://proxy.example:3128"
    return ""


def certificates_problem(file: str | None) -> str:
    """Say why certificates cannot be read from a file; empty if they can, or if `file` is empty."""
    if not file:
        return ""
    try:
        ssl.create_default_context(cafile=file)
    except OSError as error:
        return f"names {file}, whose certificates cannot be read ({error.strerror}): correct or unset it"
    return ""


def prefect_problem() -> str:
    """Say why Prefect cannot read its settings; empty if it can."""
    stderr = io.StringIO()
    try:
        # Prefect prints the problem and goes on until something needs the settings.
        with redirect_stderr(stderr):
            from prefect.settings import get_current_settings  # noqa: PLC0415  # slow, so after the other checks

            get_current_settings()
    except ValidationError as error:
        details = error.errors(include_input=False, include_url=False, include_context=False)
        wrong = [".".join(map(str, (error.title, *each["loc"]))) + f": {each['msg']}" for each in details]
        return f"A Prefect setting (PREFECT_... in the environment, .env or a profile) is wrong: {'; '.join(wrong)}"
    except ValueError as error:
        # From pydantic-settings, or because a file cannot be parsed.
        return f"Prefect cannot read its settings: {error}"
    sys.stderr.write(stderr.getvalue())
    return ""
