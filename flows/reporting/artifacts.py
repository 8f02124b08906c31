"""Publishes reports as Prefect artifacts."""

from __future__ import annotations

from prefect import get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE


@task(task_run_name="publish {key}", cache_policy=NO_CACHE, retries=3, retry_delay_seconds=2)
def publish_table(key: str, rows: list[dict[str, str]], description: str) -> None:
    """Publish a table as an artifact.

    Args:
        key: Key of the artifact.
        rows: Cells by column title, already escaped.
        description: Markdown shown above the table.
    """
    create_table_artifact(rows, key=key, description=description)


def publish_or_log(key: str, rows: list[dict[str, str]], description: str) -> None:
    """Publish a table as an artifact; if that fails, log a warning."""
    try:
        publish_table(key, rows, description)
    except Exception as error:  # noqa: BLE001  # a missing artifact must not fail the run
        get_run_logger().warning("Could not publish the artifact %s: %s", key, error)
