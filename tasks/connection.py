"""The process's connection to the API, which shares its rate limit through Prefect with the processes of other runs."""

from __future__ import annotations

from prefect.settings import PREFECT_API_URL

from tasks import digitalocean
from tasks.digitalocean import Connection, Settings
from tasks.distributed_rate_limit import DistributedRateLimit


def connect() -> Connection:
    """Find the process's connection for the settings now in the environment.

    Raises:
        ConfigurationError: A setting is missing or wrong.
    """
    return digitalocean.connect(distributed_limit=_distributed_limit)


def _distributed_limit(settings: Settings) -> DistributedRateLimit | None:
    return DistributedRateLimit(settings.rate_limits) if PREFECT_API_URL.value() else None
