"""Finds the snapshots that completed actions have made: an action does not tell the ID of its snapshot."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from flows.snapshots.planning import image_of
from tasks.digitalocean import APIError, Connection, Image, NotFound, Unauthorized
from tasks.digitalocean.client import LARGEST_PAGE
from tasks.droplet_actions import list_snapshots_of_droplet
from tasks.snapshots import list_snapshots

# The account's list is read once it shows so many new snapshots for each of its pages, or after so many longest poll
# intervals: copies of other snapshots keep the run busy meanwhile.
SNAPSHOTS_PER_PAGE = 10
LONGEST_INTERVALS = 5
# A list may show a snapshot only some time after its action has completed. Pauses between tries double, from the
# shortest to the longest poll interval: about five minutes in total with the defaults.
MOST_TRIES = 7

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class Wanted:
    """A snapshot to be found.

    Attributes:
        droplet_id: Its Droplet.
        chosen: Chooses it from the Droplet's snapshots; returns None if it is not among them.
        result: The snapshot, or None if it is not listed.
        due: When to look at the latest, by the event loop's clock.
        tries: How often it was looked for.
    """

    droplet_id: int
    chosen: Callable[[list[Image]], Image | None]
    result: asyncio.Future[Image | None]
    due: float
    tries: int = 0


class SnapshotFinder:
    """Finds snapshots; one list serves all actions that have completed since the last one.

    Args:
        connection: The API.
        listed: How many snapshots the account has.
        running: Returns how many actions are still awaited.
    """

    def __init__(self, connection: Connection, listed: int, running: Callable[[], int]) -> None:
        self._connection = connection
        self._settings = connection.settings
        self._pages = _pages_of(listed)
        self._running = running
        self._wanted: list[Wanted] = []
        self._changed = asyncio.Event()

    async def find(self, droplet_id: int, chosen: Callable[[list[Image]], Image | None]) -> Image | None:
        """Find a snapshot.

        Args:
            droplet_id: Its Droplet.
            chosen: Chooses it from the Droplet's snapshots; returns None if it is not among them.

        Returns:
            The snapshot; None if it has not been listed for minutes.

        Raises:
            APIError: The snapshots cannot be listed.
        """
        clock = asyncio.get_running_loop()
        latest = clock.time() + LONGEST_INTERVALS * self._settings.poll_interval_max_seconds
        wanted = Wanted(droplet_id, chosen, clock.create_future(), latest)
        self._wanted.append(wanted)
        self._changed.set()
        return await wanted.result

    def note_end(self) -> None:
        """Note that fewer actions are awaited."""
        self._changed.set()

    async def run(self) -> None:
        """Serve `find` until cancelled."""
        while True:
            self._changed.clear()
            pause = self._pause()
            if pause > 0:
                try:
                    async with asyncio.timeout(pause if pause < float("inf") else None):
                        await self._changed.wait()
                except TimeoutError:
                    pass
                continue
            await self._look()

    def _pause(self) -> float:
        """Compute how long to wait for further actions to complete before the next list."""
        if not self._wanted:
            return float("inf")
        new = [each for each in self._wanted if not each.tries]
        if len(new) >= SNAPSHOTS_PER_PAGE * self._pages or (new and not self._running()):
            return 0.0
        return max(min(each.due for each in self._wanted) - asyncio.get_running_loop().time(), 0.0)

    async def _look(self) -> None:
        looked_for, self._wanted = self._wanted, []
        failure: APIError | None = None
        found: dict[int, list[Image]] = {}
        try:
            found = await self._list(looked_for)
        except APIError as error:
            failure = error
            logger.warning("Could not list the new snapshots: %s", error)
        except Exception as error:  # noqa: BLE001  # raised by each `find`, which would wait forever
            _fail(looked_for, error)
            return
        for each in looked_for:
            each.tries += 1
            snapshot = each.chosen(found.get(each.droplet_id, []))
            if each.result.done():
                continue
            if snapshot is None and each.tries < MOST_TRIES and not isinstance(failure, Unauthorized):
                # One that was not listed is looked for again later and later.
                each.due = asyncio.get_running_loop().time() + self._settings.pause_after(each.tries)
                self._wanted.append(each)
            elif failure:
                _fail([each], failure)
            else:
                each.result.set_result(snapshot)

    async def _list(self, looked_for: list[Wanted]) -> dict[int, list[Image]]:
        """List the snapshots of these Droplets with as few requests as possible."""
        droplet_ids = {each.droplet_id for each in looked_for}
        if len(droplet_ids) < self._pages:
            try:
                return {
                    each: await list_snapshots_of_droplet.run(each, credentials=self._connection)
                    for each in droplet_ids
                }
            except NotFound as error:
                # The account's list still shows the snapshots of a Droplet that was destroyed.
                logger.debug("Could not list the snapshots of a Droplet: %s", error)
        listed = await list_snapshots.run(credentials=self._connection)
        self._pages = _pages_of(len(listed))
        found: dict[int, list[Image]] = {}
        for snapshot in listed:
            found.setdefault(snapshot.resource_id, []).append(image_of(snapshot))
        return found


def _fail(wanted: list[Wanted], error: Exception) -> None:
    for each in wanted:
        if not each.result.done():
            each.result.set_exception(error)


def _pages_of(entries: int) -> int:
    return max(-(-entries // LARGEST_PAGE), 1)
