"""What is wrong with the environment of a command, found before Prefect is imported, which would end in a traceback."""

from __future__ import annotations

import io
import os
import ssl
import sys
from contextlib import redirect_stderr

import httpx
from pydantic import ValidationError

from flows.prefect_settings import PROXY_VARIABLES
from tasks.digitalocean.env_file import env_file_problem


def environment_problem() -> str:
    """Say why no command can start in this environment.

    Returns:
        A sentence that names the variable or the line of `.env`, and never a value that may be a secret; empty if
        nothing is wrong.
    """
    return env_file_problem() or network_problem() or prefect_problem()


def network_problem() -> str:
    """Say which of the variables that name servers, proxies and certificates keeps HTTP clients from being made."""
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
    """Read a proxy as httpx does: https://www.python-httpx.org/environment_variables/."""
    if not value:
        return ""
    try:
        proxy = httpx.Proxy(value if "://" in value else f"http://{value}")
        httpx.HTTPTransport(proxy=proxy, verify=False).close()
    except ImportError:
        return "names a SOCKS proxy, and only HTTP proxies are supported: name one or unset it"
    except (ValueError, httpx.InvalidURL):
        return "is not the address of a proxy, such as http://proxy.example:3128"
    return ""


def certificates_problem(file: str | None) -> str:
    """Say why certificates cannot be read from a file; empty if they can, or if there is none to read."""
    if not file:
        return ""
    try:
        ssl.create_default_context(cafile=file)
    except OSError as error:
        return f"names {file}, from which no certificates can be read ({error.strerror}): correct or unset it"
    return ""


def prefect_problem() -> str:
    """Say why Prefect cannot read its settings; empty if it can."""
    said = io.StringIO()
    try:
        # Prefect prints what is wrong and goes on, until something needs the settings.
        with redirect_stderr(said):
            from prefect.settings import get_current_settings  # noqa: PLC0415  # a second, and what is above comes first

            get_current_settings()
    except ValidationError as error:
        details = error.errors(include_input=False, include_url=False, include_context=False)
        wrong = [".".join(map(str, (error.title, *each["loc"]))) + f": {each['msg']}" for each in details]
        return f"A setting of Prefect (PREFECT_... in the environment, .env or a profile) is wrong: {'; '.join(wrong)}"
    except ValueError as error:
        # Of pydantic-settings, or because a file cannot be parsed.
        return f"Prefect cannot read its settings: {error}"
    sys.stderr.write(said.getvalue())
    return ""
