"""Lists of the API: how they are gone through to their end, and what may be skipped in them."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from typing import NamedTuple

from tasks.digitalocean.models import Action, Droplet, Image, Region, Snapshot
from tasks.digitalocean.responses import Entries, ResourceT, ResponseBody
from tasks.digitalocean.usage import is_news

# 200,000 entries. What has more pages has no end.
MOST_PAGES = 1000

logger = logging.getLogger(__name__)


class Paging:
    """The way through one list, page after page.

    Args:
        key: Where in an answer the list is.
    """

    def __init__(self, key: str) -> None:
        self._key = key
        self._pages: set[int] = set()
        self._entries = 0

    def after(self, answer: ResponseBody, page: int) -> int | None:
        """Find the number of the page after one that was read; None on the last.

        Raises:
            MalformedResponse: The list goes round in a circle, or on and on.
        """
        entries = answer.listed(self._key)
        contents = hash(repr(entries))
        following = answer.next_page(page)
        total = _total_of(answer)
        known = self._entries + len(entries)
        if following is not None and (
            not entries
            or contents in self._pages
            or len(self._pages) == MOST_PAGES
            # A list may grow while it is read, by less than a page.
            or (total is not None and known > total + len(entries))
        ):
            raise answer.malformed(f"page {page} links to a further one, as if the list had no end")
        self._pages.add(contents)
        self._entries = known
        return following


class FeedPage(NamedTuple):
    """A page of the account's feed of actions, newest first.

    Attributes:
        actions: The actions that could be read.
        more: Whether there is a further page.
        ids: The ids of all actions on it, also of those that cannot be read.
        size: How many entries it has.
        unread: Images of which an action cannot be read; None stands for an image that cannot be named.
    """

    actions: list[Action]
    more: bool
    ids: list[int]
    size: int
    unread: Collection[int | None]


def feed_page(answer: ResponseBody, page: int) -> FeedPage:
    """Read a page of the account's feed, which holds the actions of all kinds of resources."""
    entries = answer.entries(Action, "actions")
    _warn_of_unread(answer, entries)
    listed = answer.listed("actions")
    ids = [each["id"] for each in listed if isinstance(each, dict) and _is_id(each.get("id"))]
    more = answer.next_page(page) is not None
    unclear = {action.resource_id for action in entries.read if not _names_its_resource(action)}
    return FeedPage(list(entries.read), more, ids, len(listed), _images_of(entries.unread) | unclear)


def snapshots(answer: ResponseBody) -> list[Snapshot]:
    """Read snapshots, among which there may be volumes'; what cannot be read is never deleted."""
    entries = answer.entries(Snapshot, "snapshots")
    _warn_of_unread(answer, entries)
    return list(entries.read)


def images(answer: ResponseBody) -> list[Image]:
    """Read images. A Droplet's backups are asked for one by one where they are not among them."""
    return _most(answer, answer.entries(Image, "images"))


def image_actions(answer: ResponseBody) -> list[Action]:
    """Read the actions of an image, every one of which may matter."""
    return answer.many(Action, "actions")


def droplets(answer: ResponseBody) -> list[Droplet]:
    """Read Droplets, none of which may be left out."""
    return answer.many(Droplet, "droplets")


def regions(answer: ResponseBody) -> list[Region]:
    """Read regions. One that cannot be read is not copied to."""
    return _most(answer, answer.entries(Region, "regions"))


def _most(answer: ResponseBody, entries: Entries[ResourceT]) -> list[ResourceT]:
    """Skip what cannot be read, unless nothing can: then it is the answer that is wrong."""
    if entries.unread and not entries.read:
        raise answer.malformed(entries.problem)
    _warn_of_unread(answer, entries)
    return list(entries.read)


def _warn_of_unread(answer: ResponseBody, entries: Entries[ResourceT]) -> None:
    """Tell of entries that are skipped, once a run for each list."""
    if entries.unread and is_news(answer.path):
        logger.warning(
            "%s holds entries that cannot be read and are skipped, on this page %d of %d (the first: %s)",
            answer.path,
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


def _total_of(answer: ResponseBody) -> int | None:
    meta = answer.body.get("meta")
    total = meta.get("total") if isinstance(meta, dict) else None
    return total if _is_id(total) else None


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
