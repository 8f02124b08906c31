"""Everything that can go wrong between this project and the API.

DigitalOceanError
├── ConfigurationError      a setting is missing or cannot be used
│   └── TokenMissing        the token is, and nothing else is wrong
├── InvalidArgument         an id, slug or tag that no request is worth
└── APIError                a request was answered badly, or not at all
    ├── Unauthorized        401
    ├── Forbidden           403
    ├── NotFound            404
    ├── UnprocessableEntity 422
    ├── TooManyRequests     429
    ├── ServerError         5xx
    ├── UnexpectedStatus    any other status that is no success
    ├── TransportError      no answer: timed out, cut off
    │   └── ConnectionFailed  nothing was sent
    └── MalformedAnswer     a success that cannot be read
"""

from __future__ import annotations

from collections.abc import Mapping

from tasks.digitalocean.scopes import scope_for


class DigitalOceanError(Exception):
    """Base of all errors of this package."""


class ConfigurationError(DigitalOceanError):
    """A setting is missing or cannot be used."""


class TokenMissing(ConfigurationError):
    """There is no token; nothing else is wrong."""


class InvalidArgument(DigitalOceanError, ValueError):
    """An id, slug or tag that the API could only refuse; nothing was sent."""


class APIError(DigitalOceanError):
    """A request that did not get the answer it was sent for.

    Args:
        method: HTTP method of the request.
        path: Its path, without the host.
        status: HTTP status of the answer, None where there was none.
        error_id: The API's short name for the error, such as `not_found`.
        message: The API's own words, or what happened where it said nothing.
        request_id: What DigitalOcean's support asks for.

    Attributes:
        transient: Whether another attempt may be answered differently.
        untouched: Whether the server certainly did nothing of what was asked.
        advice: What the operator can do about it.
    """

    transient = False
    untouched = False
    advice = ""

    def __init__(  # all positional, so that the exception survives pickling between processes
        self,
        method: str,
        path: str,
        status: int | None = None,
        error_id: str = "",
        message: str = "",
        request_id: str = "",
    ) -> None:
        super().__init__(method, path, status, error_id, message, request_id)
        self.method = method
        self.path = path
        self.status = status
        self.error_id = error_id
        self.message = message
        self.request_id = request_id

    def __str__(self) -> str:
        answer = " ".join(part for part in (str(self.status or ""), self.error_id) if part)
        text = f"{self.method} {self.path}: " + ": ".join(part for part in (answer, self.message) if part)
        if self.request_id:
            text += f" (request id {self.request_id})"
        return f"{text.removesuffix('.')}. {self.advice}" if self.advice else text

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    @property
    def repeatable(self) -> bool:
        """Whether the same request may be sent again without looking first.

        A read always may; a change only if the server certainly did nothing.
        """
        return self.transient and (self.untouched or self.method == "GET")

    @property
    def ambiguous(self) -> bool:
        """Whether a change may have been made although its answer was bad or missing."""
        return self.transient and not self.repeatable


class Unauthorized(APIError):
    """401: the token is missing, wrong or revoked."""

    advice = "Check the token in DIGITALOCEAN_TOKEN"


class Forbidden(APIError):
    """403: the token lacks a scope."""

    @property
    def advice(self) -> str:  # type: ignore[override]  # it depends on the request
        """Name the scope that the refused request needs."""
        scope = scope_for(self.method, self.path)
        needed = f"This request needs the scope {scope}" if scope else "This request needs a scope that the token lacks"
        return f"{needed}: check the scopes of the token in DIGITALOCEAN_TOKEN against the README's list"


class NotFound(APIError):
    """404: there is nothing of that id, or it was deleted meanwhile."""


class UnprocessableEntity(APIError):
    """422: the API understood the request and refuses it."""


class UnexpectedStatus(APIError):
    """A status that the API's description does not lead one to expect."""


class TooManyRequests(APIError):
    """429: a rate limit was hit, and the request was turned away.

    The rate budget has noted when to go on, so the caller only has to ask again.
    """

    transient = True
    untouched = True


class ServerError(APIError):
    """5xx: the server, or a proxy before it, failed at some point of the work."""

    transient = True


class MalformedAnswer(APIError):
    """A success whose body is not what the API's description promises."""

    transient = True


class TransportError(APIError):
    """No answer: timed out or cut off, somewhere between here and the work being done."""

    transient = True


class ConnectionFailed(TransportError):
    """No connection was made, so nothing was sent."""

    untouched = True


BY_STATUS: Mapping[int, type[APIError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    422: UnprocessableEntity,
    429: TooManyRequests,
}


def error_for_status(status: int) -> type[APIError]:
    """Choose the exception for an HTTP status that is no success."""
    return BY_STATUS.get(status) or (ServerError if status >= 500 else UnexpectedStatus)  # noqa: PLR2004
