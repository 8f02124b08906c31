"""The API calls of this project; each checks its arguments before anything is sent."""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

import httpx

from tasks.digitalocean.clock import Clock, ServerClock
from tasks.digitalocean.errors import (
    MOST_REFUSALS,
    SSH_KEYS_PATH,
    APIError,
    ConnectionFailed,
    Forbidden,
    InvalidArgument,
    MalformedResponse,
    NotFound,
    ScopeMissing,
    TooManyRequests,
    TransportError,
    UnexpectedStatus,
    UnprocessableEntity,
    collection_of,
)
from tasks.digitalocean.http_client import PERMIT, BodyTooLarge, RateLimitedClient
from tasks.digitalocean.models import (
    TAG_PATTERN,
    AccountInfo,
    ActedOn,
    Action,
    BackupPolicy,
    CreateDroplet,
    Droplet,
    Firewall,
    Image,
    Region,
    Size,
    Snapshot,
    SshKey,
    Tag,
    TakeSnapshot,
    Volume,
    Vpc,
)
from tasks.digitalocean.pagination import FeedPage, Paging, Skip, feed_page
from tasks.digitalocean.rate_limiter import DistributedLimit, Permit, RateLimiter
from tasks.digitalocean.responses import ResourceT, ResponseBody, parse_response
from tasks.digitalocean.settings import Settings

# The maximum of `per_page`: https://docs.digitalocean.com/reference/api/digitalocean/#section/Introduction/Links-and-Pagination
LARGEST_PAGE = 200
# Images per request that tags them. The documented API has no limit; this keeps requests small.
IMAGES_PER_TAGGING = 500
FIRST_PAUSE_SECONDS = 0.5
# Of lists that a report can do without.
OPTIONAL_RETRIES = 2
# The tries last longer than the minute in which the limit for SSH keys is free again.
SSH_KEY_PAUSE_SECONDS, SSH_KEY_TRIES = 10.0, 7

NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
# Everything that httpx raises on the way to the server, including for invalid URLs and headers.
BROKEN = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError, ValueError)

ResultT = TypeVar("ResultT")
logger = logging.getLogger(__name__)


