"""How faults change responses. None stands for a connection dropped without a response."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from http import HTTPStatus

from deployments.sandbox.account import Fate
from deployments.sandbox.errors import ApiError, error, forbidden, not_found, unprocessable
from deployments.sandbox.faults import Fault, FaultKind
from deployments.sandbox.responses import ResponseBody, html_response, json_response

LIMIT_MESSAGE = "API Rate limit exceeded."
REFUSALS = {
    FaultKind.FORBIDDEN: forbidden(),
    FaultKind.NOT_FOUND: not_found(),
    FaultKind.NO_CAPACITY: unprocessable("There is not enough capacity in this region at the moment."),
}
SECONDS_A_YEAR = 31_536_000
GIANT_NUMBER = "9" * 5000
STYLE = "<style>" + ".cf-error-details { color: #404040; margin: 0 auto; } " * 200 + "</style>"
ODD_HEADERS = {
    "ratelimit-limit": "9" * 400,
    "ratelimit-remaining": "9" * 400,
    "ratelimit-reset": "9" * 400,
    "date": "Fri, 31 Dec 9999 23:59:59 GMT",
    "content-type": "application/json; charset=klingon",
}
VOLUME_ID = "0a343fac-eacf-11e9-b96b-0a58ac144633"
LONG_AGO = "2020-11-20T03:00:00Z"
FOREIGN_ENTRIES: Mapping[str, list[object]] = {
    "actions": [
        {
            "id": 1,
            "status": "completed",
            "type": "attach",
            "started_at": LONG_AGO,
            "resource_id": VOLUME_ID,
            "resource_type": "volume",
        },
        {"id": 2, "status": "completed", "type": "assign", "resource_id": 3, "resource_type": "reserved_ip"},
        {
            "id": "nfs-7c2f",
            "status": "completed",
            "type": "resize",
            "started_at": LONG_AGO,
            "resource_id": "share-1",
            "resource_type": "network_file_share",
        },
        None,
    ],
    "snapshots": [
        {
            "id": VOLUME_ID,
            "name": "volume-nyc1-01-snapshot",
            "created_at": LONG_AGO,
            "regions": ["nyc1"],
            "resource_id": VOLUME_ID,
            "resource_type": "volume",
            "min_disk_size": 10,
            "size_gigabytes": 0,
            "tags": None,
        },
        {
            "id": "4711",
            "name": "of a Droplet long gone",
            "created_at": LONG_AGO,
            "regions": ["nyc1"],
            "resource_id": None,
            "resource_type": "droplet",
            "min_disk_size": 20,
            "size_gigabytes": 2.34,
            "tags": ["prefect:replicated"],
        },
        None,
    ],
}
"""Entries for other kinds of resources, or from the API's early years, as seen in these lists."""


def limit_response(
    request_id: str, *, code: str = "too_many_requests", headers: Mapping[str, str] | None = None
) -> ResponseBody:
    """A 429 with the usual body."""
    return json_response(429, {"id": code, "message": LIMIT_MESSAGE, "request_id": request_id}, headers)


def error_response(refusal: ApiError, request_id: str) -> ResponseBody:
    """An error of the API itself."""
    return json_response(refusal.status, {**refusal.body, "request_id": request_id})


def fault_response(fault: Fault, request_id: str, now: float) -> ResponseBody | None:  # noqa: PLR0911 - one per kind
    """The response of a fault that replaces the work."""
    match fault.kind:
        case FaultKind.ERROR_BEFORE:
            return _server_error(request_id)
        case FaultKind.UNAVAILABLE_RETRY_AFTER:
            seconds = str(max(1, math.ceil(fault.seconds)))
            return replace(html_response(503, "503 Service Unavailable"), headers={"retry-after": seconds})
        case FaultKind.FORBIDDEN | FaultKind.NOT_FOUND | FaultKind.NO_CAPACITY:
            return _refusal(REFUSALS[fault.kind], fault, request_id)
        case FaultKind.ODD_STATUS:
            return _odd_status(fault, request_id)
        case FaultKind.UNAVAILABLE_HTML:
            return html_response(503, "503 Service Temporarily Unavailable")
        case FaultKind.EMPTY_ERROR:
            return ResponseBody(502, from_edge=True)
        case FaultKind.DROP_BEFORE:
            return None
        case FaultKind.LIMIT_HTML:
            return html_response(429, "429 Too Many Requests")
        case _:
            code = "Too Many Requests" if fault.kind == FaultKind.LIMIT_ODD_ID else "too_many_requests"
            return limit_response(request_id, code=code, headers=_limit_headers(fault, now))


