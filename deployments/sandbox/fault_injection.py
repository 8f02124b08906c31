"""What a fault does to an answer. None stands for a connection that is dropped without one."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from http import HTTPStatus

from deployments.sandbox.account import Fate
from deployments.sandbox.errors import ApiError, error, forbidden, not_found
from deployments.sandbox.faults import Fault, FaultKind
from deployments.sandbox.responses import ResponseBody, html_answer, json_answer

LIMIT_MESSAGE = "API Rate limit exceeded."
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
"""What such lists were seen to hold of other kinds of resources, or of the API's early years."""


def limit_answer(
    request_id: str, *, code: str = "too_many_requests", headers: Mapping[str, str] | None = None
) -> ResponseBody:
    """A 429 with the usual body."""
    return json_answer(429, {"id": code, "message": LIMIT_MESSAGE, "request_id": request_id}, headers)


def error_answer(refusal: ApiError, request_id: str) -> ResponseBody:
    """A refusal of the API itself."""
    return json_answer(refusal.status, {**refusal.body, "request_id": request_id})


def answer_instead(fault: Fault, request_id: str, now: float) -> ResponseBody | None:  # noqa: PLR0911 - one per kind
    """The answer of a fault that forestalls the work."""
    match fault.kind:
        case FaultKind.ERROR_BEFORE:
            return _server_error(request_id)
        case FaultKind.UNAVAILABLE_RETRY_AFTER:
            seconds = str(max(1, math.ceil(fault.seconds)))
            return replace(html_answer(503, "503 Service Unavailable"), headers={"retry-after": seconds})
        case FaultKind.FORBIDDEN:
            return _refusal(forbidden(), fault, request_id)
        case FaultKind.NOT_FOUND:
            return _refusal(not_found(), fault, request_id)
        case FaultKind.ODD_STATUS:
            return _odd_status(fault, request_id)
        case FaultKind.UNAVAILABLE_HTML:
            return html_answer(503, "503 Service Temporarily Unavailable")
        case FaultKind.EMPTY_ERROR:
            return ResponseBody(502, from_edge=True)
        case FaultKind.DROP_BEFORE:
            return None
        case FaultKind.LIMIT_HTML:
            return html_answer(429, "429 Too Many Requests")
        case _:
            code = "Too Many Requests" if fault.kind == FaultKind.LIMIT_ODD_ID else "too_many_requests"
            return limit_answer(request_id, code=code, headers=_limit_headers(fault, now))


def with_fault(answer: ResponseBody, fault: Fault, request_id: str, page: int) -> ResponseBody | None:  # noqa: PLR0911 - one per kind
    """What is left of the answer once the work is done, to a request for a page of a list or for anything else."""
    match fault.kind:
        case FaultKind.ERROR_AFTER:
            return _server_error(request_id)
        case FaultKind.BAD_GATEWAY_AFTER:
            return html_answer(502, "502 Bad Gateway")
        case FaultKind.GATEWAY_TIMEOUT_AFTER:
            return html_answer(504, "504 Gateway Time-out", STYLE)
        case FaultKind.ODD_STATUS_AFTER:
            return _odd_status(fault, request_id)
        case FaultKind.DROP_AFTER:
            return None
        case FaultKind.HTML_OK:
            return html_answer(200, "One moment, please")
        case _:
            return _misshapen(answer, fault, page)


def _misshapen(answer: ResponseBody, fault: Fault, page: int) -> ResponseBody:  # noqa: PLR0911 - one per kind
    """The same answer, in a shape that is hard to read."""
    match fault.kind:
        case FaultKind.TRUNCATED_AFTER:
            return replace(answer, body=answer.body[: len(answer.body) // 2])
        case FaultKind.MISSING_FIELD if answer.body:
            body = without(json.loads(answer.body), fault.field)
            return json_answer(answer.status, body, answer.headers)
        case FaultKind.GIANT_NUMBER if answer.body:
            return replace(answer, body=b'{"id":' + GIANT_NUMBER.encode() + b"," + answer.body[1:])
        case FaultKind.GIANT_BODY:
            return replace(answer, padding=fault.size)
        case FaultKind.DRIP:
            return replace(answer, seconds_per_byte=fault.seconds)
        case FaultKind.ODD_HEADERS:
            return replace(answer, headers={**answer.headers, **ODD_HEADERS})
        case FaultKind.BARE | FaultKind.FOREIGN_ENTRIES | FaultKind.ENDLESS_PAGES if answer.body:
            return json_answer(answer.status, _changed(json.loads(answer.body), fault.kind, page), answer.headers)
        case _:
            return answer


def fate(fault: Fault | None) -> Fate:
    """What becomes of the action that a request starts."""
    match fault.kind if fault else None:
        case FaultKind.ACTION_ERRORED:
            return Fate(outcome="errored")
        case FaultKind.ACTION_ENDLESS:
            return Fate(ends=False)
        case FaultKind.ACTION_UNLISTED:
            return Fate(listed=False)
        case _:
            return Fate()


def without(content: object, field: str) -> object:
    """JSON content without a field, wherever it occurs."""
    if isinstance(content, dict):
        return {name: without(value, field) for name, value in content.items() if name != field}
    if isinstance(content, list):
        return [without(value, field) for value in content]
    return content


def _changed(body: object, kind: FaultKind, page: int) -> object:
    """JSON content that is an object without its wrapper, holds others' entries, or always links to a further page."""
    if not isinstance(body, dict):
        return body
    if kind == FaultKind.BARE:
        return next(iter(body.values())) if len(body) == 1 else body
    if kind == FaultKind.FOREIGN_ENTRIES:
        return {name: [*FOREIGN_ENTRIES[name], *body[name]] if name in FOREIGN_ENTRIES else body[name] for name in body}
    return {**body, "links": {"pages": {"next": f"https://api.digitalocean.com/v2/?page={page + 1}"}}}


def _odd_status(fault: Fault, request_id: str) -> ResponseBody:
    words = HTTPStatus(fault.status).phrase if fault.status in set(HTTPStatus) else "Odd"
    answer = _refusal(error(fault.status, words.lower().replace(" ", "_"), f"{words}."), fault, request_id)
    return replace(answer, headers={"location": "https://api.digitalocean.com/v2/moved"} if answer.status < 400 else {})  # noqa: PLR2004


def _refusal(refusal: ApiError, fault: Fault, request_id: str) -> ResponseBody:
    words = {"message": fault.message} if fault.message else {}
    return error_answer(ApiError(refusal.status, {**refusal.body, **words}), request_id)


def _server_error(request_id: str) -> ResponseBody:
    body = {"id": "server_error", "message": "Unexpected server-side error", "request_id": request_id}
    return json_answer(500, body)


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
