"""One poller for all actions in flight; it can use any of three endpoints."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass, field

from tasks.digitalocean.client import LARGEST_PAGE, DigitalOceanClient
from tasks.digitalocean.errors import APIError, MalformedResponse, NotFound, ScopeMissing, Unauthorized
from tasks.digitalocean.models import ActedOn, Action
from tasks.digitalocean.polling import MOST_DOUBLINGS, Cadence, Feed, PendingAction, PollRequest, choose_request
from tasks.digitalocean.usage import UsageCounter, charged_to, current_counters

# An action may be unknown for some seconds after its start. After this many 404s, if no list has shown it, give up on
# it even though its image exists. https://github.com/digitalocean/api-v2/issues/26
MOST_NOT_FOUND = 5
# Ignore older start times: a wrong clock is more likely.
OLDEST_START_SECONDS = 86400

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class AwaitedAction(PendingAction):
    """A pending action with waiters.

    Attributes:
        waiting: Number of waiters.
        counters: The counters of their requests.
        ended: Set once it has ended, or its outcome cannot be determined.
        error: Why its outcome cannot be determined.
    """

    waiting: int = 0
    counters: tuple[UsageCounter, ...] = ()
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    error: BaseException | None = None


class ActionPoller:
    """Polls all actions that have waiters.

    Args:
        client: Sends the requests; its clock is used.
    """

    def __init__(self, client: DigitalOceanClient) -> None:
        self._client = client
        self._clock = client.clock
        self._cadence = Cadence(client.settings.poll_interval_seconds, client.settings.poll_interval_max_seconds)
        self._feed = Feed(LARGEST_PAGE)
        self._pending: dict[int, AwaitedAction] = {}
        self._wake_at = 0.0
        self._sooner = asyncio.Event()
        self._polling: asyncio.Task[None] | None = None

    async def wait(
        self, resource: ActedOn, action: Action, gigabytes: float | None = None, *, blocking: bool = False
    ) -> Action:
        """Wait until an action is no longer in progress.

        Any number of callers may wait for the same action. There is no timeout here: cancel, or use
        `asyncio.timeout`.

        Args:
            resource: What it runs on.
            action: The action as last seen.
            gigabytes: The image's size, from which the poller learns how long such actions take.
            blocking: Whether other work waits for its end, so that it is polled more often.

        Returns:
            The action, completed or errored.

        Raises:
            NotFound: The image or Droplet was deleted, or the action cannot be found.
            Unauthorized: The token was revoked.
            ScopeMissing: The token is not allowed to read images or Droplets.
        """
        if not action.in_progress:
            return action
        pending = self._pending.get(action.id) or self._begin(resource, action, gigabytes, blocking=blocking)
        pending.blocking |= blocking
        pending.waiting += 1
        pending.counters += current_counters()
        try:
            await pending.ended.wait()
        finally:
            pending.waiting -= 1
            if not pending.waiting:
                self._end(pending)
        if pending.error:
            raise pending.error
        return pending.action

    def seconds_left(self, unstarted_gigabytes: float | None = None, starting_takes: float = 0.0) -> float | None:
        """Estimate when everything will be done.

        Args:
            unstarted_gigabytes: Size of the last transfer still to be started, or None.
            starting_takes: Seconds until it can be started.

        Returns:
            Seconds from now; None while too little is known.
        """
        now, typical = self._clock.monotonic(), self._cadence.typical
        ends = [(each.started - now, typical(each.action.type, each.gigabytes)) for each in self._pending.values()]
        if unstarted_gigabytes is not None:
            ends.append((starting_takes, typical("transfer", unstarted_gigabytes)))
        known = [max(0.0, start + takes) for start, takes in ends if takes is not None]
        return max(known) if known and len(known) == len(ends) else None

    def _begin(self, resource: ActedOn, action: Action, gigabytes: float | None, *, blocking: bool) -> AwaitedAction:
        now = self._clock.monotonic()
        age = (self._client.server_clock.now() - action.started_at).total_seconds()
        pending = AwaitedAction(
            action,
            resource,
            gigabytes,
            started=now - (age if 0 < age < OLDEST_START_SECONDS else 0.0),
            last_seen=now,
            blocking=blocking,
        )
        self._pending[action.id] = pending
        self._feed.note([action.id])
        due = self._cadence.due_at(pending, now)
        if self._polling is None or self._polling.done():
            self._wake_at = due
            self._polling = asyncio.create_task(self._poll_until_done())
        elif due < self._wake_at:
            self._wake_at = due
            self._sooner.set()
        return pending

    async def _poll_until_done(self) -> None:
        try:
            while self._pending:
                await self._sleep()
                now = self._clock.monotonic()
                self._wake_at = self._cadence.next_round(self._pending.values(), now)
                if self._wake_at <= now:
                    await self._poll_due(now)
        except APIError as error:
            # Only the user can fix this. Each waiter gets an error for its own action.
            for pending in list(self._pending.values()):
                path = f"{pending.resource.path}/actions/{pending.action.id}"
                self._end(pending, error=error.for_request("GET", path))
        except BaseException as error:
            # The poller has stopped, so fail every waiter.
            for pending in list(self._pending.values()):
                self._end(pending, error=error)
            raise

    async def _sleep(self) -> None:
        while (pause := self._wake_at - self._clock.monotonic()) > 0:
            self._sooner.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._sooner.wait()

    async def _poll_due(self, now: float) -> None:
        due = self._cadence.due(self._pending.values(), now)
        while request := choose_request(due, self._pending.values(), self._feed, now):
            with charged_to(counter for each in request.shows for counter in each.counters):
                try:
                    shown = await self._send(request)
                except Unauthorized:
                    raise
                except APIError as error:
                    shown = set()
                    await self._note_failure(request, error)
            for each in due.intersection(request.shows):
                if each.action.id not in shown:
                    self._cadence.note_miss(each, request.source, self._clock.monotonic())
            # Actions to look up elsewhere are still due.
            due = self._cadence.due(due.intersection(self._pending.values()), now)

    async def _send(self, request: PollRequest[AwaitedAction]) -> set[int]:
        """Send a request and note the actions it shows; returns their IDs."""
        if request.source == "action":
            actions = [await self._client.get_action(request.shows[0].resource, request.shows[0].action.id)]
        elif isinstance(request.key, ActedOn):
            actions = await self._client.list_actions(request.key)
        else:
            page = await self._client.list_recent_actions(request.key, retries=0)
            actions = page.actions
            images = {each.resource.id for each in request.shows} | {None}
            if not images.isdisjoint(page.unread) and not any(action.id in self._pending for action in actions):
                raise MalformedResponse(
                    "GET", "/v2/actions", message="none of the awaited actions can be read on this page"
                )
            self._feed.note(page.ids)
            if page.more and page.size:
                # The API may use a smaller page than requested.
                self._feed.page_size = page.size
        for action in actions:
            if pending := self._pending.get(action.id):
                pending.skip_until.pop(request.source, None)
                del pending.misses[request.source]
                self._note(pending, action)
        return {action.id for action in actions}

    def _note(self, pending: AwaitedAction, action: Action) -> None:
        now = self._clock.monotonic()
        pending.action = action
        pending.not_found = 0
        if action.in_progress:
            pending.last_seen = now
            return
        if action.completed:
            # Use the server's duration, clamped to the last two polls.
            took = (action.completed_at - action.started_at).total_seconds() if action.completed_at else 0.0
            self._cadence.learn(pending, min(max(took, pending.last_seen - pending.started), now - pending.started))
        self._end(pending)

    async def _note_failure(self, request: PollRequest[AwaitedAction], error: APIError) -> None:
        """Give up on actions whose image or Droplet was deleted.

        Raises:
            Unauthorized: The token was revoked.
            ScopeMissing: The token is not allowed to read images or Droplets.
        """
        level = logging.WARNING
        if isinstance(error, ScopeMissing):
            if request.source != "page":
                raise error
            # A token may be allowed to read images but not the account's actions.
            level = logging.INFO
            for each in request.shows:
                each.misses["page"] = MOST_DOUBLINGS
        elif isinstance(error, NotFound) and request.source != "page":
            await self._give_up_if_gone(request, error)
        logger.log(level, "%s; polling %d actions later or elsewhere", error, len(request.shows))

    async def _give_up_if_gone(self, request: PollRequest[AwaitedAction], error: NotFound) -> None:
        """Find out what a 404 means: only the 404 of the image or Droplet itself shows that it was deleted."""
        resource = request.shows[0].resource
        try:
            await self._client.get_acted_on(resource)
        except NotFound as gone:
            for each in [each for each in self._pending.values() if each.resource == resource]:
                self._end(each, error=gone)
            return
        except (Unauthorized, ScopeMissing):
            raise
        except APIError as unclear:
            logger.debug("Could not find out whether %s was deleted: %s", resource.name, unclear)
        if request.source == "action":
            (pending,) = request.shows
            pending.not_found += 1
            if pending.not_found >= MOST_NOT_FOUND:
                self._end(pending, error=error)

    def _end(self, pending: AwaitedAction, error: BaseException | None = None) -> None:
        # A new wait for the same action may have begun.
        if self._pending.get(pending.action.id) is pending:
            del self._pending[pending.action.id]
            pending.error = error
            pending.ended.set()
