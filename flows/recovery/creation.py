"""Creates Droplets and waits until they are active; one poll covers all of them."""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from flows.recovery.markers import Purpose
from flows.recovery.preflight import RestorePlan, Step
from flows.waiting import waiting_for
from tasks.api_task import LONGEST_ENDING_SECONDS, run_blocking
from tasks.digitalocean import (
    APIError,
    Connection,
    CreateDroplet,
    Droplet,
    Forbidden,
    ScopeMissing,
    Unauthorized,
    UnprocessableEntity,
)
from tasks.digitalocean.errors import MOST_REFUSALS
from tasks.digitalocean.rate_limiter import READ
from tasks.droplet_actions import list_droplet_actions
from tasks.droplets import create_droplet, destroy_droplet, list_droplets_tagged

# In intervals of the setting `poll_interval_seconds`, 5 s by default. A Droplet is usually active after 20 to 60 s, so
# earlier polls would find nothing.
TO_FIRST_POLL, BETWEEN_POLLS, LONGEST_BETWEEN_POLLS = 5, 4, 12
# A Droplet that is still new after this time may have failed: its actions tell.
UNTIL_SUSPECT = 18

logger = logging.getLogger(__name__)


class DropletLost(Exception):
    """A Droplet disappeared while it was being created."""


@dataclass
class Created:
    """The state of one Droplet of the plan.

    Attributes:
        droplet: The latest Droplet created for it, or None yet.
        requested_at: When it was requested, by the event loop's clock; None if an earlier run did.
        seconds: From the request until it was found active.
        active: Whether it is active.
        error: Why it could not be created; empty if it could, or if that is not known yet.
    """

    droplet: Droplet | None = None
    requested_at: float | None = None
    seconds: float | None = None
    active: bool = False
    error: str = ""

    @property
    def requested(self) -> bool:
        """Whether this run requested it."""
        return self.requested_at is not None


