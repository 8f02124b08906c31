"""Everything that can go wrong between this project and the API.

DigitalOceanError
├── ConfigurationError      a setting is missing or cannot be used
│   └── TokenMissing        the token is, and nothing else is wrong
├── InvalidArgument         an id, slug or tag that no request is worth
├── DeadlineExceeded        the time for a run was over before it could begin
└── APIError                a request was answered badly, or not at all
    ├── Unauthorized        401
    ├── Forbidden           403, which may pass
    │   └── ScopeMissing    403, and the token lacks the scope
    ├── NotFound            404
    ├── UnprocessableEntity 422
    ├── TooManyRequests     429
    ├── ServerError         5xx
    ├── UnexpectedStatus    any other status that is not a success
    ├── TransportError      no answer: timed out, cut off
    │   └── ConnectionFailed  nothing was sent
    └── MalformedResponse     a success that cannot be read
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from tasks.digitalocean.scopes import scope_for

# A change is refused with 403 so often in a row before the token counts as lacking the scope. For a read, a control
# request can tell; one that changes nothing needs another scope.
MOST_REFUSALS = 3


class DigitalOceanError(Exception):
    """Base of all errors of this package."""


class ConfigurationError(DigitalOceanError):
    """A setting is missing or cannot be used."""


class TokenMissing(ConfigurationError):
    """The token is missing; nothing else is wrong."""


class InvalidArgument(DigitalOceanError, ValueError):
    """An id, slug or tag that the API could only refuse; nothing was sent."""


class DeadlineExceeded(DigitalOceanError):
    """The time for a run was over before it could begin; nothing was started."""


class APIError(DigitalOceanError):
    """A request that failed.

    Args:
        method: HTTP method of the request.
        path: Its path, without the host.
        status: HTTP status of the answer, None where there was none.
        error_id: The API's short name for the error, such as `not_found`.
        message: The API's own words, or what happened where it said nothing.
        request_id: What DigitalOcean's support asks for.

    Attributes:
        transient: Whether another attempt may be answered differently.
        not_applied: Whether the server certainly did nothing of what was asked.
        advice: What the operator can do about it.
    """

    transient = False
    not_applied = False
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
        return self.transient and (self.not_applied or self.method == "GET")

    def for_request(self, method: str, path: str) -> Self:
        """The same refusal for another request, which was not sent because it would be refused as well.

        Args:
            method: HTTP method of that request.
            path: Its path, without the host.
        """
        return type(self)(method, path, self.status, self.error_id, self.message)

    @property
    def ambiguous(self) -> bool:
        """Whether a change may have been made although its answer was bad or missing."""
        return self.transient and not self.repeatable


class Unauthorized(APIError):
    """401: the token is missing, wrong or revoked."""

    advice = "Check the token in DIGITALOCEAN_TOKEN"


class Forbidden(APIError):
    """403: the request was refused, which may pass: refusals of requests that worked before were seen in the field.

    The request was not carried out: the right to do so is checked first.
    https://github.com/OpenRouterLabs/spawn/issues/2549
    """

    transient = True
    not_applied = True

    @property
    def scope(self) -> str:
        """The scope that the request needs, such as `image:read`; empty for one that this project does not send."""
        return scope_for(self.method, self.path)

    @property
    def advice(self) -> str:  # type: ignore[override]  # it depends on the request
        """What the user can do about it."""
        needed = f"the scope {self.scope}" if self.scope else "its scope"
        return f"If this persists, check that the token in DIGITALOCEAN_TOKEN has {needed}: see tasks/README.md"


class ScopeMissing(Forbidden):
    """403, and not by chance: the token lacks the scope, so that others of its kind would be refused as well."""

    transient = False

    @property
    def advice(self) -> str:  # type: ignore[override]  # it depends on the request
        """What the user has to do about it."""
        needed = f"the scope {self.scope}" if self.scope else "a scope that it lacks"
        return f"The token in DIGITALOCEAN_TOKEN needs {needed}: see tasks/README.md"


class NotFound(APIError):
    """404: the resource does not exist, or not yet. Only the 404 of an image itself means that it was deleted.

    https://github.com/digitalocean/api-v2/issues/26, https://github.com/digitalocean/doctl/issues/192
    """


class UnprocessableEntity(APIError):
    """422: the API understood the request and refuses it."""


class UnexpectedStatus(APIError):
    """A status that is not in the API's description, often a proxy's; what was done is unknown."""

    transient = True


class TooManyRequests(APIError):
    """429: a rate limit was hit, and the request was turned away.

    The rate limiter has noted when to go on, so the caller only has to retry.
    """

    transient = True
    not_applied = True


class ServerError(APIError):
    """5xx: the server, or a proxy before it, failed at some point of the work."""

    transient = True


class MalformedResponse(APIError):
    """A success whose body is not what the API's description promises."""

    transient = True


class TransportError(APIError):
    """No answer: timed out or cut off, somewhere between here and the work being done."""

    transient = True


class ConnectionFailed(TransportError):
    """No connection was made, so nothing was sent."""

    not_applied = True


BY_STATUS: Mapping[int, type[APIError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    422: UnprocessableEntity,
    429: TooManyRequests,
}


def collection_of(path: str) -> str:
    """Name the list that a path belongs to: all of `/v2/images/7/actions` is under `/v2/images`."""
    return "/".join(path.split("/")[:3])


def error_for_status(status: int) -> type[APIError]:
    """Choose the exception for an HTTP status that is not a success."""
    return BY_STATUS.get(status) or (ServerError if status >= 500 else UnexpectedStatus)  # noqa: PLR2004
