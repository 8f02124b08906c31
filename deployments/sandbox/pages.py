"""Pagination, with links to the other pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlencode

from deployments.sandbox.errors import unprocessable

DEFAULT_PER_PAGE = 20

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Page:
    """The requested page of a list."""

    number: int
    size: int

    @classmethod
    def asked_for(cls, query: Mapping[str, str], max_per_page: int) -> Page:
        """Read `page` and `per_page`, which is capped at `max_per_page`.

        Raises:
            ApiError: One of them is not a positive number.
        """
        number = _positive(query, "page", 1)
        size = _positive(query, "per_page", DEFAULT_PER_PAGE)
        return cls(number, min(size, max_per_page))

    def of(self, items: Sequence[Item]) -> Sequence[Item]:
        """The items on this page."""
        start = (self.number - 1) * self.size
        return items[start : start + self.size]

    def links(self, total: int, url: str, query: Mapping[str, str]) -> dict[str, object]:
        """The links to the other pages of a list; the first and the last page have only two.

        Args:
            total: The length of the whole list.
            url: The list's URL.
            query: The query of the request, which the links keep.

        Returns:
            The `links` object; empty if there is only one page.
        """
        last = max(1, -(-total // self.size))
        numbers: dict[str, int] = {}
        if self.number > 1:
            numbers |= {"first": 1, "prev": min(self.number - 1, last)}
        if self.number < last:
            numbers |= {"next": self.number + 1, "last": last}
        pages = {
            name: f"{url}?{urlencode({**query, 'page': number, 'per_page': self.size})}"
            for name, number in numbers.items()
        }
        return {"pages": pages} if pages else {}


def _positive(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name, str(default))
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise unprocessable(f"{name} must be a positive number.")
    return int(text)