class DigitalOceanClient:
    """The API for one token, with one connection pool and one rate limiter.

    Calls that send one request do not retry it. Calls that read a list retry only the failed page.

    Args:
        settings: Token, URL and limits.
        transport: Sends the requests; None for the network. Tests use an application.
        clock: The source of time; None for the system's.
        distributed_limit: The limit shared with other processes; None for none.
        loop: The event loop in which requests are sent; None for the caller's.
    """

    def __init__(
        self,
        settings: Settings,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Clock | None = None,
        distributed_limit: DistributedLimit | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.settings = settings
        self.clock = clock or Clock()
        self.server_clock = ServerClock(self.clock)
        self.rate_limiter = RateLimiter(settings.rate_limits, self.clock, distributed_limit=distributed_limit)
        self._http = RateLimitedClient(settings, self.rate_limiter, self.server_clock, transport, loop)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    # Image actions

    async def get_image_action(self, image_id: int, action_id: int) -> Action:
        """Read one action of an image."""
        path = f"{image_path(image_id)}/actions/{_checked_id(action_id, 'action')}"
        return (await self.request("GET", path)).one(Action, "action")

    async def list_image_actions(self, image_id: int, *, retries: int | None = None) -> list[Action]:
        """List all actions on an image.

        Args:
            image_id: The image, at least 1.
            retries: As in `list_recent_actions`. With 0, a 404 is raised without a check of the image.

        Raises:
            NotFound: The image does not exist. If it exists, the 404 is transient and the request is retried.
        """

        async def request() -> list[Action]:
            try:
                return await self._all(Paging(Action, "actions"), f"{image_path(image_id)}/actions", retries=retries)
            except NotFound as error:
                error.transient = retries != 0 and await self.find_image(image_id) is not None
                raise

        return await self.repeating(
            request, MOST_REFUSALS - 1, when=lambda error: isinstance(error, NotFound) and error.transient
        )

    async def list_recent_actions(self, page: int = 1, *, retries: int | None = None) -> FeedPage:
        """Read a page of the account's feed, which has the actions of all kinds of resources, newest first.

        Args:
            page: The page's number, at least 1.
            retries: Retries of a failed page; None for the setting `http_retry_max`.
        """
        return await self._page(feed_page, "/v2/actions", page, retries=retries)

    # Actions on any resource, without retries: the poller asks elsewhere after an error

    async def get_action(self, resource: ActedOn, action_id: int) -> Action:
        """Read one action of an image or a Droplet."""
        if resource.type == "image":
            return await self.get_image_action(resource.id, action_id)
        path = f"{droplet_path(resource.id)}/actions/{_checked_id(action_id, 'action')}"
        return (await self.request("GET", path)).one(Action, "action")

    async def list_actions(self, resource: ActedOn) -> list[Action]:
        """List the actions on an image or a Droplet."""
        if resource.type == "image":
            return await self.list_image_actions(resource.id, retries=0)
        return await self.list_droplet_actions(resource.id, retries=0)

    async def get_acted_on(self, resource: ActedOn) -> Image | Droplet:
        """Read an image or a Droplet."""
        return await (self.get_image if resource.type == "image" else self.get_droplet)(resource.id)

    # Images

    async def get_image(self, image_id: int) -> Image:
        """Read one image."""
        return (await self.request("GET", image_path(image_id))).one(Image, "image")

    async def find_image(self, image_id: int) -> Image | None:
        """Read one image, with retries; None if it does not exist."""
        try:
            return await self.repeating(lambda: self.get_image(image_id))
        except NotFound:
            return None

    async def list_private_images(self) -> list[Image]:
        """List the account's private images: backups, snapshots and custom images."""
        # Backups of a Droplet that are skipped here are read one by one.
        images = await self._all(Paging(Image, "images", Skip.NOT_ALL), "/v2/images", {"private": "true"})
        # If the list changes while it is read, entries may appear twice.
        return list({image.id: image for image in images}.values())

    async def list_snapshots(self) -> list[Snapshot]:
        """List the snapshots of Droplets, including deleted Droplets; skips entries that cannot be read."""
        # Such as snapshots of volumes. What is skipped is never deleted.
        paging = Paging(Snapshot, "snapshots", Skip.ANY)
        snapshots = await self._all(paging, "/v2/snapshots", {"resource_type": "droplet"})
        return list({snapshot.id: snapshot for snapshot in snapshots}.values())

    # Regions and Droplets

    async def list_regions(self) -> list[Region]:
        """List all regions, including those that images cannot be transferred to."""
        return await self._all(Paging(Region, "regions", Skip.NOT_ALL), "/v2/regions")

    async def list_droplets(self, tag: str | None = None) -> list[Droplet]:
        """List Droplets, including GPU Droplets.

        The API lists GPU Droplets only with `type=gpus`, which cannot be combined with `tag_name`, so they are filtered
        by tag here. https://docs.digitalocean.com/reference/api/digitalocean/#operation/droplets_list
        """
        chosen_by = {"tag_name": _checked_tag(tag)} if tag else {}
        usual = await self._all(Paging(Droplet, "droplets"), "/v2/droplets", chosen_by)
        try:
            with_gpus = await self._all(Paging(Droplet, "droplets"), "/v2/droplets", {"type": "gpus"})
        except (UnexpectedStatus, UnprocessableEntity) as error:
            logger.debug("Could not list GPU Droplets separately: %s", error)
            with_gpus = []
        # The API matches tags regardless of case: https://docs.digitalocean.com/reference/api/digitalocean/#tag/Tags
        chosen = [each for each in with_gpus if tag is None or tag.lower() in {own.lower() for own in each.tags}]
        return list({droplet.id: droplet for droplet in [*usual, *chosen]}.values())

    async def list_droplets_tagged(self, tag: str) -> list[Droplet]:
        """List the Droplets with a tag, without GPU Droplets: one request for up to 200."""
        droplets = await self._all(Paging(Droplet, "droplets"), "/v2/droplets", {"tag_name": _checked_tag(tag)})
        return list({droplet.id: droplet for droplet in droplets}.values())

    async def create_droplet(self, request: CreateDroplet, permit: Permit | None = None) -> Droplet:
        """Create a Droplet with one request."""
        body = request.model_dump(exclude_none=True)
        return (await self.request("POST", "/v2/droplets", json=body, permit=permit)).one(Droplet, "droplet")

    async def get_droplet(self, droplet_id: int) -> Droplet:
        """Read one Droplet."""
        return (await self.request("GET", droplet_path(droplet_id))).one(Droplet, "droplet")

    async def find_droplet(self, droplet_id: int) -> Droplet | None:
        """Read one Droplet, with retries; None if it does not exist."""
        try:
            return await self.repeating(lambda: self.get_droplet(droplet_id))
        except NotFound:
            return None

    async def list_droplet_actions(self, droplet_id: int, *, retries: int | None = None) -> list[Action]:
        """List the actions on a Droplet.

        Args:
            droplet_id: The Droplet, at least 1.
            retries: As in `list_recent_actions`.
        """
        return await self._all(Paging(Action, "actions"), f"{droplet_path(droplet_id)}/actions", retries=retries)

    async def take_snapshot(self, droplet_id: int, request: TakeSnapshot, permit: Permit | None = None) -> Action:
        """Start a snapshot of a Droplet with one request."""
        path = f"{droplet_path(droplet_id)}/actions"
        return (await self.request("POST", path, json=request.model_dump(), permit=permit)).one(Action, "action")

    async def list_snapshots_of(self, droplet_id: int) -> list[Image]:
        """List the snapshots of one Droplet."""
        return await self._all(Paging(Image, "snapshots", Skip.NOT_ALL), f"{droplet_path(droplet_id)}/snapshots")

    async def list_backup_policies(self) -> list[BackupPolicy]:
        """List when Droplets are backed up; skips entries that cannot be read."""
        paging = Paging(BackupPolicy, "policies", Skip.ANY, key_as="droplet_id")
        policies = await self._all(paging, "/v2/droplets/backups/policies", retries=OPTIONAL_RETRIES)
        return list({policy.droplet_id: policy for policy in policies}.values())

    async def list_volumes(self) -> list[Volume]:
        """List the block storage volumes; skips entries that cannot be read."""
        paging = Paging(Volume, "volumes", Skip.ANY)
        volumes = await self._all(paging, "/v2/volumes", retries=OPTIONAL_RETRIES)
        return list({volume.id: volume for volume in volumes}.values())

    async def list_sizes(self) -> list[Size]:
        """List the sizes of Droplets."""
        return await self._all(Paging(Size, "sizes", Skip.NOT_ALL), "/v2/sizes")

    # What Droplets are created with

    async def get_account(self) -> AccountInfo:
        """Read the account, with retries."""

        async def request() -> AccountInfo:
            return (await self.request("GET", "/v2/account")).one(AccountInfo, "account")

        return await self.repeating(request)

    async def list_ssh_keys(self) -> list[SshKey]:
        """List the team's SSH keys; waits if their own rate limit is used up."""

        async def request() -> list[SshKey]:
            return await self._all(Paging(SshKey, "ssh_keys", Skip.NOT_ALL), SSH_KEYS_PATH, retries=0)

        for _ in range(SSH_KEY_TRIES):
            try:
                return await self.repeating(
                    request, when=lambda error: error.repeatable and not isinstance(error, TooManyRequests)
                )
            except TooManyRequests:
                logger.warning("The rate limit for SSH keys, 10 requests a minute, is used up; waiting")
                await asyncio.sleep(SSH_KEY_PAUSE_SECONDS)
        return await self.repeating(request)

    async def list_vpcs(self) -> list[Vpc]:
        """List the private networks."""
        return await self._all(Paging(Vpc, "vpcs", Skip.NOT_ALL), "/v2/vpcs")

    async def list_firewalls(self) -> list[Firewall]:
        """List the cloud firewalls."""
        return await self._all(Paging(Firewall, "firewalls", Skip.NOT_ALL), "/v2/firewalls")

    async def create_firewall(self, firewall: Mapping[str, object]) -> Firewall:
        """Create a cloud firewall with one request; its tags must exist."""
        try:
            return (await self.request("POST", "/v2/firewalls", json=firewall)).one(Firewall, "firewall")
        except UnexpectedStatus as error:
            # Another firewall has the name, and will have it.
            error.transient = error.status != httpx.codes.CONFLICT
            raise

    # Tags

    async def list_tags(self) -> list[str]:
        """List the names of all tags, including those that nothing has."""
        tags = await self._all(Paging(Tag, "tags", Skip.NOT_ALL), "/v2/tags")
        return list(dict.fromkeys(tag.name for tag in tags))

    async def create_tag(self, tag: str) -> None:
        """Create a tag, unless it exists."""
        try:
            await self.request("POST", "/v2/tags", json={"name": _checked_tag(tag)})
        except UnprocessableEntity as error:
            logger.debug("Could not create the tag, probably because it exists: %s", error)

    async def tag_images(self, tag: str, image_ids: Sequence[int]) -> None:
        """Tag images, up to 500 per request; the tag must exist.

        Raises:
            NotFound: The tag or one of the images does not exist.
        """
        path = f"/v2/tags/{_checked_tag(tag)}/resources"
        resources = [{"resource_id": str(_checked_id(each, "image")), "resource_type": "image"} for each in image_ids]
        for start in range(0, len(resources), IMAGES_PER_TAGGING):
            await self.request("POST", path, json={"resources": resources[start : start + IMAGES_PER_TAGGING]})

    # Requests

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        json: object = None,
        permit: Permit | None = None,
        checks_scope: bool = True,
    ) -> ResponseBody:
        """Send one request once, when the rate limiter permits it.

        Args:
            method: The HTTP method.
            path: The path, beginning with `/v2`.
            params: The query.
            json: The body.
            permit: A permit of the rate limiter, acquired for this request; None to acquire one.
            checks_scope: Whether to check if a read got a 403 because the token lacks the scope.

        Raises:
            ScopeMissing: A read got a 403, and so did another one that needs the same scope.
            APIError: The response is an error, malformed or missing.
        """
        extensions = {PERMIT: permit} if permit else None
        try:
            response = await self._http.request(method, path, params=params, json=json, extensions=extensions)
        except BodyTooLarge as error:
            raise MalformedResponse(method, path, message=str(error)) from error
        except TimeoutError as error:
            seconds = self.settings.http_timeout_seconds
            raise TransportError(method, path, message=f"no response within {seconds:g} s") from error
        except NEVER_SENT as error:
            message = f"could not connect to {self.settings.api_url} ({_described(error)})"
            raise ConnectionFailed(method, path, message=message) from error
        except BROKEN as error:
            message = f"no response, the connection broke ({_described(error)})"
            raise TransportError(method, path, message=message) from error
        try:
            return parse_response(method, path, response, self.settings.token.get_secret_value())
        except Forbidden as error:
            if checks_scope and method == "GET" and await self._lacks_scope(path):
                # No request ID: there were two requests.
                raise ScopeMissing(method, path, error.status, error.error_id, error.message) from error
            raise
        except (NotFound, UnprocessableEntity) as error:
            # Lists always exist and the queries are valid, so such an error is transient.
            error.transient = method == "GET" and path == collection_of(path)
            raise

    async def _lacks_scope(self, path: str) -> bool:
        """Read the collection, which needs the same scope as the refused read; returns whether that is refused too."""
        await asyncio.sleep(FIRST_PAUSE_SECONDS)
        try:
            await self.request("GET", collection_of(path), params={"per_page": "1"}, checks_scope=False)
        except Forbidden:
            return True
        except APIError as error:
            logger.debug("Could not check the token's scope: %s", error)
        return False

    async def _all(
        self,
        paging: Paging[ResourceT],
        path: str,
        params: Mapping[str, str] | None = None,
        *,
        retries: int | None = None,
    ) -> list[ResourceT]:
        """Read all pages of a list.

        Raises:
            MalformedResponse: The list has no end.
        """
        found: list[ResourceT] = []
        page: int | None = 1
        while page is not None:
            some, page = await self._page(paging.read, path, page, params, retries=retries)
            found += some
        return found

    async def _page(
        self,
        read: Callable[[ResponseBody, int], ResultT],
        path: str,
        page: int,
        params: Mapping[str, str] | None = None,
        *,
        retries: int | None = None,
    ) -> ResultT:
        """Read one page of a list, with retries."""
        query = {**(params or {}), "page": str(page), "per_page": str(LARGEST_PAGE)}

        async def ask() -> ResultT:
            return read(await self.request("GET", path, params=query), page)

        return await self.repeating(ask, retries)

    async def repeating(
        self,
        call: Callable[[], Awaitable[ResultT]],
        retries: int | None = None,
        when: Callable[[APIError], bool] = lambda error: error.repeatable,
    ) -> ResultT:
        """Make a call, with retries and exponential backoff.

        Args:
            call: The call.
            retries: How often it is retried; None for the setting `http_retry_max`.
            when: Whether to retry after an error; by default if the request may be repeated.
        """
        most = self.settings.http_retry_max if retries is None else retries
        for attempt in itertools.count(1):
            try:
                return await call()
            except APIError as error:
                if attempt > most or not when(error):
                    raise
                logger.warning("%s; retrying (%d of %d)", error, attempt, most)
                await asyncio.sleep(FIRST_PAUSE_SECONDS * 2 ** (attempt - 1) * random.uniform(0.75, 1.25))  # noqa: S311
        raise AssertionError("unreachable")


def image_path(image_id: int) -> str:
    """The path of an image.

    Raises:
        InvalidArgument: The ID is not valid.
    """
    return f"/v2/images/{_checked_id(image_id, 'image')}"


def droplet_path(droplet_id: int) -> str:
    """The path of a Droplet.

    Raises:
        InvalidArgument: The ID is not valid.
    """
    return f"/v2/droplets/{_checked_id(droplet_id, 'Droplet')}"


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".removesuffix(": ")


def _checked_id(value: int, what: str) -> int:
    """Check an ID before it becomes part of a path."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidArgument(f"{value!r} is not a valid {what} ID: expected a positive integer")
    return value


def _checked_tag(tag: str) -> str:
    """Check a tag before it becomes part of a path."""
    if not TAG_PATTERN.fullmatch(tag):
        raise InvalidArgument(
            f"{tag!r} is not a valid tag: expected 1 to 255 letters, digits, colons, dashes and underscores"
        )
    return tag
