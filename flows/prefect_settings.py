"""Prefect's settings for this project, and the timeouts that follow from them.

Does not import Prefect, which reads its settings from the environment when it is imported.
"""

from __future__ import annotations

import os
from datetime import timedelta

LOOPBACK = ("127.0.0.1", "localhost")
PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
# The shortest that Prefect allows for `PREFECT_FLOWS_HEARTBEAT_FREQUENCY`; its default is 180 seconds.
HEARTBEAT = timedelta(seconds=30)
# How long Prefect's server may be unavailable without harm to a run.
LONGEST_OUTAGE = timedelta(minutes=5)
# A run without a heartbeat for this long is dead. The worst case of a live one is shorter: the server goes away just
# after a heartbeat, the run ends just after that, and Prefect's client sends the final state at growing intervals until
# the server is back. tests/flows/test_prefect_settings.py adds it up.
DEAD_AFTER = timedelta(minutes=12)

# How long Prefect's temporary server may take to start: on half a core, the migrations of a new database alone take
# tens of seconds. The default of `PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS` is 20 seconds.
LONGEST_TEMPORARY_START = timedelta(minutes=5)

# For flow runs. A worker's runs get them from their work pool.
RUN_SETTINGS = {
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": f"{HEARTBEAT.total_seconds():.0f}",
    # 2 + 4 + ... + 256 seconds, 8.5 minutes in total: longer than LONGEST_OUTAGE. The default of 5 is one minute.
    "PREFECT_CLIENT_MAX_RETRIES": "8",
    # Prefect's server on SQLite answers 500 while its database is locked. Without retries, that would end a run with
    # transfers in flight.
    "PREFECT_CLIENT_RETRY_EXTRA_CODES": "500",
    # Or it answers after 60 s. A client that has timed out by then tries again, is told that the run has ended already,
    # and loses its report.
    "PREFECT_API_REQUEST_TIMEOUT": "90",
}
# For all processes of this project, including the temporary server. They send nothing to anyone but DigitalOcean's API,
# Prefect's server, and the ping URL if it is set.
PROCESS_SETTINGS = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": f"{LONGEST_TEMPORARY_START.total_seconds():.0f}",
    # By default, the server stores the events of task runs one by one, which is half of its work during a run, and on
    # SQLite refuses other requests meanwhile. Whole seconds: it would round 0.5 down, and then never rest.
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
}


def set_defaults() -> None:
    """Set the environment variables that the user has not set, before Prefect is imported."""
    for name, value in {**RUN_SETTINGS, **PROCESS_SETTINGS}.items():
        os.environ.setdefault(name, value)
    _reach_loopback_directly()


def _reach_loopback_directly() -> None:
    """Bypass proxies for this machine's own addresses, because a proxy cannot reach a temporary server here."""
    if any(os.environ.get(name) for name in PROXY_VARIABLES):
        # If both are set, the lowercase one wins.
        name = "no_proxy" if "no_proxy" in os.environ else "NO_PROXY"
        others = [each for each in os.environ.get(name, "").split(",") if each.strip() not in {"", *LOOPBACK}]
        os.environ[name] = ",".join([*others, *LOOPBACK])
