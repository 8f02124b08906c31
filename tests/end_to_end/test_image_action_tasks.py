"""The three tasks around the image-action endpoints, called in every way Prefect has."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from prefect import State, flow, unmapped
from prefect.client.schemas import TaskRun

from deployments.sandbox import Fault, FaultKind, Sandbox
from tasks.digitalocean import (
    Action,
    ConvertImage,
    Forbidden,
    InvalidArgument,
    NotFound,
    TransferImage,
    Unauthorized,
    UnprocessableEntity,
)
from tasks.image_actions import get_image_action, list_image_actions, post_image_action, wait_for_image_action
from tests.end_to_end.accounts import REGIONS, goals, images_of, newest_backups, pairs, public_image, resize, started
from tests.end_to_end.prefect_server import PrefectView

Requests = list[TransferImage]
REQUESTS = [TransferImage(region=region) for region in REGIONS]


@flow
def sync_calls(image_id: int) -> list[Action]:
    posted = post_image_action(image_id, {"type": "transfer", "region": "fra1"})
    return [posted, get_image_action(image_id, posted.id), *list_image_actions(image_id)]


@flow
async def async_calls(image_id: int) -> list[Action]:
    posted = await post_image_action(image_id, TransferImage(region="sgp1"))
    seen, listed = await asyncio.gather(get_image_action(image_id, posted.id), list_image_actions(image_id))
    return [posted, seen, *listed]


@flow
def submitted(image_id: int) -> list[Action]:
    posted = post_image_action.submit(image_id, TransferImage(region="sfo3"))
    seen = get_image_action.submit(image_id, posted.result().id)
    return [posted.result(), seen.result(), *list_image_actions.submit(image_id).result()]


@flow
async def submitted_from_async(image_id: int) -> list[Action]:
    posted = post_image_action.submit(image_id, TransferImage(region="nyc1"))
    posted.wait()
    listed = list_image_actions.submit(image_id)
    return [posted.result(), *listed.result()]


@flow
def mapped(image_id: int, requests: Requests) -> list[Action]:
    posted = post_image_action.map(unmapped(image_id), requests).result()
    seen: list[Action] = get_image_action.map(unmapped(image_id), [action.id for action in posted]).result()
    (listed,) = list_image_actions.map([image_id]).result()
    assert {action.id for action in listed} >= {action.id for action in seen}
    return seen


@flow
def convert_and_wait(image_id: int) -> Action:
    action = post_image_action(image_id, ConvertImage())
    done: Action = wait_for_image_action(image_id, action.id)
    return done


@flow
def attempts(calls: list[tuple[str, tuple[Any, ...]]]) -> list[State[Any]]:
    """Calls tasks side by side; how each ended."""
    tasks: dict[str, Any] = {"get": get_image_action, "list": list_image_actions, "post": post_image_action}
    futures = [tasks[name].submit(*arguments) for name, arguments in calls]
    for future in futures:
        future.wait()
    return [future.state for future in futures]


def states_of(state: State[Any]) -> list[State[Any]]:
    data: Any = state.data
    states: list[State[Any]] = data.result if hasattr(data, "result") else data
    return states


def test_the_tasks_can_be_called_from_sync_and_async_flows_submitted_and_mapped(sandbox: Sandbox) -> None:
    resize(sandbox, 60)
    image = images_of(sandbox, "snapshot")[0]
    for count, actions in enumerate(
        [
            sync_calls(image.id),
            asyncio.run(async_calls(image.id)),
            submitted(image.id),
            asyncio.run(submitted_from_async(image.id)),
        ],
        start=1,
    ):
        posted, *others = actions
        assert isinstance(posted, Action)
        assert posted.id in {action.id for action in others}
        assert len(sandbox.record.actions) >= count
    assert [action.region for action in sandbox.record.actions] == ["fra1", "sgp1", "sfo3", "nyc1"]


def test_mapping_over_regions_starts_each_copy_once_with_a_descriptive_name(
    sandbox: Sandbox, prefect_view: PrefectView
) -> None:
    image = images_of(sandbox, "snapshot")[0]
    state = mapped(image.id, REQUESTS, return_state=True)
    assert goals(started(sandbox)) == pairs([image], REGIONS)
    runs = prefect_view.task_runs_of(prefect_view.run_of(state).id, at_least=2 * len(REGIONS) + 1)
    assert {run.name for run in runs} == {
        f"list actions of {image.id}",
        *(f"start transfer of {image.id} to {region}" for region in REGIONS),
        *(f"get action {action.id} of {image.id}" for action in sandbox.record.actions),
    }
    assert not any(run.tags for run in runs)


def test_a_conversion_can_be_awaited(sandbox: Sandbox, prefect_view: PrefectView) -> None:
    (backup, _) = newest_backups(sandbox)
    state = convert_and_wait(backup.id, return_state=True)
    assert state.result().completed
    assert backup.type == "snapshot"
    names = {run.name for run in prefect_view.task_runs_of(prefect_view.run_of(state).id, at_least=2)}
    assert f"start conversion of {backup.id}" in names


@pytest.fixture
def run_counts(prefect_view: PrefectView) -> Callable[[State[Any], int], dict[str, int]]:
    def counted(state: State[Any], calls: int) -> dict[str, int]:
        runs: list[TaskRun] = prefect_view.task_runs_of(prefect_view.run_of(state).id, at_least=calls)
        return {run.name: run.run_count for run in runs}

    return counted


def test_prefect_retries_transient_errors_visibly_if_that_is_safe(
    sandbox: Sandbox, run_counts: Callable[[State[Any], int], dict[str, int]]
) -> None:
    resize(sandbox, 60)
    image = images_of(sandbox, "snapshot")[0]
    with httpx.Client(base_url=sandbox.url, headers={"authorization": f"Bearer {sandbox.token}"}) as http:
        path = f"/v2/images/{image.id}/actions"
        known = [
            http.post(path, json={"type": "transfer", "region": region}).json()["action"]["id"]
            for region in ("nyc1", "tor1", "blr1")
        ]
    for action_id, kind in zip(
        known, [FaultKind.ERROR_BEFORE, FaultKind.BURST_LIMIT_WITHOUT_RETRY_AFTER, FaultKind.DROP_BEFORE], strict=True
    ):
        sandbox.faults.add(Fault(kind, "GET", f"/actions/{action_id}$"))
    state = attempts([("get", (image.id, each)) for each in known], return_state=True)
    assert all(each.is_completed() for each in states_of(state))
    assert run_counts(state, 3) == {f"get action {each} of {image.id}": 2 for each in known}


@pytest.mark.parametrize(
    ("kind", "runs"),
    [
        (FaultKind.BURST_LIMIT, 2),
        (FaultKind.LIMIT_HTML, 2),
        (FaultKind.ERROR_BEFORE, 2),
        (FaultKind.DROP_BEFORE, 2),
        (FaultKind.ERROR_AFTER, 1),
        (FaultKind.BAD_GATEWAY_AFTER, 1),
        (FaultKind.DROP_AFTER, 1),
        (FaultKind.HTML_OK, 1),
        (FaultKind.MISSING_FIELD, 1),
    ],
)
@pytest.mark.thorough(after=3)
def test_a_post_with_an_unclear_response_is_checked_adopted_and_never_duplicated(
    start: Callable[..., Sandbox],
    run_counts: Callable[[State[Any], int], dict[str, int]],
    kind: FaultKind,
    runs: int,
) -> None:
    sandbox = start(behavior=None)
    resize(sandbox, 60)
    image = images_of(sandbox, "snapshot")[0]
    sandbox.faults.add(Fault(kind, "POST"))
    state = attempts([("post", (image.id, REQUESTS[0]))], return_state=True)
    (posted,) = states_of(state)
    assert posted.is_completed()
    assert [posted.result().id] == [action.id for action in sandbox.record.actions]
    assert run_counts(state, 1) == {f"start transfer of {image.id} to {REQUESTS[0].region}": runs}


def test_a_permanent_refusal_is_not_retried(
    sandbox: Sandbox,
    run_counts: Callable[[State[Any], int], dict[str, int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backup, public = newest_backups(sandbox)[0], public_image(sandbox)
    calls: list[tuple[str, tuple[Any, ...]]] = [
        ("get", (backup.id, 4711)),
        ("list", (4711,)),
        ("post", (backup.id, REQUESTS[0])),
        ("post", (public.id, REQUESTS[0])),
        ("get", (0, 1)),
        ("post", (backup.id, {"type": "destroy"})),
    ]
    state = attempts(calls, return_state=True)
    errors = [type(each.result(raise_on_failure=False)) for each in states_of(state)]
    assert errors == [NotFound, NotFound, UnprocessableEntity, Forbidden, InvalidArgument, InvalidArgument]
    assert set(run_counts(state, len(calls)).values()) == {1}
    # After the 404 of its list, the image is asked for.
    assert len(sandbox.record.requests) == 5

    monkeypatch.setenv("DIGITALOCEAN_TOKEN", "dop_v1_wrong")
    state = attempts([("get", (backup.id, 4711))], return_state=True)
    (refused,) = states_of(state)
    assert isinstance(refused.result(raise_on_failure=False), Unauthorized)
    assert "DIGITALOCEAN_TOKEN" in str(refused.result(raise_on_failure=False))
    assert set(run_counts(state, 1).values()) == {1}
    assert sandbox.record.actions == []
