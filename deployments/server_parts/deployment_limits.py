"""What version 0.2 left on a server: a concurrency limit of the nightly deployment.

Prefect's engine ends a run that cannot renew its lease on such a limit, and the leases are in the memory of Prefect's
server: a restart of the server, or an outage of minutes, killed the nightly run with transfers in flight, and could
keep every later one from starting. Locks on images do what the limit was for.
"""

from __future__ import annotations

from dataclasses import dataclass

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound

NIGHTLY = "replicate-backups/nightly"
IN_FLIGHT = FlowRunFilter(
    state=FlowRunFilterState(
        type=FlowRunFilterStateType(any_=[StateType.PENDING, StateType.RUNNING, StateType.CANCELLING, StateType.PAUSED])
    )
)


@dataclass(frozen=True)
class NoDeploymentLimitPart:
    """The nightly deployment without a concurrency limit."""

    name: str = f"deployment {NIGHTLY}"

    async def lacking(self, client: PrefectClient) -> str:
        """Say what has to change; empty if nothing, also before the first `prefect deploy`."""
        deployment = await _read(client)
        if deployment is None or deployment.global_concurrency_limit is None:
            return ""
        return "has a concurrency limit, which ends runs when Prefect's server restarts"

    async def make(self, client: PrefectClient) -> None:
        """Take the limit off, and delete it unless a run still holds a slot of it."""
        deployment = await _read(client)
        if deployment is None:
            return
        of_deployment = DeploymentFilter(id=DeploymentFilterId(any_=[deployment.id]))
        in_flight = await client.read_flow_runs(deployment_filter=of_deployment, flow_run_filter=IN_FLIGHT, limit=1)
        # Prefect's server cannot record the end of a run whose limit was deleted: it fails to give the slot back.
        change = {"global_concurrency_limit_id": None} if in_flight else {"concurrency_limit": None}
        await client.request("PATCH", "/deployments/{id}", path_params={"id": deployment.id}, json=change)


async def _read(client: PrefectClient) -> DeploymentResponse | None:
    try:
        return await client.read_deployment_by_name(NIGHTLY)
    except ObjectNotFound:
        return None
