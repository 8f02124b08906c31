"""How and where runs come to be: the sandbox, the demo, set-up of a Prefect server."""

from flows.prefect_settings import set_defaults

set_defaults()
