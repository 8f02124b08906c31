"""A parsed request, as endpoints get it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from deployments.sandbox.account import Account, Fate
from deployments.sandbox.bodies import Body
from deployments.sandbox.errors import bad_request, not_found, unprocessable
from deployments.sandbox.pages import Page
from deployments.sandbox.responses import ResponseBody, json_response

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Call:
    """One request, parsed."""

    account: Account
    now: float
    base_url: str
    path: str
    params: Mapping[str, str]
    query: Mapping[str, str]
    body: object = None
    fate: Fate = field(default_factory=Fate)
    lag: float = 0.0
    """How long a destroyed Droplet is still listed."""

    def body_field(self, name: str) -> object:
        """A field of the request's body; None if it is missing.

        Raises:
            ApiError: The body is not an object.
        """
        if not isinstance(self.body, dict):
            raise bad_request("The request body must be a JSON object.")
        return self.body.get(name)

    def one_of(self, name: str, choices: Sequence[str]) -> str | None:
        """A query parameter with a fixed set of values; None if it is missing.

        Raises:
            ApiError: It has another value.
        """
        value = self.query.get(name)
        if value is not None and value not in choices:
            raise unprocessable(f"{name} must be one of: {', '.join(choices)}.")
        return value

    def listing(self, name: str, items: Sequence[Item], body: Callable[[Item], Body]) -> ResponseBody:
        """Respond with the requested page of a list."""
        return self.page(name, items, lambda shown: [body(item) for item in shown])

    def page(self, name: str, items: Sequence[Item], body: Callable[[Sequence[Item]], object]) -> ResponseBody:
        """Respond with the requested page, whose items may be shown as something other than a list."""
        page = Page.asked_for(self.query, self.account.behavior.max_per_page)
        links = page.links(len(items), self.base_url + self.path, self.query)
        return json_response(200, {name: body(page.of(items)), "links": links, "meta": {"total": len(items)}})


Endpoint = Callable[[Call], ResponseBody]


def find(known: Mapping[int, Item], text: str) -> Item:
    """Find an object by the ID in a path or body.

    Raises:
        ApiError: It does not exist.
    """
    found = known.get(int(text)) if text.isascii() and text.isdigit() else None
    if found is None:
        raise not_found()
    return found


def find_named(known: Mapping[str, Item], name: str) -> Item:
    """Find an object by the name or UUID in a path or query.

    Raises:
        ApiError: It does not exist.
    """
    found = known.get(name)
    if found is None:
        raise not_found()
    return found
