"""The errors of the API client.

DigitalOceanError
├── ConfigurationError      a setting is missing or not valid
│   └── TokenMissing        only the token is missing
├── InvalidArgument         an ID, slug or tag is not valid; nothing was sent
├── DeadlineExceeded        the time limit of a run was reached
└── APIError                an error response, a malformed one, or none
    ├── Unauthorized        401
    ├── Forbidden           403, perhaps transient
    │   └── ScopeMissing    403, and the token lacks the scope
    ├── NotFound            404
    ├── UnprocessableEntity 422
    ├── TooManyRequests     429
    ├── ServerError         5xx
    ├── UnexpectedStatus    any other status that is not a success
    ├── TransportError      no response: timeout or broken connection
    │   └── ConnectionFailed  nothing was sent
    └── MalformedResponse   a success that cannot be read
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

# Of tokens: https://docs.digitalocean.com/reference/api/scopes/
SCOPES = {
    "account": "account",
    "actions": "actions",
    "droplets": "droplet",
    "firewalls": "firewall",
    "images": "image",
    "regions": "regions",
    "sizes": "sizes",
    "snapshots": "snapshot",
    "tags": "tag",
    "volumes": "block_storage",
    "vpcs": "vpc",
}
SSH_KEYS_PATH = "/v2/account/keys"
VERBS = {"GET": "read", "POST": "create", "DELETE": "delete"}
# After this many 403s in a row for changes, the token is assumed to lack the scope. For reads, reading the collection
# shows it; for changes, no harmless request needs the same scope.
MOST_REFUSALS = 3


class DigitalOceanError(Exception):
    """Base of all errors of this package."""


class ConfigurationError(DigitalOceanError):
    """A setting is missing or not valid."""


class TokenMissing(ConfigurationError):
    """The token is missing; everything else is valid."""


class InvalidArgument(DigitalOceanError, ValueError):
    """An ID, slug or tag is not valid; nothing was sent."""


class DeadlineExceeded(DigitalOceanError):
    """The time limit of a run was reached."""


class APIError(DigitalOceanError):
    """A request got an error response, a malformed one, or none.

    Args:
        method: HTTP method of the request.
        path: Its path, without the host.
        status: HTTP status of the response; None without a response.
        error_id: The API's short name for the error, such as `not_found`.
        message: The API's message, or what happened without one.
        request_id: The API's request ID, for DigitalOcean's support.

    Attributes:
        transient: Whether another attempt may succeed.
        not_applied: Whether the server has definitely not carried out the request.
        advice: What the user can do about it.
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
        status = " ".join(part for part in (str(self.status or ""), self.error_id) if part)
        text = f"{self.method} {self.path}: " + ": ".join(part for part in (status, self.message) if part)
        if self.request_id:
            text += f" (request ID {self.request_id})"
        return f"{text.removesuffix('.')}. {self.advice}" if self.advice else text

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    @property
    def repeatable(self) -> bool:
        """Whether the same request may be sent again without reading the state first.

        A read always may; a change only if the server has definitely not carried it out.
        """
        return self.transient and (self.not_applied or self.method == "GET")

    def for_request(self, method: str, path: str) -> Self:
        """The same error for a request that was not sent because it would get the same response.

        Args:
            method: HTTP method of that request.
            path: Its path, without the host.
        """
        return type(self)(method, path, self.status, self.error_id, self.message)

    @property
    def ambiguous(self) -> bool:
        """Whether a change may have been carried out in spite of the error."""
        return self.transient and not self.repeatable


class Unauthorized(APIError):
    """401: the token is missing, wrong or revoked."""

    advice = "Check the token in DIGITALOCEAN_TOKEN"


class Forbidden(APIError):
    """403: the request was refused, perhaps temporarily: requests that worked before have been refused.

    It was not carried out, because permissions are checked first.
    https://github.com/OpenRouterLabs/spawn/issues/2549
    """

    transient = True
    not_applied = True

    @property
    def scope(self) -> str:
        """The scope that the request needs, such as `image:read`; empty if this project does not send it."""
        _, _, collection, *rest = (*self.path.split("/"), "", "")
        resource = "ssh_key" if self.path == SSH_KEYS_PATH else SCOPES.get(collection)
        verb = VERBS.get(self.method)
        if not resource or not verb:
            return ""
        # An action on an image or a Droplet needs the scope to update it.
        return f"{resource}:{'update' if self.method == 'POST' and 'actions' in rest else verb}"

    @property
    def advice(self) -> str:  # type: ignore[override]  # it depends on the request
        """What the user can do about it."""
        needed = f"the scope {self.scope}" if self.scope else "its scope"
        return f"If this persists, check that the token in DIGITALOCEAN_TOKEN has {needed}: see tasks/README.md"


class ScopeMissing(Forbidden):
    """403, because the token lacks the scope: all requests that need it would be refused."""

    transient = False

    @property
    def advice(self) -> str:  # type: ignore[override]  # it depends on the request
        """What the user can do about it."""
        needed = f"the scope {self.scope}" if self.scope else "a scope that it lacks"
        return f"The token in DIGITALOCEAN_TOKEN needs {needed}: see tasks/README.md"


class NotFound(APIError):
    """404: the object does not exist, or not yet; only the 404 of an image itself means that it was deleted.

    https://github.com/digitalocean/api-v2/issues/26, https://github.com/digitalocean/doctl/issues/192
    """


class UnprocessableEntity(APIError):
    """422: the API understood the request and refused it."""


class UnexpectedStatus(APIError):
    """A status that the API's documentation does not mention, often from a proxy."""

    transient = True


class TooManyRequests(APIError):
    """429: a rate limit was hit, and the request was refused.

    The rate limiter knows when to go on, so the caller can retry at once.
    """

    transient = True
    not_applied = True


class ServerError(APIError):
    """5xx: the server or a proxy in front of it failed, perhaps after the request was carried out."""

    transient = True


class MalformedResponse(APIError):
    """A success with a body that does not match the API's documentation."""

    transient = True


class TransportError(APIError):
    """No response: a timeout or broken connection, perhaps after the request was carried out."""

    transient = True


class ConnectionFailed(TransportError):
    """Could not connect; nothing was sent."""

    not_applied = True


BY_STATUS: Mapping[int, type[APIError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    422: UnprocessableEntity,
    429: TooManyRequests,
}


def collection_of(path: str) -> str:
    """The collection of a path, such as `/v2/images` for `/v2/images/7/actions`."""
    return path if path == SSH_KEYS_PATH else "/".join(path.split("/")[:3])


def error_for_status(status: int) -> type[APIError]:
    """Choose the exception for an HTTP status that is not a success."""
    return BY_STATUS.get(status) or (ServerError if status >= 500 else UnexpectedStatus)  # noqa: PLR2004
