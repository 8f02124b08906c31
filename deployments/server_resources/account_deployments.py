"""The nightly deployment of another account: a copy of `replicate-backups/nightly` with its credentials."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, DeploymentUpdate
from prefect.client.schemas.responses import DeploymentResponse

from deployments.server_resources.deployment_limits import NIGHTLY_REPLICATION
from deployments.server_resources.secret_blocks import PING_BLOCK, read_secret
from deployments.server_resources.server_resource import MISSING, SetupError, if_exists
from deployments.server_resources.work_pool import PING_URL, TOKEN, secret_reference
from flows.ping import NO_PINGS
from tasks.accounts import for_account
from tasks.digitalocean.settings import NO_TOKEN

# What a copy takes over again when the original was deployed anew.
COPIED = (
    "path",
    "entrypoint",
    "pull_steps",
    "parameter_openapi_schema",
    "enforce_parameter_schema",
    "version",
    "work_pool_name",
    "work_queue_name",
)


@dataclass(frozen=True)
class NightlyDeploymentResource:
    """The nightly deployment of an account. An existing one keeps its schedules and parameters.

    Attributes:
        account: The account.
    """

    account: str

    @property
    def full_name(self) -> str:
        """Such as `replicate-backups/nightly-prod`."""
        return for_account(NIGHTLY_REPLICATION, self.account)

    @property
    def name(self) -> str:
        """Its name in messages."""
        return f"deployment {self.full_name}"

    async def diff(self, client: PrefectClient) -> str:
        """Say what differs on the server; empty if nothing does."""
        found = await if_exists(client.read_deployment_by_name(self.full_name))
        if found is None:
            return MISSING
        original = await self._original(client)
        if any(getattr(found, each) != getattr(original, each) for each in COPIED):
            return f"differs from {NIGHTLY_REPLICATION}, which was deployed since"
        if found.parameters.get("credentials") != self.account:
            return "has other credentials"
        return "" if found.job_variables == await self._job_variables(client, found) else "has other variables"

    async def apply(self, client: PrefectClient) -> None:
        """Create or update the deployment."""
        original = await self._original(client)
        copied = {each: getattr(original, each) for each in COPIED}
        found = await if_exists(client.read_deployment_by_name(self.full_name))
        variables = await self._job_variables(client, found or original)
        if found:
            changed = DeploymentUpdate(
                **copied, parameters={**found.parameters, "credentials": self.account}, job_variables=variables
            )
            await client.update_deployment(found.id, changed)
            return
        await client.create_deployment(
            **copied,
            flow_id=original.flow_id,
            name=self.full_name.partition("/")[2],
            description=f"**The account {self.account}.**\n\n{original.description or ''}",
            tags=original.tags,
            parameters={**original.parameters, "credentials": self.account},
            job_variables=variables,
            paused=original.paused,
            schedules=[
                DeploymentScheduleCreate(
                    schedule=each.schedule, slug=each.slug, active=each.active, parameters=each.parameters
                )
                for each in original.schedules
            ],
        )

    async def _original(self, client: PrefectClient) -> DeploymentResponse:
        """Read the deployment to copy.

        Raises:
            SetupError: It does not exist.
        """
        original = await if_exists(client.read_deployment_by_name(NIGHTLY_REPLICATION))
        if original is None:
            raise SetupError(
                f"{self.name} is a copy of {NIGHTLY_REPLICATION}, which does not exist yet: run `make deploy` first"
            )
        return original

    async def _job_variables(self, client: PrefectClient, kept: DeploymentResponse) -> dict[str, Any]:
        """Keep the default account's token and ping URL, which the work pool gives to every run, from this one's.

        Args:
            client: Prefect's server.
            kept: The deployment whose other variables it has.
        """
        ping_block = for_account(PING_BLOCK, self.account)
        pinging = await read_secret(client, ping_block) is not None
        variables: Mapping[str, Any] = kept.job_variables or {}
        own = {TOKEN: NO_TOKEN, PING_URL: secret_reference(ping_block) if pinging else NO_PINGS}
        return {**variables, "env": {**(variables.get("env") or {}), **own}}
