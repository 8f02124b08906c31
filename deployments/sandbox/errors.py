"""The API's error responses."""

from __future__ import annotations

from collections.abc import Mapping


class ApiError(Exception):
    """An error response: a status and a body."""

    def __init__(self, status: int, body: Mapping[str, object]) -> None:
        super().__init__(f"{status} {body}")
        self.status = status
        self.body = body


def error(status: int, code: str, message: str) -> ApiError:
    """An error with the `id` and `message` that all endpoints but those of tags use."""
    return ApiError(status, {"id": code, "message": message})


def bad_request(message: str) -> ApiError:
    """The request cannot be parsed."""
    return error(400, "bad_request", message)


def forbidden() -> ApiError:
    """The resource belongs to DigitalOcean, or the token lacks the scope."""
    return error(403, "forbidden", "You do not have access for the attempted action.")


def not_found() -> ApiError:
    """The resource does not exist."""
    return error(404, "not_found", "The resource you requested could not be found.")


def unprocessable(message: str) -> ApiError:
    """The request is valid JSON, but cannot be carried out."""
    return error(422, "unprocessable_entity", message)
