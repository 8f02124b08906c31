"""Setup of a Prefect server, the demo, and the sandbox."""

# Sets Prefect's settings before Prefect is imported.
import flows  # noqa: F401
