"""Runs of planner and executor against the sandbox within the process, on virtual time and without Prefect."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

from starlette.routing import Router

from deployments.sandbox import Account, sandbox_app
from deployments.sandbox import Image as SandboxImage
from flows.inventory import unlisted_images
from flows.replication.execution import Execution
from flows.replication.planning import ReplicationPlan, images_to_change, plan_replication
from flows.replication.recovery_points import (
    Candidate,
    Selection,
    choose_recovery_points,
    newer_snapshots,
    target_regions,
)
from flows.reporting.report import Outcome, Row
from flows.snapshots.planning import FINISH_WITHIN, Holdings, plan_snapshots
from flows.snapshots.taking import Taking
from tasks.account_actions import KnownActions, list_actions_on, list_snapshot_actions_on
from tasks.api_task import is_repeated
from tasks.digitalocean import (
    APIError,
    Connection,
    ConvertImage,
    Image,
    NotFound,
)
from tasks.digitalocean.client import DigitalOceanClient
from tasks.digitalocean.poller import ActionPoller
from tasks.tags import tag_images
from tests.tasks.digitalocean.in_process import TOKEN, Wire, World, make_settings

LONGEST_SECONDS = 6 * 3600.0

T = TypeVar("T")


class InProcess(Connection):
    """A client's side of a world, in the test's own event loop.

    Args:
        client: The client.
        wire: What leads to the API.
        elsewhere: The same API, which does not know the client's token.
    """

    def __init__(self, client: DigitalOceanClient, wire: Wire, elsewhere: Router) -> None:
        self.settings = client.settings
        self.wire = wire
        self._elsewhere = elsewhere
        self.client = client
        self.poller = ActionPoller(client)

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        return await work

    def revoke_token(self) -> None:
        """Have the API accept the token no longer."""
        self.wire.lead_to(self._elsewhere)


def connection_to(world: World, **settings: Any) -> InProcess:
    """A new client that knows nothing of any before it."""
    apps = [
        sandbox_app(
            world.account,
            token=token,
            limits=world.limits,
            faults=world.faults,
            record=world.record,
            clock=world.clock.unix,
            sleep=asyncio.sleep,
        )
        for token in (TOKEN, "another")
    ]
    wire = Wire(apps[0], world.latency)
    return InProcess(DigitalOceanClient(make_settings(**settings), wire, world.clock), wire, apps[1])


async def repeating(call: Callable[[], Awaitable[T]], most: int, *, idempotent: bool = False) -> T:
    """Make a call as Prefect runs a task: again where its error says that it may be."""
    for attempt in range(most):
        try:
            return await call()
        except APIError as error:
            if not is_repeated(error, idempotent=idempotent):
                raise
            await asyncio.sleep(2**attempt)
    return await call()


async def image_or_none(connection: Connection, image_id: int) -> Image | None:
    try:
        return await repeating(
            lambda: connection.client.get_image(image_id), connection.settings.http_retry_max, idempotent=True
        )
    except NotFound:
        return None


async def select(connection: Connection, newest: int) -> Selection:
    """Choose recovery points, as the main job does."""
    client, tag = connection.client, connection.settings.managed_tag
    droplets = await client.list_droplets()
    images = await client.list_private_images()
    found = [await image_or_none(connection, image_id) for image_id in unlisted_images(droplets, images)]
    images += [image for image in found if image]
    selection = choose_recovery_points(droplets, images, managed_tag=tag, newest=newest)
    if unclear := newer_snapshots(droplets, images, selection, managed_tag=tag):
        actions = (await list_actions_on.directly(unclear, credentials=connection)).actions
        converted = {each.resource_id for each in actions if ConvertImage().matches(each) and not each.errored}
        selection = choose_recovery_points(droplets, images, managed_tag=tag, newest=newest, converted=converted)
    return selection


async def candidate(connection: Connection, image: SandboxImage) -> Candidate:
    """An image as the API shows it now."""
    return Candidate(await connection.client.get_image(image.id), image.name)


async def plan_for(
    connection: Connection, candidates: Collection[Candidate], regions: list[str] | None = None
) -> ReplicationPlan:
    """Compute what is missing, from fresh looks."""
    targets = target_regions(await connection.client.list_regions(), regions)
    missing = images_to_change(candidates, targets)
    known = await list_actions_on.directly(missing, credentials=connection) if missing else KnownActions()
    now = datetime.fromtimestamp(connection.client.clock.unix(), UTC)
    return plan_replication(candidates, targets, known.actions, now, unread=known.unread)


async def taking_for(
    connection: Connection,
    *,
    regions: Collection[str] = (),
    max_age_hours: int | None = None,
    finished_runs: Mapping[datetime, bool] | None = None,
    wait: bool = True,
) -> Taking:
    """Plan the snapshots of all Droplets, from fresh looks."""
    client = connection.client
    droplets = await client.list_droplets()
    since = client.server_clock.now() - FINISH_WITHIN
    known = await list_snapshot_actions_on.directly([each.id for each in droplets], since, credentials=connection)
    snapshots = await client.list_snapshots()
    plan = plan_snapshots(
        Holdings(droplets, snapshots, known.actions, known.unread, finished_runs=finished_runs or {}),
        client.server_clock.now(),
        managed_tag=connection.settings.managed_tag,
        max_age_hours=max_age_hours,
        regions=regions,
    )
    return Taking(plan, connection, len(snapshots), wait=wait)


def snapshots_there(taking: Taking) -> list[Candidate]:
    """The snapshots that need not be taken."""
    return [Candidate(step.there, step.source, step.droplet.id) for step in taking.plan.steps if step.there]


async def carry_out(
    connection: Connection,
    plan: ReplicationPlan,
    *,
    wait: bool = True,
    seconds: float = LONGEST_SECONDS,
    taking: Taking | None = None,
) -> dict[tuple[int, str], Row]:
    """Do what a plan says, marking beforehand what is about to be converted."""
    tag = connection.settings.managed_tag
    unmarked = [each.image.id for each in plan.images if each.converts and tag not in each.image.tags]
    untagged = await tag_images.directly(tag, unmarked, credentials=connection) if unmarked else frozenset()
    execution = Execution(plan, connection, wait=wait, untagged=untagged, taking=taking)
    await execution.run(seconds)
    rows = [row for row in execution.rows() if row.region]
    planned = [(each.image.id, region) for each in plan.images for region in plan.regions]
    assert [(row.image_id, row.region) for row in rows][: len(planned)] == planned
    assert taking or len(rows) == len(planned)
    return {(row.image_id or 0, row.region or ""): row for row in rows}


async def replicate(
    connection: Connection, image_ids: Iterable[int], regions: list[str] | None = None, **how: Any
) -> dict[tuple[int, str], Row]:
    """Plan and carry out copies of named images."""
    images = [await image_or_none(connection, image_id) for image_id in image_ids]
    candidates = [Candidate(image, image.name) for image in images if image]
    return await carry_out(connection, await plan_for(connection, candidates, regions), **how)


async def die(connection: Connection, run: asyncio.Task[Any]) -> None:
    """End a run and all that goes on for it, as the death of its process would."""
    run.cancel()
    others = asyncio.all_tasks() - {asyncio.current_task(), run}
    for task in others:
        task.cancel()
    await asyncio.gather(run, *others, return_exceptions=True)
    await connection.client.aclose()


def outcomes(rows: dict[tuple[int, str], Row]) -> dict[tuple[int, str], Outcome]:
    return {goal: row.outcome for goal, row in rows.items()}


def posts(world: World) -> list[str]:
    """The paths that an image action was posted to, refused or not."""
    return [
        seen.path for seen in world.record.requests if seen.method == "POST" and seen.path.startswith("/v2/images/")
    ]


def finish_endless(account: Account, now: float) -> None:
    """Let the actions that would never end be done now."""
    for action in account.started:
        if action.status == "in-progress" and not action.fate.ends:
            action.status, action.ends_at = "completed", now
            image = account.images.get(action.resource_id)
            if image and action.type == "transfer":
                image.regions.setdefault(action.region, now)
            elif image:
                image.type = "snapshot"