def with_fault(response: ResponseBody, fault: Fault, request_id: str, page: int) -> ResponseBody | None:  # noqa: PLR0911 - one per kind
    """Apply a fault to the response once the work is done; `page` is the page of a list, 1 for anything else."""
    match fault.kind:
        case FaultKind.ERROR_AFTER:
            return _server_error(request_id)
        case FaultKind.BAD_GATEWAY_AFTER:
            return html_response(502, "502 Bad Gateway")
        case FaultKind.GATEWAY_TIMEOUT_AFTER:
            return html_response(504, "504 Gateway Time-out", STYLE)
        case FaultKind.ODD_STATUS_AFTER:
            return _odd_status(fault, request_id)
        case FaultKind.DROP_AFTER:
            return None
        case FaultKind.HTML_OK:
            return html_response(200, "One moment, please")
        case _:
            return _malformed(response, fault, page)


def _malformed(response: ResponseBody, fault: Fault, page: int) -> ResponseBody:  # noqa: PLR0911 - one per kind
    """The same response, hard to read."""
    match fault.kind:
        case FaultKind.TRUNCATED_AFTER:
            return replace(response, body=response.body[: len(response.body) // 2])
        case FaultKind.MISSING_FIELD if response.body:
            return json_response(response.status, without(json.loads(response.body), fault.field), response.headers)
        case FaultKind.GIANT_NUMBER if response.body:
            return replace(response, body=b'{"id":' + GIANT_NUMBER.encode() + b"," + response.body[1:])
        case FaultKind.GIANT_BODY:
            return replace(response, padding=fault.size)
        case FaultKind.DRIP:
            return replace(response, seconds_per_byte=fault.seconds)
        case FaultKind.ODD_HEADERS:
            return replace(response, headers={**response.headers, **ODD_HEADERS})
        case FaultKind.BARE | FaultKind.FOREIGN_ENTRIES | FaultKind.ENDLESS_PAGES if response.body:
            return json_response(
                response.status, _changed(json.loads(response.body), fault.kind, page), response.headers
            )
        case _:
            return response


def fate(fault: Fault | None) -> Fate:
    """How the action that a request starts will end."""
    match fault.kind if fault else None:
        case FaultKind.ACTION_ERRORED | FaultKind.CREATE_ERRORED:
            return Fate(outcome="errored")
        case FaultKind.ACTION_ENDLESS | FaultKind.CREATE_ENDLESS:
            return Fate(ends=False)
        case FaultKind.ACTION_UNLISTED:
            return Fate(listed=False)
        case _:
            return Fate()


def lag(fault: Fault | None) -> float:
    """How long a Droplet that a request destroys is still listed."""
    return fault.seconds if fault and fault.kind == FaultKind.SLOW_DELETE else 0.0


def without(content: object, field: str) -> object:
    """Remove a field from JSON content, wherever it occurs."""
    if isinstance(content, dict):
        return {name: without(value, field) for name, value in content.items() if name != field}
    if isinstance(content, list):
        return [without(value, field) for value in content]
    return content


def _changed(body: object, kind: FaultKind, page: int) -> object:
    """Remove the wrapper of an object, add foreign entries to lists, or always link to another page."""
    if not isinstance(body, dict):
        return body
    if kind == FaultKind.BARE:
        return next(iter(body.values())) if len(body) == 1 else body
    if kind == FaultKind.FOREIGN_ENTRIES:
        return {name: [*FOREIGN_ENTRIES[name], *body[name]] if name in FOREIGN_ENTRIES else body[name] for name in body}
    return {**body, "links": {"pages": {"next": f"https://api.digitalocean.com/v2/?page={page + 1}"}}}


def _odd_status(fault: Fault, request_id: str) -> ResponseBody:
    words = HTTPStatus(fault.status).phrase if fault.status in set(HTTPStatus) else "Odd"
    response = _refusal(error(fault.status, words.lower().replace(" ", "_"), f"{words}."), fault, request_id)
    moved = {"location": "https://api.digitalocean.com/v2/moved"}
    return replace(response, headers=moved if response.status < 400 else {})  # noqa: PLR2004


def _refusal(refusal: ApiError, fault: Fault, request_id: str) -> ResponseBody:
    words = {"message": fault.message} if fault.message else {}
    return error_response(ApiError(refusal.status, {**refusal.body, **words}), request_id)


def _server_error(request_id: str) -> ResponseBody:
    return error_response(error(500, "server_error", "Unexpected server-side error"), request_id)


def _limit_headers(fault: Fault, now: float) -> dict[str, str]:
    headers = {"ratelimit-remaining": "0"}
    match fault.kind:
        case FaultKind.BURST_LIMIT | FaultKind.LIMIT_ODD_ID:
            headers["retry-after"] = str(max(1, math.ceil(fault.seconds)))
        case FaultKind.LIMIT_FOR_A_YEAR:
            headers["retry-after"] = str(SECONDS_A_YEAR)
        case FaultKind.HOURLY_LIMIT:
            headers["ratelimit-reset"] = str(math.ceil(now + fault.seconds))
        case FaultKind.LIMIT_RESET_IN_PAST:
            headers["ratelimit-reset"] = str(math.floor(now - fault.seconds))
    return headers
