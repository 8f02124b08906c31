"""Pagination of the API's lists, and which entries may be skipped.

https://docs.digitalocean.com/reference/api/digitalocean/#section/Introduction/Links-and-Pagination
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from enum import Enum, auto
from typing import Generic, NamedTuple

from tasks.digitalocean.models import Action
from tasks.digitalocean.responses import Entries, ResourceT, ResponseBody
from tasks.digitalocean.usage import is_news

# 200,000 entries; a list with more pages is assumed to be endless.
MOST_PAGES = 1000

logger = logging.getLogger(__name__)


class Skip(Enum):
    """Which entries of a page may be skipped if they cannot be read."""

    NONE = auto()
    # If none can be read, the response is malformed.
    NOT_ALL = auto()
    ANY = auto()


class Paging(Generic[ResourceT]):
    """The iteration through the pages of one list.

    Args:
        model: The model of an entry.
        key: The key of the list in a response.
        skip: Which entries may be skipped.
        key_as: The attribute that the keys stand for if the list is a map; empty if it is a list.
    """

    def __init__(self, model: type[ResourceT], key: str, skip: Skip = Skip.NONE, key_as: str = "") -> None:
        self._model = model
        self._key = key
        self._skip = skip
        self._key_as = key_as
        self._pages: set[int] = set()
        self._entries = 0

    def read(self, response: ResponseBody, page: int) -> tuple[list[ResourceT], int | None]:
        """Read a page's entries and the number of the next page; None on the last page.

        Raises:
            MalformedResponse: An entry cannot be read and may not be skipped, the pages repeat, or the list has no end.
        """
        if self._key_as:
            response = response.with_list(self._key, self._key_as)
        entries = response.entries(self._model, self._key)
        may_skip = self._skip is Skip.ANY or (self._skip is Skip.NOT_ALL and entries.read)
        if entries.unread and not may_skip:
            raise response.malformed(entries.problem)
        _warn_of_unread(response, entries)
        return list(entries.read), self._after(response, page)

    def _after(self, response: ResponseBody, page: int) -> int | None:
        entries = response.listed(self._key)
        contents = hash(repr(entries))
        following = response.next_page(page)
        total = _total_of(response)
        known = self._entries + len(entries)
        if following is not None and (
            not entries
            or contents in self._pages
            or len(self._pages) == MOST_PAGES
            # A list may grow by less than a page while it is read.
            or (total is not None and known > total + len(entries))
        ):
            raise response.malformed(f"page {page} links to another page, but the list should end there")
        self._pages.add(contents)
        self._entries = known
        return following


class FeedPage(NamedTuple):
    """A page of the account's feed of actions, newest first.

    Attributes:
        actions: The actions that could be read.
        more: Whether there is another page.
        ids: The IDs of all actions on it, including those that cannot be read.
        size: The number of entries.
        unread: IDs of images with an action that cannot be read; None stands for an unknown image.
    """

    actions: list[Action]
    more: bool
    ids: list[int]
    size: int
    unread: Collection[int | None]


def feed_page(response: ResponseBody, page: int) -> FeedPage:
    """Read a page of the account's feed, which has the actions of all kinds of resources."""
    entries = response.entries(Action, "actions")
    _warn_of_unread(response, entries)
    listed = response.listed("actions")
    ids = [each["id"] for each in listed if isinstance(each, dict) and _is_id(each.get("id"))]
    more = response.next_page(page) is not None
    unclear = {action.resource_id for action in entries.read if not _names_its_resource(action)}
    return FeedPage(list(entries.read), more, ids, len(listed), _images_of(entries.unread) | unclear)


def _warn_of_unread(response: ResponseBody, entries: Entries[ResourceT]) -> None:
    """Warn of skipped entries, once per run and list."""
    if entries.unread and is_news(response.path):
        logger.warning(
            "%s: skipping entries that cannot be read, %d of %d on this page (the first: %s)",
            response.path,
            len(entries.unread),
            len(entries.read) + len(entries.unread),
            entries.problem,
        )


def _names_its_resource(action: Action) -> bool:
    return bool(action.resource_type) and (action.resource_type != "image" or action.resource_id is not None)


def _images_of(unread: Sequence[object]) -> set[int | None]:
    found: set[int | None] = set()
    for entry in unread:
        if isinstance(entry, dict) and entry.get("resource_type", "image") == "image":
            image_id = entry.get("resource_id")
            found.add(image_id if _is_id(image_id) else None)
    return found


def _total_of(response: ResponseBody) -> int | None:
    meta = response.body.get("meta")
    total = meta.get("total") if isinstance(meta, dict) else None
    return total if _is_id(total) else None


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
