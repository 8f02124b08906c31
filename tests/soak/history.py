"""The flow runs of a Prefect server, read over its REST API."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx

FINAL = frozenset({"COMPLETED", "FAILED", "CRASHED", "CANCELLED"})
BEFORE_RUNNING = frozenset({"SCHEDULED", "PENDING"})
# What Prefect's server says to an answer that it takes.
ACCEPTED = "ACCEPT"
RUN_PREFIX = "prefect.flow-run."
MOST_EVENTS = 50
MOST_LOG_LINES = 200
BUSY = frozenset({429, 500, 502, 503})
MOST_ATTEMPTS = 30
# A server whose database is locked answers after a minute.
PATIENCE_SECONDS = 90
SECONDS_BETWEEN_ATTEMPTS = 2.0


@dataclass(frozen=True)
class SeenState:
    """A state that a flow run was in.

    Attributes:
        name: Such as Late.
        type: Such as SCHEDULED.
        at: Since when.
        message: What it says.
    """

    name: str
    type: str
    at: datetime
    message: str

    @property
    def is_final(self) -> bool:
        return self.type in FINAL


@dataclass(frozen=True)
class Alarm:
    """An automation that was triggered.

    Attributes:
        automation: Its name.
        run_id: The flow run that it was triggered for; empty if none.
        at: When.
        failure: Why what it then did failed; empty if it did not.
    """

    automation: str
    run_id: str
    at: datetime
    failure: str = ""


class PrefectApi:
    """A Prefect server.

    Args:
        url: Where its API is.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = httpx.Client(base_url=url, trust_env=False, timeout=PATIENCE_SECONDS)

    def close(self) -> None:
        self._http.close()

    def begin(self, deployment: str, *, at: datetime | None = None, **parameters: Any) -> str:
        """Create a flow run of a deployment.

        Args:
            deployment: Its name, as `flow/deployment`.
            at: When it is to start; now by default.
            parameters: What differs from the deployment's own parameters.

        Returns:
            The run's ID.
        """
        details = {"scheduled_time": (at or datetime.now(UTC)).isoformat()}
        body = {
            "parameters": parameters,
            "state": {"type": "SCHEDULED", "state_details": details},
            # Created once, however often it is asked for.
            "idempotency_key": str(uuid4()),
        }
        created = self._post(f"/deployments/{self.deployment_id(deployment)}/create_flow_run", body)
        return str(created["id"])

    def deployment_id(self, deployment: str) -> str:
        return str(self._get(f"/deployments/name/{deployment}")["id"])

    def pause_schedules(self, deployment: str) -> None:
        self._ask("PATCH", f"/deployments/{self.deployment_id(deployment)}", json={"paused": True})

    def set_parameters(self, deployment: str, **parameters: Any) -> None:
        """Change a deployment's own parameters, as its page in the UI does."""
        own = self._get(f"/deployments/name/{deployment}")["parameters"]
        self._ask("PATCH", f"/deployments/{self.deployment_id(deployment)}", json={"parameters": {**own, **parameters}})

    def run(self, run_id: str) -> dict[str, Any]:
        return dict(self._get(f"/flow_runs/{run_id}"))

    def runs_of(self, deployment: str) -> list[str]:
        """List the runs of a deployment that are not of its schedule, the oldest first."""
        chosen = {"deployments": {"id": {"any_": [self.deployment_id(deployment)]}}, "sort": "EXPECTED_START_TIME_ASC"}
        return [str(run["id"]) for run in self._post("/flow_runs/filter", chosen) if not run["auto_scheduled"]]

    def states(self, run_id: str) -> list[SeenState]:
        """List the states that a run was in, the first one first."""
        return sorted(
            (
                SeenState(each["name"], each["type"], _moment(each["timestamp"]), each["message"] or "")
                for each in self._get("/flow_run_states/", flow_run_id=run_id)
            ),
            key=lambda state: state.at,
        )

    def state(self, run_id: str) -> SeenState:
        return self.states(run_id)[-1]

    def resume(self, run_id: str, **form: Any) -> str:
        """Answer a run that has paused to ask a person, as the form in the UI does; returns the server's verdict."""
        return str(self._post(f"/flow_runs/{run_id}/resume", {"run_input": form})["status"])

    def cancel(self, run_id: str) -> None:
        """Cancel a run as its page in the UI does."""
        self._post(f"/flow_runs/{run_id}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}})

    def question(self, run_id: str) -> str:
        """Read what the form of a paused run says."""
        key = self.run(run_id)["state"]["state_details"]["run_input_keyset"]["description"]
        return str(self._get(f"/flow_runs/{run_id}/input/{key}"))

    def pause_ends_at(self, run_id: str) -> datetime:
        """Tell when the server ends the pause of a run, which then fails."""
        return _moment(self.run(run_id)["state"]["state_details"]["pause_timeout"])

    def log(self, run_id: str) -> str:
        chosen = {"logs": {"flow_run_id": {"any_": [run_id]}}, "sort": "TIMESTAMP_ASC", "limit": MOST_LOG_LINES}
        return "\n".join(line["message"] for line in self._post("/logs/filter", chosen))

    def slots_taken(self, queue: str) -> list[str]:
        """List the runs that a work queue counts against its limit."""
        chosen = {
            "work_pool_queues": {"name": {"any_": [queue]}},
            "flow_runs": {"state": {"type": {"any_": ["PENDING", "RUNNING", "CANCELLING"]}}},
        }
        return [str(run["id"]) for run in self._post("/flow_runs/filter", chosen)]

    def send_backup_completed(self, **payload: Any) -> None:
        """Send the event as the README's line with curl does."""
        event = {
            "id": str(uuid4()),
            "occurred": datetime.now(UTC).isoformat(),
            "event": "backup.completed",
            "resource": {"prefect.resource.id": "digitalocean.account"},
            "payload": payload,
        }
        self._ask("POST", "/events", json=[event])

    def alarms(self) -> list[Alarm]:
        """List the automations that were triggered, and why what they then did failed."""
        failures = {
            related["prefect.resource.id"]: str(each["payload"].get("reason"))
            for each in self._events("prefect.automation.action.failed")
            for related in each["related"]
            if related["prefect.resource.role"] == "automation-triggered-event"
        }
        return [
            Alarm(
                automation=each["resource"]["prefect.resource.name"],
                run_id=_run_of(each["payload"]),
                at=_moment(each["occurred"]),
                failure=failures.get(f"prefect.event.{each['id']}", ""),
            )
            for each in self._events("prefect.automation.triggered")
        ]

    def count_events(self, name: str) -> int:
        return len(self._events(name))

    def heartbeat_gaps(self, run_id: str) -> list[timedelta]:
        """Tell how long a run was silent between two heartbeats."""
        sent = [_moment(each["occurred"]) for each in self._events(f"{RUN_PREFIX}heartbeat", f"{RUN_PREFIX}{run_id}")]
        return [later - earlier for earlier, later in zip(sorted(sent), sorted(sent)[1:], strict=False)]

    def _events(self, name: str, resource: str | None = None) -> list[dict[str, Any]]:
        chosen: dict[str, Any] = {"event": {"name": [name]}}
        if resource:
            chosen["resource"] = {"id": [resource]}
        page = self._post("/events/filter", {"filter": chosen, "limit": MOST_EVENTS})
        found = list(page["events"])
        while page["next_page"]:
            page = self._get(page["next_page"])
            found += page["events"]
        return found

    def _get(self, path: str, **query: str) -> Any:
        return self._ask("GET", path, params=query or None).json()

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        return self._ask("POST", path, json=body).json()

    def _ask(self, method: str, path: str, **what: Any) -> httpx.Response:
        """Send a request; again while the server's database is locked, as Prefect's own client does."""
        for _ in range(MOST_ATTEMPTS - 1):
            answer = self._http.request(method, path, **what)
            if answer.status_code not in BUSY:
                return answer.raise_for_status()
            time.sleep(SECONDS_BETWEEN_ATTEMPTS)
        return self._http.request(method, path, **what).raise_for_status()


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _run_of(payload: dict[str, Any]) -> str:
    resource = payload["triggering_labels"].get("prefect.resource.id")
    if not resource and payload["triggering_event"]:
        resource = payload["triggering_event"]["resource"]["prefect.resource.id"]
    return str(resource).removeprefix(RUN_PREFIX) if str(resource).startswith(RUN_PREFIX) else ""
