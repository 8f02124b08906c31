"""What a run does: each flow reads like the runbook it replaces."""

import os

# Prefect's client gives up at the first 500, which its server answers while its database is locked, and that would
# end a run with transfers in flight. To be set before Prefect reads its settings; a worker's runs get it from their
# deployment.
os.environ.setdefault("PREFECT_CLIENT_RETRY_EXTRA_CODES", "500")
