"""The process's connection to the API, with a rate limit that all runs share through Prefect."""

from __future__ import annotations

from prefect.settings import PREFECT_API_URL

from tasks.digitalocean import Connection, Settings, connection_for, load_settings
from tasks.distributed_rate_limit import DistributedRateLimit


def connect() -> Connection:
    """Get the process's connection for the current settings in the environment.

    Raises:
        ConfigurationError: A setting is missing or wrong.
    """
    return connection_for(load_settings(), _distributed_limit)


def _distributed_limit(settings: Settings) -> DistributedRateLimit | None:
    return DistributedRateLimit(settings.rate_limits) if PREFECT_API_URL.value() else None
