"""Publishing reports as artifacts of Prefect."""

from __future__ import annotations

from prefect import get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE


@task(task_run_name="publish {key}", cache_policy=NO_CACHE, retries=3, retry_delay_seconds=2)
def publish_table(key: str, rows: list[dict[str, str]], description: str) -> None:
    """Publish a table where the UI shows it.

    Args:
        key: Key of the artifact; the UI lists its versions under it.
        rows: Cells by column title, already escaped.
        description: Markdown shown above the table.
    """
    create_table_artifact(rows, key=key, description=description)


def publish_or_log(key: str, rows: list[dict[str, str]], description: str) -> None:
    """Publish a table; if Prefect's server cannot take it, say so in the log and go on.

    Args:
        key: Key of the artifact.
        rows: Cells by column title, already escaped.
        description: Markdown shown above the table.
    """
    try:
        publish_table(key, rows, description)
    except Exception as error:  # noqa: BLE001  # the work is done, whether or not Prefect's server can show it
        get_run_logger().warning("The table %s could not be published: %s", key, error)
