"""How and where runs come to be: the sandbox, the demo, set-up of a Prefect server."""
