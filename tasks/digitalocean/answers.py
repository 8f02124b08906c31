"""Reading the API's answers: models out of the good ones, exceptions out of the others."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

import httpx
from pydantic import ValidationError

from tasks.digitalocean.errors import APIError, MalformedAnswer, error_for_status
from tasks.digitalocean.models import Resource

ResourceT = TypeVar("ResourceT", bound=Resource)

# Enough of an edge proxy's page to recognise it.
LONGEST_QUOTE = 200
LONGEST_MESSAGE = 500


@dataclass(frozen=True)
class Answer:
    """The body of a success, and what it answers."""

    method: str
    path: str
    body: dict[str, Any]

    def one(self, model: type[ResourceT], key: str) -> ResourceT:
        """Read the object under a key.

        Raises:
            MalformedAnswer: It is not there, or lacks something that is needed.
        """
        return self._validated(model, self._under(key), key)

    def one_bare_or_under(self, model: type[ResourceT], key: str) -> ResourceT:
        """Read the object under a key, or the body itself where that is the object.

        Raises:
            MalformedAnswer: It is neither, or lacks something that is needed.
        """
        bare = key not in self.body and "id" in self.body
        return self._validated(model, self.body, key) if bare else self.one(model, key)

    def many(self, model: type[ResourceT], key: str) -> list[ResourceT]:
        """Read the list under a key.

        Raises:
            MalformedAnswer: It is not there, or an entry lacks something that is needed.
        """
        entries = self._under(key)
        if not isinstance(entries, list):
            raise self._malformed(f"{key!r} is no list")
        return [self._validated(model, entry, f"{key}.{number}") for number, entry in enumerate(entries)]

    def next_page(self, page: int) -> int | None:
        """Read the number of the page after this one; None on the last.

        Only the number is taken from the link, so that the token goes nowhere but to the configured address.

        Raises:
            MalformedAnswer: The link leads nowhere or backwards.
        """
        links = self.body.get("links")
        pages = links.get("pages") if isinstance(links, dict) else None
        link = pages.get("next") if isinstance(pages, dict) else None
        if not link:
            return None
        number = parse_qs(urlsplit(str(link)).query).get("page", [""])[0]
        if not number.isdecimal() or int(number) <= page:
            raise self._malformed(f"the link to the page after {page} does not lead on")
        return int(number)

    def _under(self, key: str) -> object:
        if key not in self.body:
            raise self._malformed(f"there is no {key!r} in it")
        return self.body[key]

    def _validated(self, model: type[ResourceT], value: object, place: str) -> ResourceT:
        try:
            return model.model_validate(value)
        except ValidationError as error:
            # Only what is wrong and where: the answer's contents are not for the logs.
            first = error.errors(include_input=False, include_url=False)[0]
            where = ".".join([place, *map(str, first["loc"])])
            raise self._malformed(f"{where}: {first['msg']}") from None

    def _malformed(self, problem: str) -> MalformedAnswer:
        return MalformedAnswer(self.method, self.path, message=f"the answer cannot be used: {problem}")


def read_answer(method: str, path: str, response: httpx.Response, secret: str = "") -> Answer:
    """Take the body out of a response.

    Args:
        method: Method of the request.
        path: Path of the request, without host and query.
        response: What came back.
        secret: What must not be quoted, should the answer repeat it.

    Returns:
        The answer; its body is empty for a 204.

    Raises:
        APIError: The status is no success, or the body is no JSON object.
    """
    if not response.is_success:
        raise _error_from(method, path, response, secret)
    if response.status_code == httpx.codes.NO_CONTENT:
        return Answer(method, path, {})
    body = _json(response)
    if not isinstance(body, dict):
        quote = _without(secret, response.text)[:LONGEST_QUOTE]
        raise MalformedAnswer(method, path, response.status_code, message=f"the answer is no JSON object: {quote!r}")
    return Answer(method, path, body)


def _error_from(method: str, path: str, response: httpx.Response, secret: str) -> APIError:
    body = _json(response)
    words = body if isinstance(body, dict) else {}
    message = words.get("message") or words.get("error") or response.text or response.reason_phrase
    return error_for_status(response.status_code)(
        method,
        path,
        response.status_code,
        _without(secret, str(words.get("id") or ""))[:LONGEST_QUOTE],
        _without(secret, str(message)).strip()[:LONGEST_MESSAGE],
        str(words.get("request_id") or response.headers.get("x-request-id") or ""),
    )


def _without(secret: str, text: str) -> str:
    """A proxy's error page may show the request it did not like, with all its headers."""
    return text.replace(secret, "[token]") if secret else text


def _json(response: httpx.Response) -> object:
    try:
        return response.json()
    except (json.JSONDecodeError, UnicodeDecodeError):
        return None
