"""Responses, independent of the web framework."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ResponseBody:
    """Status, body, and the headers that only this response has."""

    status: int
    body: bytes = b""
    media_type: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    from_edge: bool = False
    """Whether it comes from a proxy in front of the API, without rate limit headers and request ID."""
    padding: int = 0
    """The number of blanks after the body, which JSON allows."""
    seconds_per_byte: float = 0.0
    """How long each byte of the body takes; 0 for all at once."""


NO_CONTENT = ResponseBody(204)


def json_response(status: int, content: object, headers: Mapping[str, str] | None = None) -> ResponseBody:
    """A response of the API itself."""
    body = json.dumps(content, separators=(",", ":")).encode()
    return ResponseBody(status, body, "application/json; charset=utf-8", headers or {})


def html_response(status: int, title: str, style: str = "") -> ResponseBody:
    """A response of a proxy in front of the API."""
    page = f"<html><head>{style}<title>{title}</title></head><body><h1>{title}</h1></body></html>"
    return ResponseBody(status, page.encode(), "text/html", from_edge=True)
