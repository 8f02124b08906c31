"""How and where runs come to be: the sandbox, the demo, set-up of a Prefect server."""

# Sets Prefect's settings before Prefect is imported.
import flows  # noqa: F401
