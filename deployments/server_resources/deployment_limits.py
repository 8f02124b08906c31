"""Removal of the concurrency limit that version 0.2 put on the nightly deployment.

Prefect's engine ends a run that cannot renew its lease on such a limit, and Prefect's server keeps leases in memory.
So a restart of the server, or an outage of minutes, killed the nightly run with transfers in flight, and could block
every later run. Image locks replace the limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType

from deployments.server_resources.server_resource import if_exists

NIGHTLY_REPLICATION = "replicate-backups/nightly"
IN_FLIGHT = FlowRunFilter(
    state=FlowRunFilterState(
        type=FlowRunFilterStateType(any_=[StateType.PENDING, StateType.RUNNING, StateType.CANCELLING, StateType.PAUSED])
    )
)


@dataclass(frozen=True)
class NoDeploymentLimitResource:
    """The nightly deployment without a concurrency limit."""

    name: str = f"deployment {NIGHTLY_REPLICATION}"

    async def diff(self, client: PrefectClient) -> str:
        """Say what differs on the server; empty if nothing does, also before the first `prefect deploy`."""
        deployment = await if_exists(client.read_deployment_by_name(NIGHTLY_REPLICATION))
        if deployment is None:
            return ""
        if deployment.global_concurrency_limit:
            return "has a concurrency limit, which ends runs when Prefect's server restarts"
        left_over = await if_exists(client.read_global_concurrency_limit_by_name(_limit_of(deployment.id)))
        if left_over and not await _has_runs_in_flight(client, deployment.id):
            return "has left a concurrency limit behind"
        return ""

    async def apply(self, client: PrefectClient) -> None:
        """Remove the limit, and delete it once no run can hold one of its slots."""
        deployment = await if_exists(client.read_deployment_by_name(NIGHTLY_REPLICATION))
        if deployment is None:
            return
        detached = {"global_concurrency_limit_id": None}
        await client.request("PATCH", "/deployments/{id}", path_params={"id": deployment.id}, json=detached)
        # Prefect's server cannot record the end of a run whose limit was deleted: it fails to release the slot.
        if not await _has_runs_in_flight(client, deployment.id):
            await client.delete_global_concurrency_limit_by_name(_limit_of(deployment.id))


def _limit_of(deployment_id: UUID) -> str:
    """Name a deployment's limit as Prefect's server does, in `models/deployments.py`."""
    return f"deployment:{deployment_id}"


async def _has_runs_in_flight(client: PrefectClient, deployment_id: UUID) -> bool:
    of_deployment = DeploymentFilter(id=DeploymentFilterId(any_=[deployment_id]))
    return bool(await client.read_flow_runs(deployment_filter=of_deployment, flow_run_filter=IN_FLIGHT, limit=1))
