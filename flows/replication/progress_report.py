"""Reports the progress of a run in the log and in an artifact, less often the longer it takes."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from prefect import get_run_logger
from prefect.artifacts import acreate_progress_artifact, aupdate_progress_artifact
from prefect.context import AsyncClientContext

from flows.replication.progress import Progress
from flows.replication.progress_bar import PROGRESS_LINE, Show, progress_bar
from flows.reporting.events import announce_copy
from flows.reporting.report import count
from tasks.digitalocean import Connection
from tasks.prefect_client import without_retries

SECONDS_BETWEEN_REPORTS = 5
LONGEST_REPORT_SECONDS = 10.0
# As a part of the time so far.
PART_BETWEEN_REPORTS = 0.03
SECONDS_A_MINUTE_AND_A_HALF = 90
SECONDS_TWO_HOURS = 7200
PROGRESS_KEY = "replication-progress"


@asynccontextmanager
async def reported(progress: Progress, connection: Connection) -> AsyncIterator[None]:
    """Report progress during the block, and once more at its end."""
    # One Prefect client for all task runs; otherwise each would open its own.
    async with AsyncClientContext.get_or_create():
        with progress_bar() as show:
            reporter = ProgressReporter(progress, connection, show)
            reporting = asyncio.create_task(reporter.run())
            try:
                yield
            finally:
                reporting.cancel()
                await asyncio.gather(reporting, return_exceptions=True)
                await reporter.report()


class ProgressReporter:
    """Reports the progress of one run.

    Args:
        progress: What to report.
        connection: The API, whose rate limiter may be paused.
        show: Shows a percentage and a sentence in the terminal.
    """

    def __init__(self, progress: Progress, connection: Connection, show: Show) -> None:
        self._progress = progress
        self._connection = connection
        self._show = show
        self._artifact: UUID | None = None
        self._last_sentence = ""
        self._announced = 0

    async def run(self) -> None:
        """Report until cancelled."""
        clock = asyncio.get_running_loop()
        began = clock.time()
        while True:
            await self.report()
            await asyncio.sleep(max(SECONDS_BETWEEN_REPORTS, PART_BETWEEN_REPORTS * (clock.time() - began)))

    async def report(self) -> None:
        """Report once, if there is anything new."""
        self._announce_copies()
        sentence = _describe(self._progress, self._connection.client.rate_limiter.paused_for, self._seconds_left())
        if sentence == self._last_sentence:
            return
        self._last_sentence = sentence
        get_run_logger().info(sentence, extra=PROGRESS_LINE)
        done = self._progress.percent
        self._show(done, sentence)
        try:
            # A run must not wait for Prefect's server: the next report replaces this one anyway.
            async with without_retries(LONGEST_REPORT_SECONDS):
                if self._artifact is None:
                    self._artifact = await acreate_progress_artifact(done, key=PROGRESS_KEY, description=sentence)
                else:
                    await aupdate_progress_artifact(self._artifact, done, description=sentence)
        except Exception as error:  # noqa: BLE001  # a missing artifact must not fail the run
            get_run_logger().debug("Could not write the progress artifact: %s", error)

    def _announce_copies(self) -> None:
        rows = list(self._progress.rows.values())
        for row in rows[self._announced :]:
            announce_copy(row)
        self._announced = len(rows)

    def _seconds_left(self) -> float | None:
        progress, client = self._progress, self._connection.client
        if not progress.unstarted:
            return self._connection.poller.seconds_left()
        starting_takes = client.rate_limiter.seconds_for(progress.unstarted + progress.conversions_left)
        return self._connection.poller.seconds_left(progress.smallest_gigabytes, starting_takes)


def _describe(progress: Progress, paused_for: float, seconds_left: float | None) -> str:
    # Rounded down, so that 100% means that everything is done.
    noun = ("conversion", "conversions") if progress.counts_conversions else ("copy", "copies")
    parts = [f"{math.floor(progress.percent)}% done: {progress.done} of {count(progress.total, *noun)}"]
    if progress.running:
        parts.append(f"{count(progress.running, 'transfer')} in flight")
    if snapshots_left := progress.snapshots_left():
        parts.append(f"{count(snapshots_left, 'snapshot')} to take")
    if progress.conversions_left:
        parts.append(f"{count(progress.conversions_left, 'backup')} to convert")
    if paused_for:
        parts.append(f"requests are paused, the next one is due in {paused_for:.0f} s")
    if seconds_left:
        parts.append(f"about {_roughly(seconds_left)} left")
    return ", ".join(parts)


def _roughly(seconds: float) -> str:
    """Such as `40 s`, `25 min` or `2.5 h`."""
    if seconds < SECONDS_A_MINUTE_AND_A_HALF:
        return f"{math.ceil(seconds / 10) * 10} s"
    return f"{seconds / 60:.0f} min" if seconds < SECONDS_TWO_HOURS else f"{seconds / 3600:.1f} h"
