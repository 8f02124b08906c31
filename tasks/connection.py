"""The process's connection to the API, which shares its rate limit through Prefect with the processes of other runs."""

from __future__ import annotations

from prefect.settings import PREFECT_API_URL

from tasks import digitalocean
from tasks.digitalocean import Connection, Settings
from tasks.shared_limit import SharedThroughPrefect


def connect() -> Connection:
    """Find the process's connection for the settings now in the environment.

    Raises:
        ConfigurationError: A setting is missing or wrong.
    """
    return digitalocean.connect(shared_limit=_shared_limit)


def _shared_limit(settings: Settings) -> SharedThroughPrefect | None:
    return SharedThroughPrefect(settings.rate_limits) if PREFECT_API_URL.value() else None
