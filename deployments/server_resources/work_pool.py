"""The work pool, whose job variables give every run its secrets and Prefect's settings, and its queue for events."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from prefect.client.collections import get_collections_metadata_client
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate

from deployments.server_resources.secret_blocks import PING_BLOCK, read_block, read_secret
from deployments.server_resources.server_resource import MISSING, SetupError, if_exists
from flows.prefect_settings import RUN_SETTINGS
from tasks.accounts import DEFAULT_ACCOUNT
from tasks.credentials import BLOCK_TYPE

POOL = "digitalocean"
EVENT_QUEUE = "events"
# Keeps a burst of events from starting one process each.
EVENT_RUNS = 2
QUEUE_DESCRIPTION = "Runs that events start. Scheduled and manual runs use another queue, so that they always start."
TOKEN, PING_URL = "DIGITALOCEAN_TOKEN", "DIGITALOCEAN_PING_URL"


def secret_reference(block: str) -> str:
    """Refer to a Secret block, whose value the worker fills in when it starts a run."""
    return f"{{{{ prefect.blocks.secret.{block} }}}}"


BLOCKS = {TOKEN: f"{BLOCK_TYPE}/{DEFAULT_ACCOUNT}", PING_URL: f"secret/{PING_BLOCK}"}
REFERENCES = {
    TOKEN: f"{{{{ prefect.blocks.{BLOCK_TYPE}.{DEFAULT_ACCOUNT}.token }}}}",
    PING_URL: secret_reference(PING_BLOCK),
}


@dataclass(frozen=True)
class WorkPoolResource:
    """The work pool.

    It refers only to blocks that exist: a worker cannot start a run if one is missing.

    Attributes:
        type: Type of a new pool: process, docker or kubernetes. An existing pool keeps its type.
    """

    type: str = "process"
    name: str = f"work pool {POOL}"

    async def diff(self, client: PrefectClient) -> str:
        """Say what differs on the server; empty if nothing does."""
        pool = await if_exists(client.read_work_pool(POOL))
        if pool is None:
            return MISSING
        environment, wanted = _environment(pool.base_job_template), await _wanted(client)
        if missing := _references_to_missing(environment, wanted):
            return f"refers to the missing block {' and '.join(BLOCKS[name] for name in missing)}, so no run can start"
        wrong = [name for name, value in wanted.items() if environment.get(name) != value]
        return f"does not set {' and '.join(wrong)}" if wrong else ""

    async def apply(self, client: PrefectClient) -> None:
        """Create the pool, or correct the variables of an existing one."""
        pool, wanted = await if_exists(client.read_work_pool(POOL)), await _wanted(client)
        if pool:
            template = _with_environment(pool.base_job_template, wanted)
            await client.update_work_pool(POOL, WorkPoolUpdate(base_job_template=template))
        else:
            template = _with_environment(await _default_template(self.type), wanted)
            await client.create_work_pool(WorkPoolCreate(name=POOL, type=self.type, base_job_template=template))


@dataclass(frozen=True)
class WorkQueueResource:
    """The work queue of runs started by events.

    Attributes:
        event_runs: How many runs of the queue may be Pending or Running at once; None to keep an existing limit.
    """

    event_runs: int | None = None
    name: str = f"work queue {EVENT_QUEUE}"

    async def diff(self, client: PrefectClient) -> str:
        """Say what differs on the server; empty if nothing does."""
        queue = await if_exists(client.read_work_queue_by_name(EVENT_QUEUE, work_pool_name=POOL))
        if queue is None:
            return MISSING
        if queue.concurrency_limit is None:
            return "has no limit"
        wanted = self.event_runs or queue.concurrency_limit
        return "" if wanted == queue.concurrency_limit else f"has a limit of {queue.concurrency_limit}"

    async def apply(self, client: PrefectClient) -> None:
        """Create the queue, or set the limit of an existing one."""
        queue = await if_exists(client.read_work_queue_by_name(EVENT_QUEUE, work_pool_name=POOL))
        limit = self.event_runs or EVENT_RUNS
        if queue:
            await client.update_work_queue(queue.id, concurrency_limit=limit)
        else:
            await client.create_work_queue(EVENT_QUEUE, QUEUE_DESCRIPTION, concurrency_limit=limit, work_pool_name=POOL)


async def _wanted(client: PrefectClient) -> dict[str, str]:
    """Choose the variables of the pool."""
    existing = {
        TOKEN: await read_block(client, BLOCK_TYPE, DEFAULT_ACCOUNT) is not None,
        PING_URL: await read_secret(client, PING_BLOCK) is not None,
    }
    return RUN_SETTINGS | {name: reference for name, reference in REFERENCES.items() if existing[name]}


def _references_to_missing(environment: Mapping[str, str], wanted: Mapping[str, str]) -> list[str]:
    """List the variables that refer to blocks that do not exist."""
    return [name for name, reference in REFERENCES.items() if name not in wanted and environment.get(name) == reference]


async def _default_template(kind: str) -> dict[str, Any]:
    # Prefect Cloud has it at another address.
    async with get_collections_metadata_client() as client:
        collections = await client.read_worker_metadata()
    kinds = {name: worker for workers in collections.values() for name, worker in workers.items()}
    if kind not in kinds:
        raise SetupError(f"{kind!r} is not a valid work pool type; choose one of {', '.join(sorted(kinds))}")
    return dict(kinds[kind]["default_base_job_configuration"])


def _environment(template: dict[str, Any]) -> dict[str, Any]:
    return dict(template.get("variables", {}).get("properties", {}).get("env", {}).get("default") or {})


def _with_environment(template: dict[str, Any], wanted: Mapping[str, str]) -> dict[str, Any]:
    changed = deepcopy(template)
    variable = changed.setdefault("variables", {}).setdefault("properties", {}).setdefault("env", {"type": "object"})
    environment = _environment(template)
    for name in _references_to_missing(environment, wanted):
        del environment[name]
    variable["default"] = {**environment, **wanted}
    return changed
