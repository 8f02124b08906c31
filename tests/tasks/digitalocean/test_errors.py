"""The tree of errors, what they say, and what may be done after each."""

from __future__ import annotations

import pickle

import httpx
import pytest

from tasks.digitalocean import (
    APIError,
    ConfigurationError,
    DigitalOceanError,
    Forbidden,
    InvalidArgument,
    MalformedResponse,
    NotFound,
    ScopeMissing,
    ServerError,
    TooManyRequests,
    TransportError,
    Unauthorized,
    UnexpectedStatus,
    UnprocessableEntity,
)
from tasks.digitalocean.errors import ConnectionFailed, error_for_status
from tasks.digitalocean.responses import parse_response
from tests.tasks.digitalocean.in_process import TOKEN

API_ERRORS = [
    Unauthorized,
    Forbidden,
    ScopeMissing,
    NotFound,
    UnprocessableEntity,
    TooManyRequests,
    ServerError,
    UnexpectedStatus,
    TransportError,
    ConnectionFailed,
    MalformedResponse,
]
# What may be done after each kind: repeat a read, repeat a change; and whether a change may have been made.
FATES = [
    (Unauthorized, False, False, False),
    (Forbidden, True, True, False),
    (ScopeMissing, False, False, False),
    (NotFound, False, False, False),
    (UnprocessableEntity, False, False, False),
    (UnexpectedStatus, True, False, True),
    (TooManyRequests, True, True, False),
    (ConnectionFailed, True, True, False),
    (ServerError, True, False, True),
    (TransportError, True, False, True),
    (MalformedResponse, True, False, True),
]


@pytest.mark.parametrize("kind", API_ERRORS)
def test_one_base_class_catches_every_error_of_a_request(kind: type[APIError]) -> None:
    assert issubclass(kind, APIError)
    assert issubclass(kind, DigitalOceanError)


def test_errors_before_a_request_are_not_api_errors() -> None:
    for kind in (ConfigurationError, InvalidArgument):
        assert issubclass(kind, DigitalOceanError)
        assert not issubclass(kind, APIError)
    assert issubclass(InvalidArgument, ValueError)
    assert issubclass(ConnectionFailed, TransportError)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (300, UnexpectedStatus),
        (302, UnexpectedStatus),
        (400, UnexpectedStatus),
        (401, Unauthorized),
        (403, Forbidden),
        (404, NotFound),
        (409, UnexpectedStatus),
        (422, UnprocessableEntity),
        (429, TooManyRequests),
        (500, ServerError),
        (502, ServerError),
        (503, ServerError),
        (599, ServerError),
    ],
)
def test_every_status_has_its_error(status: int, kind: type[APIError]) -> None:
    assert error_for_status(status) is kind


@pytest.mark.parametrize("kind", API_ERRORS)
def test_messages_contain_everything_that_support_would_ask_for(kind: type[APIError]) -> None:
    error = kind("POST", "/v2/images/7/actions", 418, "teapot", "I am a teapot", "4d9d8375")
    for shown in (str(error), repr(error)):
        for part in ("POST", "/v2/images/7/actions", "418", "teapot", "I am a teapot", "4d9d8375"):
            assert part in shown
    assert kind.__name__ in repr(error)


def test_unknown_details_are_left_out_of_the_message() -> None:
    assert str(NotFound("GET", "/v2/images/7", 404, "not_found", "Gone.")) == "GET /v2/images/7: 404 not_found: Gone."
    assert str(TransportError("GET", "/v2/actions", message="ReadTimeout")) == "GET /v2/actions: ReadTimeout"
    assert str(ServerError("GET", "/v2/actions", 502)) == "GET /v2/actions: 502"


