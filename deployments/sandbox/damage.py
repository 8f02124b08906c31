"""What a fault does to an answer. None stands for a connection that is dropped without one."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace

from deployments.sandbox.account import Fate
from deployments.sandbox.answers import Answer, html_answer, json_answer
from deployments.sandbox.faults import Fault, FaultKind

LIMIT_MESSAGE = "API Rate limit exceeded."


def limit_answer(
    request_id: str, *, code: str = "too_many_requests", headers: Mapping[str, str] | None = None
) -> Answer:
    """A 429 with the usual body."""
    return json_answer(429, {"id": code, "message": LIMIT_MESSAGE, "request_id": request_id}, headers)


def answer_instead(fault: Fault, request_id: str, now: float) -> Answer | None:
    """The answer of a fault that forestalls the work."""
    match fault.kind:
        case FaultKind.ERROR_BEFORE:
            return _server_error(request_id)
        case FaultKind.UNAVAILABLE_HTML:
            return html_answer(503, "503 Service Temporarily Unavailable")
        case FaultKind.EMPTY_ERROR:
            return Answer(502, from_edge=True)
        case FaultKind.DROP_BEFORE:
            return None
        case FaultKind.LIMIT_HTML:
            return html_answer(429, "429 Too Many Requests")
        case _:
            code = "Too Many Requests" if fault.kind == FaultKind.LIMIT_ODD_ID else "too_many_requests"
            return limit_answer(request_id, code=code, headers=_limit_headers(fault, now))


def damaged(answer: Answer, fault: Fault, request_id: str) -> Answer | None:  # noqa: PLR0911 - one a kind
    """What is left of the answer once the work is done."""
    match fault.kind:
        case FaultKind.ERROR_AFTER:
            return _server_error(request_id)
        case FaultKind.BAD_GATEWAY_AFTER:
            return html_answer(502, "502 Bad Gateway")
        case FaultKind.DROP_AFTER:
            return None
        case FaultKind.HTML_OK:
            return html_answer(200, "One moment, please")
        case FaultKind.TRUNCATED_AFTER:
            return replace(answer, body=answer.body[: len(answer.body) // 2])
        case FaultKind.MISSING_FIELD if answer.body:
            body = without(json.loads(answer.body), fault.field)
            return json_answer(answer.status, body, answer.headers)
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


def _server_error(request_id: str) -> Answer:
    body = {"id": "server_error", "message": "Unexpected server-side error", "request_id": request_id}
    return json_answer(500, body)


def _limit_headers(fault: Fault, now: float) -> dict[str, str]:
    headers = {"ratelimit-remaining": "0"}
    match fault.kind:
        case FaultKind.BURST_LIMIT | FaultKind.LIMIT_ODD_ID:
            headers["retry-after"] = str(max(1, math.ceil(fault.seconds)))
        case FaultKind.HOURLY_LIMIT:
            headers["ratelimit-reset"] = str(math.ceil(now + fault.seconds))
        case FaultKind.LIMIT_RESET_IN_PAST:
            headers["ratelimit-reset"] = str(math.floor(now - fault.seconds))
    return headers
