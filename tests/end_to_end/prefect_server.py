"""A Prefect server of the tests' own, and what it shows of their runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID, uuid4

from prefect import State
from prefect.client.base import PrefectHttpxSyncClient
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas import FlowRun, TaskRun
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterId,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.client.schemas.objects import Artifact, Log
from prefect.events import Event, emit_event
from prefect.events.filters import EventFilter, EventNameFilter, EventRelatedFilter
from prefect.logging.handlers import APILogHandler

from tests.end_to_end.databases import PrefectHome

SHOWS_WITHIN_SECONDS = 90
# How often events are stored, as tests/conftest.py sets it.
PROMPT_SECONDS = 0.5
LATE_LOOKS = 4
# A look at a Prefect server costs it up to 20 ms.
SHORTEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 0.5
# As a part of the time so far.
PART_BETWEEN_LOOKS = 0.05

T = TypeVar("T")


def until(look: Callable[[], T], within_seconds: float) -> T:
    """Look again and again until there is something to see, less often the longer it takes: looking costs, too."""
    began = time.monotonic()
    while not (seen := look()):
        so_far = time.monotonic() - began
        assert so_far < within_seconds, f"nothing to be seen within {within_seconds} s"
        time.sleep(min(max(PART_BETWEEN_LOOKS * so_far, SHORTEST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS))
    return seen


def client_for(api: str) -> PrefectHttpxSyncClient:
    """Connect to a Prefect server; requests are sent again while it is busy, which on SQLite it is at times."""
    return PrefectHttpxSyncClient(base_url=api, trust_env=False, raise_on_all_errors=False, timeout=60)


def undo_setup(api: str) -> None:
    """Delete deployments, and what setup has created, so that nothing of them acts on the runs of other tests."""
    with client_for(api) as http:
        for kind in ("deployments", "automations", "work_pools", "block_documents"):
            for found in http.post(f"/{kind}/filter", json={}).raise_for_status().json():
                http.delete(f"/{kind}/{found['name' if kind == 'work_pools' else 'id']}").raise_for_status()


@dataclass(frozen=True)
class PrefectView:
    """What a user sees of Prefect."""

    home: PrefectHome
    client: SyncPrefectClient

    def run_of(self, state: State) -> FlowRun:
        assert state.state_details.flow_run_id
        return self.client.read_flow_run(state.state_details.flow_run_id)

    def artifacts_of(self, run: FlowRun) -> dict[str | None, Artifact]:
        chosen = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]))
        return {each.key: each for each in self.client.read_artifacts(artifact_filter=chosen)}

    def logs_of(self, run: FlowRun) -> list[Log]:
        APILogHandler().flush()
        return self.client.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run.id])), limit=200)

    def log_text_of(self, run: FlowRun) -> str:
        return "\n".join(log.message for log in self.logs_of(run))

    def task_runs_of(self, run_id: UUID, at_least: int = 1) -> list[TaskRun]:
        """The task runs, which Prefect shows only some time after they have ended."""

        def ended() -> list[TaskRun]:
            runs = self.client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run_id])))
            done = [run for run in runs if run.state and run.state.is_final()]
            return done if len(done) >= at_least else []

        return until(ended, SHOWS_WITHIN_SECONDS)

    def events_of(self, run: FlowRun, *names: str) -> list[Event]:
        """The events of these names that a run has sent, the oldest first."""
        # What was sent before this one has arrived when this one has.
        last = f"test.{uuid4()}"
        emit_event(last, {"prefect.resource.id": "test"})
        until(lambda: self._events(EventFilter(event=EventNameFilter(name=[last]))), SHOWS_WITHIN_SECONDS)
        of_run = EventRelatedFilter(id=[f"prefect.flow-run.{run.id}"])
        wanted = EventFilter(event=EventNameFilter(name=list(names)), related=of_run)
        # Events that could not be stored, because the database was locked, are stored with the next ones.
        for _ in range(LATE_LOOKS):
            if found := self._events(wanted):
                return found[::-1]
            time.sleep(PROMPT_SECONDS)
        return []

    def _events(self, criteria: EventFilter) -> list[Event]:
        body = {"filter": criteria.model_dump(mode="json", exclude_unset=True), "limit": 50}
        answer = self.client.request("POST", "/events/filter", json=body)
        return [Event.model_validate(event) for event in answer.json()["events"]]


@contextmanager
def viewing(home: PrefectHome) -> Iterator[PrefectView]:
    with get_client(sync_client=True) as client:
        yield PrefectView(home, client)