def test_the_error_of_a_rejected_token_names_the_variable() -> None:
    assert "DIGITALOCEAN_TOKEN" in str(Unauthorized("GET", "/v2/actions", 401))
    assert "DIGITALOCEAN_TOKEN" in str(Forbidden("GET", "/v2/actions", 403))


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "/v2/images", "image:read"),
        ("GET", "/v2/images/7", "image:read"),
        ("DELETE", "/v2/images/7", "image:delete"),
        ("GET", "/v2/images/7/actions", "image:read"),
        ("GET", "/v2/images/7/actions/8", "image:read"),
        ("POST", "/v2/images/7/actions", "image:update"),
        ("GET", "/v2/actions", "actions:read"),
        ("GET", "/v2/regions", "regions:read"),
        ("GET", "/v2/droplets", "droplet:read"),
        ("GET", "/v2/snapshots", "snapshot:read"),
        ("POST", "/v2/tags", "tag:create"),
        ("POST", "/v2/tags/prefect:replicated/resources", "tag:create"),
    ],
)
def test_a_403_names_the_scope_that_the_refused_request_needs(method: str, path: str, scope: str) -> None:
    words = "You do not have access for the attempted action."
    assert str(Forbidden(method, path, 403, "forbidden", words)) == (
        f"{method} {path}: 403 forbidden: {words} If this persists, check that the token in DIGITALOCEAN_TOKEN has "
        f"the scope {scope}: see tasks/README.md"
    )
    assert str(ScopeMissing(method, path, 403, "forbidden", words)) == (
        f"{method} {path}: 403 forbidden: {words} The token in DIGITALOCEAN_TOKEN needs the scope {scope}: "
        "see tasks/README.md"
    )


def test_a_403_to_an_unknown_request_still_says_what_to_check() -> None:
    assert "check that the token in DIGITALOCEAN_TOKEN" in str(Forbidden("GET", "/v2/kubernetes/clusters", 403))


@pytest.mark.parametrize("kind", API_ERRORS)
def test_errors_can_be_pickled(kind: type[APIError]) -> None:
    error = kind("POST", "/v2/tags", 418, "teapot", "I am a teapot", "4d9d8375")
    error.not_applied = True
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert type(copy) is kind
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)
    assert (copy.repeatable, copy.ambiguous) == (error.repeatable, error.ambiguous)


@pytest.mark.parametrize(("kind", "read_again", "change_again", "perhaps_changed"), FATES)
def test_whether_a_request_may_be_repeated_depends_on_the_error_and_the_request(
    kind: type[APIError], read_again: bool, change_again: bool, perhaps_changed: bool
) -> None:
    read, change = kind("GET", "/v2/images"), kind("POST", "/v2/images/7/actions")
    assert (read.repeatable, read.ambiguous) == (read_again, False)
    assert (change.repeatable, change.ambiguous) == (change_again, perhaps_changed)


def test_a_change_that_was_verifiably_not_made_may_be_repeated() -> None:
    error = ServerError("POST", "/v2/images/7/actions", 502)
    assert (error.repeatable, error.ambiguous) == (False, True)
    error.not_applied = True
    assert (error.repeatable, error.ambiguous) == (True, False)
    assert ServerError("POST", "/v2/images/7/actions", 502).ambiguous


@pytest.mark.parametrize(
    "body",
    [
        f"Authorization: Bearer {TOKEN}",
        f"<title>Authorization: Bearer {TOKEN}</title>",
        f'{{"id": "bad", "message": "{TOKEN}"}}',
        f'{{"id": "{TOKEN}", "message": "bad"}}',
        f'{{"request_id": "{TOKEN}", "message": "bad"}}',
    ],
)
def test_a_response_that_repeats_the_token_is_quoted_without_it(body: str) -> None:
    with pytest.raises(APIError) as caught:
        parse_response("GET", "/v2/regions", httpx.Response(502, content=body.encode()), secret=TOKEN)
    assert TOKEN not in str(caught.value)
    assert "[token]" in str(caught.value)


def test_a_long_error_page_is_cut_short() -> None:
    with pytest.raises(APIError) as caught:
        parse_response("GET", "/v2/regions", httpx.Response(502, content=b"Sorry. " * 10_000))
    assert len(str(caught.value)) < 1000
