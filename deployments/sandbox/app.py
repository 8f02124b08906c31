"""The ASGI application: takes a request through authentication, rate limits and faults to its endpoint."""

from __future__ import annotations

import asyncio
import hmac
import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from uuid import uuid4

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route, Router
from starlette.types import Receive, Scope, Send

from deployments.sandbox.account import Account
from deployments.sandbox.control import Control
from deployments.sandbox.endpoints import ENDPOINTS, nothing_here
from deployments.sandbox.endpoints.call import Call, Endpoint
from deployments.sandbox.errors import ApiError, bad_request, error, forbidden
from deployments.sandbox.fault_injection import error_response, fate, fault_response, lag, limit_response, with_fault
from deployments.sandbox.faults import FAULTS_BEFORE_WORK, LIMIT_FAULTS, Fault, FaultKind, Faults
from deployments.sandbox.limits import Limits
from deployments.sandbox.request_log import RequestLog, SeenRequest
from deployments.sandbox.responses import ResponseBody

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
BLANKS = 65_536
KEYS = re.compile(r"/v2/account/keys(/[^/]*)?")
"""Requests with a rate limit of their own."""


class ConnectionDropped(Exception):
    """Raised to have the server drop the connection without a response."""


def sandbox_app(
    account: Account,
    *,
    token: str,
    limits: Limits | None = None,
    faults: Faults | None = None,
    record: RequestLog | None = None,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> Router:
    """Create the application, for a server or for calls within the process.

    Args:
        account: The account that it serves.
        token: The token that it accepts.
        limits: The token's rate limits; None for DigitalOcean's.
        faults: The faults to inject; None for none.
        record: The request log; `RequestLog.of(account)` by default.
        clock: Returns the time, in Unix seconds.
        sleep: Waits, for slow responses.

    Returns:
        An ASGI application that raises ConnectionDropped to drop a connection.
    """
    limits, faults = limits or Limits(), faults or Faults()
    record = record if record is not None else RequestLog.of(account)
    api = _Api(account, token, limits, faults, record, clock, sleep)
    control = Control(account, limits, faults, record, clock)
    routes = [Route(path, api.at(endpoint), methods=[method]) for method, path, endpoint in ENDPOINTS]
    elsewhere = Route("/{path:path}", api.at(nothing_here), methods=METHODS)
    # Not a Starlette application: its error handling would turn a dropped connection into a 500.
    return _Router([*control.routes(), *routes, elsewhere], redirect_slashes=False)


class _Router(Router):
    """Accepts a trailing slash on any path."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].rstrip("/") or "/"
        await super().__call__({**scope, "path": path}, receive, send)


@dataclass(frozen=True, slots=True)
class _Served:
    """The outcome of a request; a response of None means a dropped connection."""

    response: ResponseBody | None
    fault: Fault | None = None
    counted: bool = False
    worked: bool = False


@dataclass(frozen=True, slots=True)
class _Api:
    account: Account
    token: str
    limits: Limits
    faults: Faults
    record: RequestLog
    clock: Callable[[], float]
    sleep: Callable[[float], Awaitable[object]]

    def at(self, endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
        """Wrap an endpoint for a Starlette route."""

        async def respond(request: Request) -> Response:
            try:
                body = await request.body()
            except ClientDisconnect:
                raise ConnectionDropped from None
            now, request_id = self.clock(), str(uuid4())
            served = self.serve(endpoint, request, body, now, request_id)
            self.log(request, served, now)
            if served.fault and served.fault.kind == FaultKind.SLOW:
                await self.sleep(served.fault.seconds)
            if served.response is None:
                raise ConnectionDropped
            return self.to_starlette(served.response, now, request_id)

        return respond

    def serve(self, endpoint: Endpoint, request: Request, body: bytes, now: float, request_id: str) -> _Served:
        """Handle a request: authentication, then rate limits, then faults, then the endpoint."""
        self.account.advance(now)
        if not self.is_authorized(request.headers.get("authorization", "")):
            return _Served(error_response(error(401, "unauthorized", "Unable to authenticate you"), request_id))
        for_keys = KEYS.fullmatch(request.url.path) is not None
        refusal = self.refusal(now, for_keys)
        if refusal is not None:
            return _Served(limit_response(request_id, headers=refusal))
        fault = self.faults.pick(request.method, request.url.path)
        admitted = fault is None or fault.kind not in LIMIT_FAULTS
        counted = admitted and not for_keys
        if counted:
            self.limits.spend(now)
        elif admitted:
            self.limits.spend_on_keys(now)
        if fault and fault.kind in FAULTS_BEFORE_WORK:
            return _Served(fault_response(fault, request_id, now), fault, counted)
        response = self.work(endpoint, request, body, now=now, fault=fault, request_id=request_id)
        page = request.query_params.get("page", "")
        shown = with_fault(response, fault, request_id, int(page) if page.isdecimal() else 1) if fault else response
        return _Served(shown, fault, counted, worked=response.status < 400)  # noqa: PLR2004

    def refusal(self, now: float, for_keys: bool) -> Mapping[str, str] | None:
        """The headers of a 429; None if the limits admit the request."""
        if for_keys:
            wait = self.limits.keys_retry_after(now)
            return None if wait is None else {"retry-after": str(wait)}
        standing = self.limits.standing(now)
        return standing.refusal_headers() if standing.refused_by else None

    def work(
        self, endpoint: Endpoint, request: Request, body: bytes, *, now: float, fault: Fault | None, request_id: str
    ) -> ResponseBody:
        """Call the endpoint."""
        try:
            if self.account.behavior.is_out_of_scope(request.method, request.url.path):
                raise forbidden()
            return endpoint(
                Call(
                    account=self.account,
                    now=now,
                    base_url=str(request.base_url).rstrip("/"),
                    path=request.url.path,
                    params=request.path_params,
                    query=dict(request.query_params),
                    body=_parsed(body),
                    fate=fate(fault),
                    lag=lag(fault),
                )
            )
        except ApiError as refusal:
            return error_response(refusal, request_id)

    def is_authorized(self, authorization: str) -> bool:
        """Whether a request has the token."""
        scheme, _, token = authorization.partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(token.encode(), self.token.encode())

    def log(self, request: Request, served: _Served, now: float) -> None:
        """Log a request without its headers, which contain the token."""
        query = f"?{request.url.query}" if request.url.query else ""
        self.record.requests.append(
            SeenRequest(
                at=now,
                method=request.method,
                path=request.url.path + query,
                status=served.response.status if served.response else None,
                fault=served.fault.kind if served.fault else None,
                counted=served.counted,
                worked=served.worked,
            )
        )

    def to_starlette(self, response: ResponseBody, now: float, request_id: str) -> Response:
        """Convert a response, adding the headers that every response of the API has."""
        usual = {} if response.from_edge else {**self.limits.standing(now).headers(), "x-request-id": request_id}
        headers = {**usual, **response.headers}
        media_type = None if "content-type" in headers else response.media_type
        if response.padding or response.seconds_per_byte:
            return StreamingResponse(self.in_pieces(response), response.status, headers, media_type)
        return Response(response.body, response.status, headers, media_type)

    async def in_pieces(self, response: ResponseBody) -> AsyncIterator[bytes]:
        """Yield the body byte by byte, or followed by padding."""
        if not response.seconds_per_byte:
            yield response.body
        else:
            for place in range(len(response.body)):
                await self.sleep(response.seconds_per_byte)
                yield response.body[place : place + 1]
        for start in range(0, response.padding, BLANKS):
            yield b" " * min(BLANKS, response.padding - start)


def _parsed(body: bytes) -> object:
    try:
        return json.loads(body) if body else None
    except ValueError:
        raise bad_request("The request body is not valid JSON.") from None
