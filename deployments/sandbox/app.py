"""The ASGI application: the way of a request from the wire through limits and faults to its endpoint."""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from uuid import uuid4

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route, Router

from deployments.sandbox.account import Account
from deployments.sandbox.control import Control
from deployments.sandbox.endpoints import ENDPOINTS, nothing_here
from deployments.sandbox.endpoints.call import Call, Endpoint
from deployments.sandbox.errors import ApiError, bad_request, error, forbidden
from deployments.sandbox.fault_injection import answer_instead, error_answer, fate, limit_answer, with_fault
from deployments.sandbox.faults import FORESTALLING_FAULTS, LIMIT_FAULTS, Fault, FaultKind, Faults
from deployments.sandbox.limits import Limits
from deployments.sandbox.request_log import RequestLog, SeenRequest
from deployments.sandbox.responses import ResponseBody

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
BLANKS = 65_536


class ConnectionDropped(Exception):
    """The connection is to be dropped without an answer; a server turns this into just that."""


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
    """Make the application, for a server or for calls within the process.

    Args:
        account: What the API is about.
        token: The token it accepts.
        limits: The token's rate limits, by default DigitalOcean's.
        faults: What goes wrong, by default nothing.
        record: Where to write down what happens; its lists should be `account.started` and `account.deleted`.
        clock: What time it is, in Unix seconds.
        sleep: How to wait where an answer is to be slow.

    Returns:
        An ASGI application, which raises ConnectionDropped where a connection is to be dropped.
    """
    limits, faults = limits or Limits(), faults or Faults()
    record = record if record is not None else RequestLog(actions=account.started, deleted=account.deleted)
    api = _Api(account, token, limits, faults, record, clock, sleep)
    control = Control(account, limits, faults, record, clock)
    routes = [Route(path, api.at(endpoint), methods=[method]) for method, path, endpoint in ENDPOINTS]
    elsewhere = Route("/{path:path}", api.at(nothing_here), methods=METHODS)
    # A bare router, as Starlette's own error pages would turn a dropped connection into a 500.
    return Router([*control.routes(), *routes, elsewhere], redirect_slashes=False)


@dataclass(frozen=True, slots=True)
class _Served:
    """What became of a request; no answer means a dropped connection."""

    answer: ResponseBody | None
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
        """What Starlette calls for a route."""

        async def respond(request: Request) -> Response:
            try:
                body = await request.body()
            except ClientDisconnect:
                raise ConnectionDropped from None
            now, request_id = self.clock(), str(uuid4())
            served = self.serve(endpoint, request, body, now, request_id)
            self.write_down(request, served, now)
            if served.fault and served.fault.kind == FaultKind.SLOW:
                await self.sleep(served.fault.seconds)
            if served.answer is None:
                raise ConnectionDropped
            return self.response(served.answer, now, request_id)

        return respond

    def serve(self, endpoint: Endpoint, request: Request, body: bytes, now: float, request_id: str) -> _Served:
        """Take a request as far as it gets."""
        self.account.advance(now)
        if not self.knows(request.headers.get("authorization", "")):
            refusal = error(401, "unauthorized", "Unable to authenticate you")
            return _Served(error_answer(refusal, request_id))
        standing = self.limits.standing(now)
        if standing.refused_by:
            return _Served(limit_answer(request_id, headers=standing.refusal_headers()))
        fault = self.faults.pick(request.method, request.url.path)
        counted = fault is None or fault.kind not in LIMIT_FAULTS
        if counted:
            self.limits.spend(now)
        if fault and fault.kind in FORESTALLING_FAULTS:
            return _Served(answer_instead(fault, request_id, now), fault, counted)
        answer = self.work(endpoint, request, body, now=now, fault=fault, request_id=request_id)
        page = request.query_params.get("page", "")
        shown = with_fault(answer, fault, request_id, int(page) if page.isdecimal() else 1) if fault else answer
        return _Served(shown, fault, counted, worked=answer.status < 400)  # noqa: PLR2004

    def work(
        self,
        endpoint: Endpoint,
        request: Request,
        body: bytes,
        *,
        now: float,
        fault: Fault | None,
        request_id: str,
    ) -> ResponseBody:
        """Do what is asked."""
        try:
            if request.url.path in self.account.behavior.out_of_scope:
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
                )
            )
        except ApiError as refusal:
            return error_answer(refusal, request_id)

    def knows(self, authorization: str) -> bool:
        """Whether a request has the token."""
        scheme, _, token = authorization.partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(token.encode(), self.token.encode())

    def write_down(self, request: Request, served: _Served, now: float) -> None:
        """Record a request, without its headers, and so without its token."""
        query = f"?{request.url.query}" if request.url.query else ""
        self.record.requests.append(
            SeenRequest(
                at=now,
                method=request.method,
                path=request.url.path + query,
                status=served.answer.status if served.answer else None,
                fault=served.fault.kind if served.fault else None,
                counted=served.counted,
                worked=served.worked,
            )
        )

    def response(self, answer: ResponseBody, now: float, request_id: str) -> Response:
        """The answer with the headers that every answer of the API has."""
        usual = {} if answer.from_edge else {**self.limits.standing(now).headers(), "x-request-id": request_id}
        headers = {**usual, **answer.headers}
        # What an answer says of its own content goes before what its kind of content would say.
        media_type = None if "content-type" in headers else answer.media_type
        if answer.padding or answer.seconds_per_byte:
            return StreamingResponse(self.in_pieces(answer), answer.status, headers, media_type)
        return Response(answer.body, answer.status, headers, media_type)

    async def in_pieces(self, answer: ResponseBody) -> AsyncIterator[bytes]:
        """The body, slowly or with a long tail of blanks."""
        if not answer.seconds_per_byte:
            yield answer.body
        else:
            for place in range(len(answer.body)):
                await self.sleep(answer.seconds_per_byte)
                yield answer.body[place : place + 1]
        for start in range(0, answer.padding, BLANKS):
            yield b" " * min(BLANKS, answer.padding - start)


def _parsed(body: bytes) -> object:
    try:
        return json.loads(body) if body else None
    except ValueError:
        raise bad_request("The request body is not valid JSON.") from None