class Creation:
    """Creates the Droplets of one plan.

    Args:
        plan: What to create.
        connection: The API.
        purpose: Why; its tag finds all of them.
        wait: Whether to wait until they are active.

    Attributes:
        created: The state of each Droplet, by its step's marker.
        interrupted: Whether Ctrl-C ended it.
    """

    def __init__(self, plan: RestorePlan, connection: Connection, purpose: Purpose, *, wait: bool = True) -> None:
        self._steps = [step for step in plan.steps if step.to_create or step.existing]
        self._connection = connection
        self._settings = connection.settings
        self._interval = connection.settings.poll_interval_seconds
        self._purpose = purpose
        self._wait = wait
        self._token_refused: APIError | None = None
        self._one_at_a_time = asyncio.Lock()
        self._waiting: dict[int, asyncio.Future[Droplet | None]] = {}
        self._since: dict[int, float] = {}
        self.created: dict[str, Created] = {step.marker: Created(step.existing) for step in self._steps}
        self.interrupted = False
        self._ended = threading.Event()

    def run_to_end(self, timeout_seconds: float) -> None:
        """Create the Droplets, and block this thread until that is done; after Ctrl-C, only what has begun is finished.

        Args:
            timeout_seconds: When to stop. Droplets that are being created by then are found by the next run.
        """
        try:
            with waiting_for("Creating Droplets", self._connection):
                run_blocking(self.run(timeout_seconds))
        except KeyboardInterrupt:
            self.interrupted = True
            self._ended.wait(LONGEST_ENDING_SECONDS)

    async def run(self, timeout_seconds: float) -> None:
        """Create the Droplets.

        Args:
            timeout_seconds: When to stop.
        """
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_seconds), self._polling(), asyncio.TaskGroup() as steps:
                    for step in self._steps:
                        steps.create_task(self._create(step))
        finally:
            self._ended.set()

    @asynccontextmanager
    async def _polling(self) -> AsyncIterator[None]:
        polling = asyncio.create_task(self._poll())
        try:
            yield
        finally:
            polling.cancel()
            await asyncio.gather(polling, return_exceptions=True)

    async def _create(self, step: Step) -> None:
        """Create one Droplet and record its state; a failure never stops the others."""
        state = self.created[step.marker]
        if state.droplet and not state.droplet.being_created:
            # An earlier run created it. It may have been turned off since.
            state.active = True
            return
        try:
            for starts_left in reversed(range(self._settings.action_restart_max + 1)):
                if state.droplet is None:
                    state.droplet = await self._request(step)
                if not self._wait:
                    return
                found = await self._becomes_active(state.droplet)
                if found:
                    state.droplet, state.active = found, True
                    state.seconds = None if state.requested_at is None else self._now() - state.requested_at
                    return
                logger.warning("Droplet %d could not be created completely: destroying it", state.droplet.id)
                await self._destroy(state.droplet.id)
                state.droplet = None
                if not starts_left or step.request is None:
                    state.error = "DigitalOcean could not create it; run again to try once more"
                    return
        except Exception as error:  # noqa: BLE001  # reported in the row
            state.error = _described(error, step)

    async def _request(self, step: Step) -> Droplet:
        """Request a Droplet; after a 403, which may be temporary, again, but only one Droplet at a time."""
        if step.request is None:
            raise DropletLost("the Droplet that an earlier run created is gone; run again to create it")
        try:
            return await self._send(step, step.request)
        except (Unauthorized, ScopeMissing) as error:
            self._token_refused = error
            raise
        except Forbidden:
            async with self._one_at_a_time:
                return await self._send_again(step, step.request)

    async def _send(self, step: Step, request: CreateDroplet) -> Droplet:
        # As soon as the limits allow: starts of actions would wait for each other's responses.
        async with self._connection.client.rate_limiter.permit(READ) as permit:
            if self._token_refused:
                raise self._token_refused.for_request("POST", "/v2/droplets")
            self.created[step.marker].requested_at = self._now()
            return await create_droplet.run(request, step.marker, credentials=self._connection, permit=permit)

    async def _send_again(self, step: Step, request: CreateDroplet) -> Droplet:
        """Repeat a refused request; if it is refused again and again, the token lacks the scope."""
        for tries in itertools.count(2):
            await asyncio.sleep(self._interval * (tries - 1) if not self._token_refused else 0)
            try:
                return await self._send(step, request)
            except ScopeMissing:
                raise
            except Forbidden as error:
                if tries == MOST_REFUSALS:
                    missing = ScopeMissing(error.method, error.path, error.status, error.error_id, error.message)
                    self._token_refused = missing
                    raise missing from error
        raise AssertionError("unreachable")

    async def _destroy(self, droplet_id: int) -> None:
        """Destroy a Droplet, and wait until it is gone: by its marker, it would be found instead of a new one."""
        await destroy_droplet.run(droplet_id, credentials=self._connection)
        while True:
            if await self._connection.client.find_droplet(droplet_id) is None:
                return
            await asyncio.sleep(self._interval)

    async def _becomes_active(self, droplet: Droplet) -> Droplet | None:
        """Wait until a Droplet is active; None if its creation failed.

        Raises:
            DropletLost: It disappeared.
        """
        if droplet.active:
            return droplet
        self._since[droplet.id] = self._now()
        waiting: asyncio.Future[Droplet | None] = asyncio.get_running_loop().create_future()
        self._waiting[droplet.id] = waiting
        try:
            return await waiting
        finally:
            self._waiting.pop(droplet.id, None)

    async def _poll(self) -> None:
        """Poll all Droplets until cancelled, less often the longer it takes."""
        pause = TO_FIRST_POLL * self._interval
        began = self._now()
        while True:
            await asyncio.sleep(pause)
            if self._waiting:
                try:
                    await self._poll_once()
                except (Unauthorized, ScopeMissing) as error:
                    self._fail_all(error)
                except APIError as error:
                    logger.warning("Could not poll the new Droplets, trying again: %s", error)
                except Exception as error:  # noqa: BLE001  # reported in the rows of all that wait
                    self._fail_all(error)
            slower = max(BETWEEN_POLLS * self._interval, (self._now() - began) / 10)
            pause = min(LONGEST_BETWEEN_POLLS * self._interval, slower)

    async def _poll_once(self) -> None:
        asked = dict(self._waiting)
        found = {
            each.id: each for each in await list_droplets_tagged.run(self._purpose.tag, credentials=self._connection)
        }
        for droplet_id, waiting in asked.items():
            droplet = found.get(droplet_id)
            if waiting.done():
                continue
            if droplet and droplet.active:
                waiting.set_result(droplet)
            elif self._now() - self._since[droplet_id] >= UNTIL_SUSPECT * self._interval:
                await self._look_into(droplet_id, waiting)

    async def _look_into(self, droplet_id: int, waiting: asyncio.Future[Droplet | None]) -> None:
        """Find out why a Droplet is not active yet."""
        droplet = await self._connection.client.find_droplet(droplet_id)
        if droplet is None:
            waiting.set_exception(DropletLost(f"Droplet {droplet_id} disappeared while it was being created"))
        elif droplet.active:
            waiting.set_result(droplet)
        else:
            actions = await list_droplet_actions.run(droplet_id, credentials=self._connection)
            if any(action.type == "create" and action.errored for action in actions):
                waiting.set_result(None)

    def _fail_all(self, error: Exception) -> None:
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(error)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def _described(error: Exception, step: Step) -> str:
    """Describe an error for the report; the traceback of an unexpected one goes to the log."""
    if isinstance(error, UnprocessableEntity) and step.size and "limit" not in error.message.lower():
        others = f": try another size, such as {', '.join(step.fitting)}" if step.fitting else ""
        return f"{error}. The region may have no capacity for size {step.size.slug}{others}"
    if isinstance(error, (APIError, DropletLost)):
        return str(error)
    logger.debug("Unexpected error", exc_info=error)
    return f"unexpected {type(error).__name__}: {error}"
