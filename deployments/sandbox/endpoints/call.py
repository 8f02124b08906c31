"""A request as the endpoints see it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from deployments.sandbox.account import Account, Fate
from deployments.sandbox.bodies import Body
from deployments.sandbox.errors import bad_request, not_found, unprocessable
from deployments.sandbox.pages import Page
from deployments.sandbox.responses import ResponseBody, json_answer

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Call:
    """One request, read as far as every endpoint needs it."""

    account: Account
    now: float
    base_url: str
    path: str
    params: Mapping[str, str]
    query: Mapping[str, str]
    body: object = None
    fate: Fate = field(default_factory=Fate)

    def body_field(self, name: str) -> object:
        """A field of the request's body, None if it is absent.

        Raises:
            ApiError: If the body is not an object.
        """
        if not isinstance(self.body, dict):
            raise bad_request("The request body must be a JSON object.")
        return self.body.get(name)

    def one_of(self, name: str, choices: Sequence[str]) -> str | None:
        """A query parameter that has few values, None if it is absent.

        Raises:
            ApiError: If it has another value.
        """
        value = self.query.get(name)
        if value is not None and value not in choices:
            raise unprocessable(f"{name} must be one of: {', '.join(choices)}.")
        return value

    def listing(self, name: str, items: Sequence[Item], body: Callable[[Item], Body]) -> ResponseBody:
        """Answer with the page of a list that was asked for."""
        page = Page.asked_for(self.query, self.account.behavior.max_per_page)
        links = page.links(len(items), self.base_url + self.path, self.query)
        shown = [body(item) for item in page.of(items)]
        return json_answer(200, {name: shown, "links": links, "meta": {"total": len(items)}})


Endpoint = Callable[[Call], ResponseBody]


def find(known: Mapping[int, Item], text: str) -> Item:
    """What a path or a body names by its id.

    Raises:
        ApiError: If there is no such thing.
    """
    found = known.get(int(text)) if text.isascii() and text.isdigit() else None
    if found is None:
        raise not_found()
    return found
