"""The sandbox's control API: injects faults and shows the request log. It needs no token and has no rate limit."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from deployments.sandbox.account import Account, Action
from deployments.sandbox.bodies import action_body, droplet_body, firewall_body, image_body
from deployments.sandbox.faults import Fault, Faults
from deployments.sandbox.limits import Limits
from deployments.sandbox.request_log import RequestLog


@dataclass(frozen=True, slots=True)
class Control:
    """The endpoints under `/sandbox`."""

    account: Account
    limits: Limits
    faults: Faults
    record: RequestLog
    clock: Callable[[], float]

    def routes(self) -> list[Route]:
        """The routes of the endpoints."""
        return [
            Route("/sandbox/record", self.show_record, methods=["GET"]),
            Route("/sandbox/state", self.show_state, methods=["GET"]),
            Route("/sandbox/faults", self.add_faults, methods=["POST"]),
            Route("/sandbox/faults", self.clear_faults, methods=["DELETE"]),
            Route("/sandbox/neighbour", self.move_neighbour, methods=["POST"]),
        ]

    async def show_record(self, _: Request) -> Response:
        """`GET`: every request, action, creation and deletion, and a summary."""
        statuses = {str(status): count for status, count in self.record.requests_by_status().items()}
        summary = {
            "requests": len(self.record.requests),
            "requests_by_status": statuses,
            "peak_requests_per_minute": self.record.peak_requests(self.limits.burst.seconds),
            "actions": len(self.record.actions),
            "requests_per_action": self.record.requests_per_action(),
            "duplicate_transfers": [action.id for action in self.record.duplicate_transfers()],
            "created_twice": [record.droplet_id for record in self.record.created_twice()],
            "left_behind": [record.droplet_id for record in self.record.left_behind()],
            "originals_destroyed": [record.droplet_id for record in self.record.originals_destroyed()],
        }
        return JSONResponse(
            {
                "summary": summary,
                "requests": [asdict(seen) for seen in self.record.requests],
                "actions": [_true_times(action) for action in self.record.actions],
                "deleted": [asdict(deletion) for deletion in self.record.deleted],
                "created": [asdict(record) for record in self.record.created],
                "destroyed": [asdict(record) for record in self.record.destroyed],
                "firewalls_created": [asdict(record) for record in self.record.firewalls_created],
                "firewalls_deleted": [asdict(record) for record in self.record.firewalls_deleted],
            }
        )

    async def show_state(self, _: Request) -> Response:
        """`GET`: the account's private images, actions, Droplets and firewalls, as they are now."""
        now = self.clock()
        self.account.advance(now)
        own = [image for image in self.account.images.values() if not image.public]
        return JSONResponse(
            {
                "now": now,
                "images": [image_body(image, now) for image in own],
                "actions": [action_body(action, self.account) for action in self.account.started],
                "droplets": [droplet_body(each, self.account, now) for each in self.account.droplets.values()],
                "firewalls": [firewall_body(each, now) for each in self.account.firewalls.values()],
            }
        )

    async def add_faults(self, request: Request) -> Response:
        """`POST` a fault, a list of faults, or `{"rate": ..., "kinds": [...], "seed": ...}`."""
        try:
            asked: Any = json.loads(await request.body())
            if isinstance(asked, dict) and "rate" in asked:
                self.faults.at_random(**asked)
            else:
                self.faults.add(*(Fault(**one) for one in (asked if isinstance(asked, list) else [asked])))
        except (TypeError, ValueError, re.error) as error:
            return JSONResponse({"error": str(error)}, 400)
        return Response(status_code=204)

    async def clear_faults(self, _: Request) -> Response:
        """`DELETE`: stop injecting faults."""
        self.faults.clear()
        return Response(status_code=204)

    async def move_neighbour(self, request: Request) -> Response:
        """`POST` `{"requests": 100, "over_seconds": 60}` once, or `{"per_minute": 50}` from now on."""
        now = self.clock()
        try:
            asked: Any = json.loads(await request.body())
            if "per_minute" in asked:
                self.limits.set_neighbour(float(asked["per_minute"]), now)
            spent = self.limits.spend(now, int(asked.get("requests", 0)), float(asked.get("over_seconds", 0)))
        except (AttributeError, TypeError, ValueError) as error:
            return JSONResponse({"error": str(error)}, 400)
        return JSONResponse({"spent": spent})


def _true_times(action: Action) -> dict[str, object]:
    return {
        "id": action.id,
        "type": action.type,
        f"{action.resource_type}_id": action.resource_id,
        "region": action.region,
        "started_at": action.started_at,
        "ends_at": action.ends_at if action.fate.ends else None,
        "outcome": action.fate.outcome if action.fate.ends else None,
    }
