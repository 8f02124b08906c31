"""Destroys the Droplets of drills, and nothing else."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

from prefect import get_run_logger

from flows.recovery.markers import DRILL
from flows.reporting.drill_report import NotDestroyed
from flows.waiting import waiting_for
from tasks.api_task import run_blocking
from tasks.digitalocean import APIError, Connection, Droplet, Forbidden, ScopeMissing, Size, Unauthorized
from tasks.digitalocean.errors import MOST_REFUSALS
from tasks.droplets import destroy_droplet, list_droplets

# In intervals of the setting `poll_interval_seconds`: ten minutes by default. A Droplet that is still being created
# cannot be destroyed.
MOST_ATTEMPTS = 120

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Leftover:
    """A Droplet of a drill that could not be destroyed.

    Attributes:
        why: Why not.
    """

    droplet: Droplet
    why: str


@dataclass(frozen=True)
class Destruction:
    """What was destroyed.

    Attributes:
        destroyed_at: When each Droplet was found gone, by ID.
        leftovers: What could not be destroyed.
    """

    destroyed_at: dict[int, datetime]
    leftovers: tuple[Leftover, ...] = ()


def is_of_a_drill(droplet: Droplet) -> bool:
    """Whether a drill created a Droplet: it has the tag, and the marker of the image that it was created from."""
    return DRILL.tag in droplet.tags and bool(droplet.image_id) and _marker(droplet) in droplet.tags


def destroy_drills(connection: Connection, known: Collection[Droplet] = ()) -> Destruction:
    """Destroy all Droplets of drills, of this run and of earlier ones, and wait until they are gone.

    Args:
        connection: The API.
        known: Those that are known to exist.

    Raises:
        APIError: The Droplets cannot be listed, and none is known.
    """
    with waiting_for("Destroying the drill's Droplets", connection):
        try:
            tagged = [each for each in list_droplets(DRILL.tag, credentials=connection) if DRILL.tag in each.tags]
        except APIError as error:
            if not known:
                raise
            logger.warning("Droplets of drills cannot be listed, so others than this run's may remain: %s", error)
            tagged = list(known)
        tagged += run_blocking(_unlisted(known, {each.id for each in tagged}, connection))
        destroyed, leftovers = {}, []
        for droplet, result in zip(tagged, run_blocking(_destroy_all(tagged, connection)), strict=True):
            if isinstance(result, datetime):
                destroyed[droplet.id] = result
            else:
                leftovers.append(Leftover(droplet, str(result)))
                # Here too, because the run may fail before it has a report.
                get_run_logger().error("Droplet %d, %s, still exists: %s", droplet.id, droplet.name, result)
    return Destruction(destroyed, tuple(leftovers))


async def _unlisted(known: Iterable[Droplet], listed: Collection[int], connection: Connection) -> list[Droplet]:
    """Find those that exist, but are not listed: a new Droplet may take a moment to appear."""
    found = []
    for droplet in known:
        if droplet.id not in listed:
            try:
                found.append(await connection.client.find_droplet(droplet.id))
            except APIError:
                found.append(droplet)
    return [each for each in found if each]


async def _destroy_all(droplets: Iterable[Droplet], connection: Connection) -> list[datetime | BaseException]:
    return await asyncio.gather(*(_destroy(each, connection) for each in droplets), return_exceptions=True)


async def _destroy(droplet: Droplet, connection: Connection) -> datetime:
    """Destroy a Droplet; returns when it was found gone.

    Raises:
        NotOfADrill: It is not certain that a drill created it.
        APIError: It cannot be destroyed.
    """
    if not is_of_a_drill(droplet):
        raise NotOfADrill
    for attempt in range(1, MOST_ATTEMPTS + 1):
        try:
            await destroy_droplet.run(droplet.id, credentials=connection)
            if await connection.client.find_droplet(droplet.id) is None:
                break
        except (Unauthorized, ScopeMissing):
            raise
        except APIError as error:
            # Each attempt has been repeated after a 403.
            if isinstance(error, Forbidden) and error.method == "DELETE" and attempt >= MOST_REFUSALS:
                raise ScopeMissing(error.method, error.path, error.status, error.error_id, error.message) from error
            if attempt == MOST_ATTEMPTS:
                raise
            logger.info("Droplet %d is not destroyed yet: %s", droplet.id, error)
        await asyncio.sleep(connection.settings.poll_interval_seconds)
    else:
        raise StillThere
    return connection.client.server_clock.now()


class NotOfADrill(Exception):
    """A Droplet lacks the tag of drills, or the marker of its image."""

    def __str__(self) -> str:
        return f"it may not have been created by a drill; if it was not, remove the tag {DRILL.tag}"


class StillThere(Exception):
    """A Droplet was destroyed, but the API still lists it."""

    def __str__(self) -> str:
        return "the API accepted the request to destroy it, but it still exists"


def _marker(droplet: Droplet) -> str:
    return DRILL.marker(None, droplet.image_id or 0)


def not_destroyed(leftover: Leftover, sizes: Iterable[Size]) -> NotDestroyed:
    """Describe a Droplet that still exists, for the report."""
    droplet = leftover.droplet
    price = next((size.price_hourly for size in sizes if size.slug == droplet.size_slug), None)
    return NotDestroyed(droplet_id=droplet.id, name=droplet.name, price_hourly=price, why=leftover.why)
