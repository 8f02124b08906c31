"""Tasks for image actions: get, list, post, and wait."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

from prefect.runtime import task_run
from pydantic import TypeAdapter, ValidationError

from tasks.api_task import api_task
from tasks.connection import aconnect
from tasks.credentials import Credentials
from tasks.digitalocean import ActedOn, Action, Connection, ImageActionRequest, InvalidArgument
from tasks.digitalocean.idempotency import find_applied, get_started_action, post_once
from tasks.digitalocean.rate_limiter import Permit

REQUEST: TypeAdapter[ImageActionRequest] = TypeAdapter(ImageActionRequest)


@api_task(task_run_name="get action {action_id} of {image_id}")
async def get_image_action(image_id: int, action_id: int, *, credentials: Credentials = None) -> Action:
    """Read one action of an image.

    https://docs.digitalocean.com/reference/api/digitalocean/#operation/imageActions_get

    Retried after any transient error: a 403, a 429, a 5xx, an unexpected status, a malformed response or a broken
    connection.

    Args:
        image_id: The image, at least 1.
        action_id: The action, at least 1.
        credentials: The account: a block or its name; None for the token in the environment.

    Returns:
        The action as it is now.

    Raises:
        InvalidArgument: An ID is not valid; nothing was sent.
        NotFound: The image or action does not exist.
        Unauthorized: The token is wrong.
        APIError: Any other error, once no retries are left.

    Example:
        ```python
        @flow
        def action_status(image_id: int, action_id: int) -> str:
            return get_image_action(image_id, action_id).status
        ```
    """
    return await (await aconnect(credentials)).client.get_image_action(image_id, action_id)


@api_task(task_run_name="list actions of {image_id}", repeats=False)
async def list_image_actions(image_id: int, *, credentials: Credentials = None) -> list[Action]:
    """List all actions on an image.

    https://docs.digitalocean.com/reference/api/digitalocean/#operation/imageActions_list

    Each page is retried after any transient error, as in `get_image_action`.

    Args:
        image_id: The image, at least 1.
        credentials: The account: a block or its name; None for the token in the environment.

    Returns:
        Its actions, in the API's order.

    Raises:
        InvalidArgument: The ID is not valid; nothing was sent.
        NotFound: The image does not exist.
        Unauthorized: The token is wrong.
        APIError: Any other error, once no retries are left.

    Example:
        ```python
        @flow
        def histories(image_ids: list[int]) -> list[list[Action]]:
            return list_image_actions.map(image_ids).result()
        ```
    """
    return await (await aconnect(credentials)).client.list_image_actions(image_id)


def _post_name() -> str:
    """Such as `start transfer of 42 to nyc3`: the task ends as soon as the action has started."""
    parameters = task_run.parameters
    request = parameters.get("request")
    fields = request if isinstance(request, dict) else getattr(request, "__dict__", {})
    kind, region = fields.get("type", "action"), fields.get("region")
    noun = "conversion" if kind == "convert" else kind
    return f"start {noun} of {parameters.get('image_id')}" + (f" to {region}" if region else "")


async def _find_started(
    since: datetime, image_id: int, request: ImageActionRequest, *, credentials: Connection, **_: object
) -> Action | None:
    return await find_applied(credentials.client, image_id, request, since)


@api_task(task_run_name=_post_name, find_done=_find_started)
async def post_image_action(
    image_id: int,
    request: ImageActionRequest | dict[str, Any],
    *,
    credentials: Credentials = None,
    permit: Permit | None = None,
) -> Action:
    """Start an action on an image, exactly once.

    https://docs.digitalocean.com/reference/api/digitalocean/#operation/imageActions_post

    Retried after a 429, or if no connection could be made. After a 5xx, an unexpected status, a malformed response or a
    broken connection, the image's actions are read first: if the action was started, it is returned.

    Args:
        image_id: The image, at least 1.
        request: `ConvertImage()` or `TransferImage(region="nyc3")`, or the same as a dictionary.
        credentials: The account: a block or its name; None for the token in the environment.
        permit: A permit of its rate limiter, acquired for this request; None to acquire one.

    Returns:
        The action, usually in progress.

    Raises:
        InvalidArgument: The ID or the request is not valid; nothing was sent.
        NotFound: The image does not exist.
        UnprocessableEntity: The API refuses: the image is already in the region, is not a snapshot, has another pending
            action, or the region does not support transfers.
        Forbidden: Refused, perhaps temporarily: if you have other images, try one of those first.
        Unauthorized: The token is wrong.
        APIError: Any other error, once no retries are left.

    Example:
        ```python
        @flow
        def to_new_york_and_frankfurt(image_id: int) -> list[Action]:
            requests = [TransferImage(region="nyc3"), TransferImage(region="fra1")]
            return post_image_action.map(unmapped(image_id), requests).result()
        ```
    """
    try:
        checked = REQUEST.validate_python(request)
    except ValidationError as error:
        raise InvalidArgument(
            f"image {image_id}: the request is not valid: {error.errors(include_url=False)[0]['msg']}"
        ) from None
    return await post_once((await aconnect(credentials)).client, image_id, checked, permit)


@api_task(task_run_name="wait for action {action_id} of {image_id}")
async def wait_for_image_action(
    image_id: int, action_id: int, timeout_minutes: float = 360, *, credentials: Credentials = None
) -> Action:
    """Wait until an action has ended.

    One poller per process polls all pending actions, so waiting for many actions at once takes few requests.

    https://docs.digitalocean.com/reference/api/digitalocean/#operation/imageActions_get

    Args:
        image_id: The image, at least 1.
        action_id: The action, at least 1.
        timeout_minutes: How long to wait; the action itself goes on.
        credentials: The account: a block or its name; None for the token in the environment.

    Returns:
        The action, completed or errored.

    Raises:
        TimeoutError: It was still in progress.
        APIError: It cannot be read.

    Example:
        ```python
        @flow
        def convert_and_wait(image_id: int) -> Action:
            action = post_image_action(image_id, ConvertImage())
            return wait_for_image_action(image_id, action.id)
        ```
    """
    connection = await aconnect(credentials)
    action = await connection.run(get_started_action(connection.client, image_id, action_id))
    try:
        async with asyncio.timeout(timeout_minutes * 60):
            return await connection.run(connection.poller.wait(ActedOn("image", image_id), action))
    except TimeoutError as error:
        problem = f"action {action_id} of image {image_id} was still in progress after {timeout_minutes:g} minutes"
        raise TimeoutError(problem) from error
