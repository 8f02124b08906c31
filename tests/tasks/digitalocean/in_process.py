"""The sandbox and a client of it in one process, both on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx
from starlette.routing import Router

from deployments.sandbox import (
    Behavior,
    ConnectionDropped,
    Faults,
    Image,
    Limits,
    RequestLog,
    make_account,
    sandbox_app,
)
from tasks.digitalocean import Action, ImageActionRequest, Settings
from tasks.digitalocean.client import DigitalOceanClient, image_path
from tasks.digitalocean.poller import ActionPoller
from tests.virtual_time import EPOCH, VirtualClock

TOKEN = "dop_v1_" + "5ecre7" * 10


def make_settings(**changes: Any) -> Settings:
    """Settings that take nothing from the environment but what a test has put there."""
    return Settings.model_validate({"token": TOKEN, **changes})


async def post(client: DigitalOceanClient, image_id: int, request: ImageActionRequest) -> Action:
    """Start an action with one request, whatever comes of it."""
    response = await client.request("POST", f"{image_path(image_id)}/actions", json=request.model_dump())
    return response.one(Action, "action")


async def delete(client: DigitalOceanClient, image_id: int) -> None:
    """Delete an image with one request, whatever comes of it."""
    await client.request("DELETE", image_path(image_id))


class Wire(httpx.AsyncBaseTransport):
    """Calls an application as if it were far away: with latency, time-outs, and connections that drop.

    Args:
        app: The application.
        latency: Seconds, half of them there and half of them back.
    """

    def __init__(self, app: Router, latency: float) -> None:
        self._latency = latency
        self.lead_to(app)

    def lead_to(self, app: Router) -> None:
        """Call another application from now on."""
        self._app = httpx.ASGITransport(app)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        patience: Mapping[str, float | None] = request.extensions["timeout"]
        try:
            async with asyncio.timeout(patience["read"]):
                await asyncio.sleep(self._latency / 2)
                response = await self._app.handle_async_request(request)
                await asyncio.sleep(self._latency / 2)
                return response
        except TimeoutError:
            raise httpx.ReadTimeout("", request=request) from None
        except ConnectionDropped:
            raise httpx.RemoteProtocolError("Server disconnected without sending a response.") from None


class World:
    """An account, the server's side of it, and a client and waiter on the other side.

    Args:
        droplets: How many Droplets the account has.
        latency: Seconds from request to answer.
        limits: The token's rate limits; None for DigitalOcean's.
        quirks: How the API behaves where it is not documented.
        settings: Settings of the client that are not the usual.
    """

    def __init__(
        self,
        *,
        droplets: int = 6,
        latency: float = 0.25,
        limits: Limits | None = None,
        behavior: Behavior | None = None,
        **settings: Any,
    ) -> None:
        self.clock = VirtualClock()
        self.account = make_account(now=EPOCH, droplets=droplets, behavior=behavior)
        self.limits = limits or Limits()
        self.faults = Faults()
        self.record = RequestLog.of(self.account)
        self.latency = latency
        self.wire = Wire(self._app(TOKEN), latency)
        self.client = DigitalOceanClient(make_settings(**settings), self.wire, self.clock)
        self.poller = ActionPoller(self.client)

    def _app(self, token: str) -> Router:
        return sandbox_app(
            self.account,
            token=token,
            limits=self.limits,
            faults=self.faults,
            record=self.record,
            clock=self.clock.unix,
            sleep=asyncio.sleep,
        )

    def revoke_token(self) -> None:
        """Accept the client's token no longer."""
        self.wire.lead_to(self._app("another"))

    def images(self, kind: str) -> list[Image]:
        """The account's own images of a type."""
        return [image for image in self.account.images.values() if image.type == kind and not image.public]

    def reads(self) -> list[str]:
        """The paths that were asked for, queries left out."""
        return [seen.path.partition("?")[0] for seen in self.record.requests if seen.method == "GET"]
