"""What a run tells others as events, as Prefect's server gives them out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from prefect import State
from prefect.events import Event, emit_event
from prefect.events.filters import EventFilter, EventNameFilter, EventRelatedFilter

from deployments.sandbox import Fault, FaultKind, Sandbox
from flows.replicate_backups import replicate_backups
from flows.reporting.events import ACCOUNT, IMAGE_REPLICATED, REPLICATION_COMPLETED, REPLICATION_FAILED
from flows.transfer_images import transfer_images
from tests.end_to_end.accounts import (
    REGIONS,
    finish_all,
    images_of,
    meanwhile,
    newest_backups,
    outcomes,
    pairs,
    report_of,
    resize,
)
from tests.end_to_end.prefect_server import SHOWS_WITHIN_SECONDS, PrefectView, until

OURS = [IMAGE_REPLICATED, REPLICATION_COMPLETED, REPLICATION_FAILED]
# Prefect's server writes events down when it has so many, or after five seconds.
EVENTS_WRITTEN_AT_ONCE = 20

EventsOf = Callable[[State[Any]], list[Event]]


@pytest.fixture
def events_of(prefect_view: PrefectView) -> EventsOf:
    """Finds the events that runs have sent, the oldest first."""

    def read(criteria: EventFilter) -> list[Event]:
        body = {"filter": criteria.model_dump(mode="json", exclude_unset=True), "limit": 50}
        answer = prefect_view.client.request("POST", "/events/filter", json=body)
        return [Event.model_validate(event) for event in answer.json()["events"]]

    def events_of(state: State[Any]) -> list[Event]:
        # What was sent before this one has arrived when this one has.
        last = f"test.{uuid4()}"
        for _ in range(EVENTS_WRITTEN_AT_ONCE):
            emit_event(last, {"prefect.resource.id": "test"})
        until(lambda: read(EventFilter(event=EventNameFilter(name=[last]))), SHOWS_WITHIN_SECONDS)
        related = EventRelatedFilter(id=[f"prefect.flow-run.{prefect_view.run_of(state).id}"])
        return read(EventFilter(event=EventNameFilter(name=OURS), related=related))[::-1]

    return events_of


def names(events: list[Event]) -> list[str]:
    return [event.event for event in events]


def test_a_run_sends_an_event_per_copy_and_one_at_its_end_and_the_next_run_none_per_copy(
    sandbox: Sandbox, prefect_view: PrefectView, events_of: EventsOf
) -> None:
    resize(sandbox, 2)
    images = newest_backups(sandbox)
    dry = replicate_backups(regions=REGIONS, dry_run=True, return_state=True)
    first = replicate_backups(regions=REGIONS, return_state=True)
    second = transfer_images([image.id for image in images], REGIONS, return_state=True)

    *copies, end = events_of(first)
    assert {event.event for event in copies} == {IMAGE_REPLICATED}
    assert sorted((event.payload["image_id"], event.payload["region"]) for event in copies) == pairs(images, REGIONS)
    rows = {(row.image_id, row.region): row for row in report_of(first).rows}
    for event in copies:
        row = rows[event.payload["image_id"], event.payload["region"]]
        assert event.resource.id == f"digitalocean.image.{row.image_id}"
        assert event.resource.name == row.image_name
        assert [each.id for each in event.resources_in_role["region"]] == [f"digitalocean.region.{row.region}"]
        assert event.payload == row.model_dump(mode="json", exclude={"error", "needs_conversion"})
        assert event.payload["outcome"] == "transferred"

    assert (end.event, end.resource.id) == (REPLICATION_COMPLETED, ACCOUNT)
    assert end.payload == {
        "message": report_of(first).summary,
        "account": "default",
        "flow_run_name": prefect_view.run_of(first).name,
        "droplet_tag": None,
        "image_ids": sorted(image.id for image in images),
        "regions": sorted(REGIONS),
        "totals": {"transferred": len(images) * len(REGIONS)},
    }

    (only,) = events_of(second)
    assert only.event == REPLICATION_COMPLETED
    assert only.payload["totals"] == {"already_there": len(images) * len(REGIONS)}
    assert events_of(dry) == []


def test_the_event_of_a_copy_is_sent_by_the_run_that_sees_it_arrive(sandbox: Sandbox, events_of: EventsOf) -> None:
    image = images_of(sandbox, "snapshot")[0]
    sandbox.faults.add(Fault(FaultKind.ACTION_ENDLESS, "POST", f"/images/{image.id}/actions"))
    first = transfer_images([image.id], REGIONS[:1], wait=False, return_state=True)
    looks = f"/v2/images/{image.id}/actions"
    before = len(sandbox.record.requests)
    with meanwhile(
        lambda: any(looks in seen.path for seen in sandbox.record.requests[before:]), lambda: finish_all(sandbox)
    ):
        second = transfer_images([image.id], REGIONS[:1], timeout_minutes=1, return_state=True)
    assert outcomes(report_of(second)) == {(image.id, REGIONS[0]): "adopted"}
    assert names(events_of(first)) == [REPLICATION_COMPLETED]
    copy, end = events_of(second)
    assert (copy.event, copy.payload["outcome"]) == (IMAGE_REPLICATED, "adopted")
    assert (end.event, end.payload["totals"]) == (REPLICATION_COMPLETED, {"adopted": 1})


def test_a_failed_run_sends_events_for_the_copies_that_arrived_and_counts_the_others(
    sandbox: Sandbox, events_of: EventsOf
) -> None:
    resize(sandbox, 2)
    bad, good = newest_backups(sandbox)
    sandbox.faults.add(Fault(FaultKind.ACTION_ERRORED, path=f"/images/{bad.id}/", times=None))
    state = replicate_backups(regions=REGIONS, return_state=True)
    assert state.is_failed()
    *copies, end = events_of(state)
    assert sorted((event.payload["image_id"], event.payload["region"]) for event in copies) == pairs([good], REGIONS)
    assert (end.event, end.resource.id) == (REPLICATION_FAILED, ACCOUNT)
    assert end.payload["message"] == state.message
    assert end.payload["image_ids"] == sorted([bad.id, good.id])
    assert end.payload["regions"] == sorted(REGIONS)
    assert end.payload["totals"] == {"failed": 3, "transferred": 3}


def test_the_event_of_a_run_that_cannot_start_has_a_reason_and_no_totals(
    sandbox: Sandbox, prefect_view: PrefectView, events_of: EventsOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIGITALOCEAN_TOKEN", "dop_v1_wrong")
    state = replicate_backups("dr", return_state=True)
    (end,) = events_of(state)
    assert end.event == REPLICATION_FAILED
    assert end.payload == {
        "message": state.message,
        "account": "default",
        "flow_run_name": prefect_view.run_of(state).name,
        "droplet_tag": "dr",
    }
    assert "401 unauthorized" in end.payload["message"].lower()
    assert "dop_v1_wrong" not in end.model_dump_json()
