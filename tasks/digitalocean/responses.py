"""Parsing of the API's responses into models or exceptions."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar
from urllib.parse import parse_qs, urlsplit

import httpx
from pydantic import ValidationError

from tasks.digitalocean.errors import APIError, MalformedResponse, error_for_status
from tasks.digitalocean.headers import whole_number
from tasks.digitalocean.models import Resource

ResourceT = TypeVar("ResourceT", bound=Resource)

LONGEST_QUOTE = 200
LONGEST_MESSAGE = 500
LONGEST_TITLE = 100
# The part of an HTML page that is searched for its title.
HEAD_OF_A_PAGE = 20_000
TITLE = re.compile(r"<title[^>]*>([^<]*)", re.IGNORECASE)
MARKUP = re.compile(r"^<|<(html|head|body|style|script)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Entries(Generic[ResourceT]):
    """The entries of a list, some of which may be of unknown kinds.

    Attributes:
        unread: The entries that could not be read, as in the response.
        problem: What is wrong with the first of them, and where, or empty.
    """

    read: Sequence[ResourceT]
    unread: Sequence[object] = ()
    problem: str = ""


@dataclass(frozen=True)
class ResponseBody:
    """The body of a successful response, and its request."""

    method: str
    path: str
    body: dict[str, Any]

    def one(self, model: type[ResourceT], key: str) -> ResourceT:
        """Read the object under a key, or the body itself if that is the object.

        The API's documentation shows a started action both ways:
        https://docs.digitalocean.com/reference/api/digitalocean/#operation/imageActions_post

        Raises:
            MalformedResponse: The object is missing, or lacks a required attribute.
        """
        bare = key not in self.body and "id" in self.body
        try:
            return _validated(model, self.body if bare else self._under(key), key)
        except _Unreadable as error:
            raise self.malformed(str(error)) from None

    def entries(self, model: type[ResourceT], key: str) -> Entries[ResourceT]:
        """Read the entries of the list under a key that can be read.

        Raises:
            MalformedResponse: The list is missing.
        """
        read: list[ResourceT] = []
        unread: list[object] = []
        problem = ""
        for number, entry in enumerate(self.listed(key)):
            try:
                read.append(_validated(model, entry, f"{key}.{number}"))
            except _Unreadable as error:
                unread.append(entry)
                problem = problem or str(error)
        return Entries(read, unread, problem)

    def listed(self, key: str) -> list[object]:
        """Get the list under a key, without reading its entries.

        Raises:
            MalformedResponse: The list is missing.
        """
        entries = self._under(key)
        if not isinstance(entries, list):
            raise self.malformed(f"{key!r} is not a list")
        return entries

    def with_list(self, key: str, key_as: str) -> ResponseBody:
        """Turn the map of objects under a key into a list.

        Args:
            key: The key; null counts as an empty map.
            key_as: The attribute of each object that gets its key in the map, unless it has the attribute.

        Raises:
            MalformedResponse: The map is missing.
        """
        entries = self._under(key)
        if entries is not None and not isinstance(entries, dict):
            raise self.malformed(f"{key!r} is not a map")
        listed = [{key_as: name, **each} if isinstance(each, dict) else each for name, each in (entries or {}).items()]
        return replace(self, body={**self.body, key: listed})

    def next_page(self, page: int) -> int | None:
        """Read the number of the next page; None on the last page.

        Uses only the number in the link, so that the token goes only to the configured URL.

        Raises:
            MalformedResponse: The link does not lead to a later page.
        """
        links = self.body.get("links")
        pages = links.get("pages") if isinstance(links, dict) else None
        link = pages.get("next") if isinstance(pages, dict) else None
        if not link:
            return None
        number = whole_number(_page_in(str(link)))
        if number is None or number <= page:
            raise self.malformed(f"the link on page {page} does not lead to a later page")
        return number

    def malformed(self, problem: str) -> MalformedResponse:
        """Create the error for a response that cannot be used."""
        return MalformedResponse(self.method, self.path, message=f"malformed response: {problem}")

    def _under(self, key: str) -> object:
        if key not in self.body:
            raise self.malformed(f"{key!r} is missing")
        return self.body[key]


class _Unreadable(Exception):
    """What is wrong with an object, and where."""


def _validated(model: type[ResourceT], value: object, place: str) -> ResourceT:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        # The response's contents do not belong in logs.
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join([place, *map(str, first["loc"])])
        raise _Unreadable(f"{where}: {first['msg']}") from None


def parse_response(method: str, path: str, response: httpx.Response, secret: str = "") -> ResponseBody:
    """Parse the body of a response.

    Args:
        method: Method of the request.
        path: Path of the request, without host and query.
        response: The response.
        secret: The token, which is removed from quotes.

    Returns:
        The body; empty for a 204.

    Raises:
        APIError: The status is not a success, or the body is not a JSON object.
    """
    if not response.is_success:
        raise _error_from(method, path, response, secret)
    if response.status_code == httpx.codes.NO_CONTENT:
        return ResponseBody(method, path, {})
    body = _json(response.content)
    if not isinstance(body, dict):
        quote = _plain(_text(response.content), secret)[:LONGEST_QUOTE]
        message = f"the response is not a JSON object: {quote or 'it is empty'}"
        raise MalformedResponse(method, path, response.status_code, message=message)
    return ResponseBody(method, path, body)


def _page_in(link: str) -> str:
    try:
        return parse_qs(urlsplit(link).query).get("page", [""])[0]
    except ValueError:
        return ""


def _error_from(method: str, path: str, response: httpx.Response, secret: str) -> APIError:
    body = _json(response.content)
    words = body if isinstance(body, dict) else {}
    message = words.get("message") or words.get("error") or _text(response.content)[:HEAD_OF_A_PAGE]
    request_id = words.get("request_id") or response.headers.get("x-request-id") or ""
    return error_for_status(response.status_code)(
        method,
        path,
        response.status_code,
        _plain(str(words.get("id") or ""), secret)[:LONGEST_QUOTE],
        _plain(str(message), secret)[: LONGEST_MESSAGE if words else LONGEST_QUOTE]
        or httpx.codes.get_reason_phrase(response.status_code),
        _plain(str(request_id), secret)[:LONGEST_QUOTE],
    )


def _plain(text: str, secret: str) -> str:
    """Make a text fit to be quoted in one line: without the secret, control characters and markup.

    A proxy's error page may contain the request with all its headers.
    """
    text = text.replace(secret, "[token]") if secret else text
    head = text[:HEAD_OF_A_PAGE].strip()
    if not MARKUP.search(head):
        return one_line(text)
    title = TITLE.search(head)
    words = one_line(html.unescape(title[1]))[:LONGEST_TITLE] if title else ""
    what = "an XML document" if head.startswith("<?xml") and "<html" not in head.lower() else "an HTML page"
    return f"{what} ({words})" if words else what


def one_line(text: str) -> str:
    """Collapse whitespace, and replace characters that cannot be printed by a space."""
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())


def _text(content: bytes) -> str:
    # JSON is UTF-8, whatever a header says; in other encodings, ASCII letters stay readable.
    return content.decode("utf-8", "replace")


def _json(content: bytes) -> object:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None  # also for numbers with thousands of digits, and for too many nested brackets
