"""What a run does: each flow reads like the runbook it replaces."""

import os

# For Prefect's client, whose server on SQLite now and then has its database locked. To be set before Prefect reads its
# settings; a worker's runs get them from their work pool.
PREFECT_SETTINGS = {
    # The server then answers 500, and a client that gives up at that would end a run with transfers in flight.
    "PREFECT_CLIENT_RETRY_EXTRA_CODES": "500",
    # Or it answers after 60 s. A client that has given up by then, and asks again, hears that the run has ended
    # already, and has lost its report.
    "PREFECT_API_REQUEST_TIMEOUT": "90",
}
for name, value in PREFECT_SETTINGS.items():
    os.environ.setdefault(name, value)
