"""What this project sets of Prefect, and the times that follow from it: the one place for figures about Prefect.

Imports nothing of Prefect, which reads its settings from the environment when it is imported.
"""

from __future__ import annotations

import os
from datetime import timedelta

LOOPBACK = ("127.0.0.1", "localhost")
PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
# The shortest that Prefect allows: `PREFECT_FLOWS_HEARTBEAT_FREQUENCY`, 180 seconds unless it is set.
HEARTBEAT = timedelta(seconds=30)
# How long Prefect's server may be away without any harm to a run.
LONGEST_OUTAGE = timedelta(minutes=5)
# A run that shows no sign of life for this long is dead. A living one cannot be silent for as long: at worst the server
# goes away just after a heartbeat and the run ends just after that, and Prefect's client offers the server the run's
# last state at growing intervals, by the last of which the server is back. tests/flows/test_prefect_settings.py adds it
# up.
DEAD_AFTER = timedelta(minutes=12)

# How long Prefect's temporary server may take to start: on half a core, the migrations of a new database alone take
# tens of seconds. `PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS`, 20 seconds unless it is set.
LONGEST_TEMPORARY_START = timedelta(minutes=5)

# For the processes of flow runs. A worker's runs get them from their work pool.
RUN_SETTINGS = {
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": f"{HEARTBEAT.total_seconds():.0f}",
    # 2 + 4 + ... + 256 seconds, 8.5 minutes in all: longer than the longest outage. The default of 5 is one minute.
    "PREFECT_CLIENT_MAX_RETRIES": "8",
    # Prefect's server on SQLite answers 500 while its database is locked, and a client that gives up at that would end
    # a run with transfers in flight.
    "PREFECT_CLIENT_RETRY_EXTRA_CODES": "500",
    # Or it answers after 60 s. A client that has given up by then, and asks again, hears that the run has ended
    # already, and has lost its report.
    "PREFECT_API_REQUEST_TIMEOUT": "90",
}
# For every process of this project, the temporary server of a run from a shell included: nothing is sent to anyone but
# the APIs of DigitalOcean and of Prefect's server.
PROCESS_SETTINGS = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": f"{LONGEST_TEMPORARY_START.total_seconds():.0f}",
}


def set_defaults() -> None:
    """Put the settings into the environment, except those that the user has set, before Prefect is imported."""
    for name, value in {**RUN_SETTINGS, **PROCESS_SETTINGS}.items():
        os.environ.setdefault(name, value)
    _reach_loopback_directly()


def _reach_loopback_directly() -> None:
    """Keep proxies away from this machine's own addresses: no proxy can reach a temporary server here."""
    if any(os.environ.get(name) for name in PROXY_VARIABLES):
        # Of the two, the one in small letters counts.
        name = "no_proxy" if "no_proxy" in os.environ else "NO_PROXY"
        others = [each for each in os.environ.get(name, "").split(",") if each.strip() not in {"", *LOOPBACK}]
        os.environ[name] = ",".join([*others, *LOOPBACK])
