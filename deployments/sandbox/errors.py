"""What the API says when it will not do what it was asked."""

from __future__ import annotations

from collections.abc import Mapping


class ApiError(Exception):
    """A refusal, as the client sees it: a status and a body."""

    def __init__(self, status: int, body: Mapping[str, object]) -> None:
        super().__init__(f"{status} {body}")
        self.status = status
        self.body = body


def error(status: int, code: str, message: str) -> ApiError:
    """The usual error, with the `id` and `message` that all but the tags' endpoints use."""
    return ApiError(status, {"id": code, "message": message})


def bad_request(message: str) -> ApiError:
    """The request cannot be read."""
    return error(400, "bad_request", message)


def forbidden() -> ApiError:
    """The resource is not the account's, but DigitalOcean's, or out of the scopes of the token."""
    return error(403, "forbidden", "You do not have access for the attempted action.")


def not_found() -> ApiError:
    """The resource does not exist."""
    return error(404, "not_found", "The resource you requested could not be found.")


def unprocessable(message: str) -> ApiError:
    """The request can be read, but not be carried out."""
    return error(422, "unprocessable_entity", message)
