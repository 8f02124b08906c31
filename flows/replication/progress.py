"""Telling how far a run has got, in the log and in an artifact, at most every few seconds."""

from __future__ import annotations

import asyncio
from uuid import UUID

import httpx
from prefect import get_run_logger
from prefect.artifacts import acreate_progress_artifact, aupdate_progress_artifact
from prefect.exceptions import PrefectException

from flows.replication.execution import Progress
from tasks.digitalocean import Connection

SECONDS_BETWEEN_REPORTS = 5
PROGRESS_KEY = "replication-progress"


class ProgressReporter:
    """Reports on one run.

    Args:
        progress: What to report.
        connection: The API, whose budget may be closed.
    """

    def __init__(self, progress: Progress, connection: Connection) -> None:
        self._progress = progress
        self._connection = connection
        self._artifact: UUID | None = None
        self._said = ""

    async def run(self) -> None:
        """Report until cancelled."""
        while True:
            await self.report()
            await asyncio.sleep(SECONDS_BETWEEN_REPORTS)

    async def report(self) -> None:
        """Report once, if there is anything new."""
        sentence = _describe(self._progress, self._connection.client.budget.closed_for)
        if sentence == self._said:
            return
        self._said = sentence
        get_run_logger().info(sentence)
        done = 100.0 * len(self._progress.rows) / max(self._progress.total, 1)
        try:
            if self._artifact is None:
                self._artifact = await acreate_progress_artifact(done, key=PROGRESS_KEY, description=sentence)
            else:
                await aupdate_progress_artifact(self._artifact, done, description=sentence)
        except (httpx.HTTPError, PrefectException) as error:
            # A run does not stop because nobody can watch it.
            get_run_logger().debug("The progress artifact could not be written: %s", error)


def _describe(progress: Progress, closed_for: float) -> str:
    parts = [f"{len(progress.rows)} of {progress.total} copies accounted for"]
    if progress.running:
        parts.append(f"{progress.running} transfers in flight")
    if progress.conversions_left:
        parts.append(f"{progress.conversions_left} backups to convert")
    if closed_for:
        parts.append(f"the rate limit is used up, next request in {closed_for:.0f} s")
    return ", ".join(parts)
