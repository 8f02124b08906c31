"""The work queue of runs started by events; its limit keeps a burst of events from starting one process each."""

from __future__ import annotations

from dataclasses import dataclass

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import WorkQueue

from deployments.server_resources.server_resource import MISSING, if_exists
from deployments.server_resources.work_pool import POOL

EVENT_QUEUE = "events"
EVENT_RUNS = 2
DESCRIPTION = "Runs that events start. Scheduled and manual runs use another queue, so that they always start."


@dataclass(frozen=True)
class WorkQueueResource:
    """The work queue.

    Attributes:
        event_runs: How many runs of the queue may be Pending or Running at once; None to keep an existing limit.
    """

    event_runs: int | None = None
    name: str = f"work queue {EVENT_QUEUE}"

    async def diff(self, client: PrefectClient) -> str:
        """Say what differs on the server; empty if nothing does."""
        queue = await _read(client)
        if queue is None:
            return MISSING
        if queue.concurrency_limit is None or self.event_runs not in {None, queue.concurrency_limit}:
            return f"has {_limit(queue)}"
        return ""

    async def apply(self, client: PrefectClient) -> None:
        """Create the queue, or set the limit of an existing one."""
        queue = await _read(client)
        limit = self.event_runs or EVENT_RUNS
        if queue:
            await client.update_work_queue(queue.id, concurrency_limit=limit)
        else:
            await client.create_work_queue(EVENT_QUEUE, DESCRIPTION, concurrency_limit=limit, work_pool_name=POOL)


def _limit(queue: WorkQueue) -> str:
    return "no limit" if queue.concurrency_limit is None else f"a limit of {queue.concurrency_limit}"


async def _read(client: PrefectClient) -> WorkQueue | None:
    return await if_exists(client.read_work_queue_by_name(EVENT_QUEUE, work_pool_name=POOL))
