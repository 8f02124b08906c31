"""Tasks around the image-action endpoints: get, list, post, and waiting for what was started."""

from __future__ import annotations

import asyncio
from typing import Any

from prefect.runtime import task_run
from pydantic import TypeAdapter, ValidationError

from tasks.api_task import api_task
from tasks.connection import connect
from tasks.digitalocean import Action, ImageActionRequest, InvalidArgument
from tasks.digitalocean.idempotency import get_started_action, post_once

REQUEST: TypeAdapter[ImageActionRequest] = TypeAdapter(ImageActionRequest)


@api_task(task_run_name="get action {action_id} of {image_id}")
async def get_image_action(image_id: int, action_id: int) -> Action:
    """Look at one action of an image.

    Tried again after everything that may pass: a 403, a 429, a 5xx, an odd status, a broken answer or connection.

    Args:
        image_id: The image, from 1 on.
        action_id: The action, from 1 on.

    Returns:
        The action as it is now.

    Raises:
        InvalidArgument: An id is none; nothing was sent.
        NotFound: There is no such image or action.
        Unauthorized: The token is wrong.
        APIError: Anything else, when there are no attempts left.

    Example:
        ```python
        @flow
        def how_far(image_id: int, action_id: int) -> str:
            return get_image_action(image_id, action_id).status
        ```
    """
    connection = connect()
    return await connection.run(connection.client.get_image_action(image_id, action_id))


@api_task(task_run_name="list actions of {image_id}", repeats=False)
async def list_image_actions(image_id: int) -> list[Action]:
    """List every action ever run on an image.

    Each page of the list is asked for again after everything that may pass, as in `get_image_action`.

    Args:
        image_id: The image, from 1 on.

    Returns:
        Its actions, in the API's order.

    Raises:
        InvalidArgument: The id is none; nothing was sent.
        NotFound: There is no such image.
        Unauthorized: The token is wrong.
        APIError: Anything else, when there are no attempts left.

    Example:
        ```python
        @flow
        def histories(image_ids: list[int]) -> list[list[Action]]:
            return list_image_actions.map(image_ids).result()
        ```
    """
    connection = connect()
    return await connection.run(connection.client.list_image_actions(image_id))


def _post_name() -> str:
    """Such as `start transfer of 42 to nyc3`: the task ends as soon as the action has started."""
    parameters = task_run.parameters
    request = parameters.get("request")
    kind, region = (
        (request.get("type"), request.get("region"))
        if isinstance(request, dict)
        else (getattr(request, "type", "action"), getattr(request, "region", None))
    )
    noun = "conversion" if kind == "convert" else kind
    return f"start {noun} of {parameters.get('image_id')}" + (f" to {region}" if region else "")


@api_task(task_run_name=_post_name)
async def post_image_action(image_id: int, request: ImageActionRequest | dict[str, Any]) -> Action:
    """Start an action on an image, exactly once.

    Tried again after a 429 and where no connection was made. After a 5xx, an odd status, a broken answer or a broken
    connection, the image's actions are looked at first: what was carried out all the same is returned, not repeated.

    Args:
        image_id: The image, from 1 on.
        request: `ConvertImage()` or `TransferImage(region="nyc3")`, or the same as a dictionary.

    Returns:
        The action; in progress, as a rule.

    Raises:
        InvalidArgument: The id or the request is none; nothing was sent.
        NotFound: There is no such image.
        UnprocessableEntity: The API refuses: the image is in the region already, is no snapshot, has another action
            pending, or the region takes no images.
        Forbidden: Refused, perhaps for now only: a caller with other images does well to try one of those first.
        Unauthorized: The token is wrong.
        APIError: Anything else, when there are no attempts left.

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
            f"image {image_id}: no such action: {error.errors(include_url=False)[0]['msg']}"
        ) from None
    connection = connect()
    return await connection.run(post_once(connection.client, image_id, checked))


@api_task(task_run_name="wait for action {action_id} of {image_id}")
async def wait_for_image_action(image_id: int, action_id: int, timeout_minutes: float = 360) -> Action:
    """Wait until an action is no longer in progress.

    All waiting in a process is done by one waiter, so waiting for many actions at once costs few requests.

    Args:
        image_id: The image, from 1 on.
        action_id: The action, from 1 on.
        timeout_minutes: When to stop waiting; the action itself goes on.

    Returns:
        The action, completed or errored.

    Raises:
        TimeoutError: It was still in progress.
        APIError: It cannot be looked at.

    Example:
        ```python
        @flow
        def convert_and_wait(image_id: int) -> Action:
            action = post_image_action(image_id, ConvertImage())
            return wait_for_image_action(image_id, action.id)
        ```
    """
    connection = connect()
    action = await connection.run(get_started_action(connection.client, image_id, action_id))
    try:
        async with asyncio.timeout(timeout_minutes * 60):
            return await connection.run(connection.poller.wait(image_id, action))
    except TimeoutError as error:
        problem = f"action {action_id} of image {image_id} was still in progress after {timeout_minutes:g} minutes"
        raise TimeoutError(problem) from error
