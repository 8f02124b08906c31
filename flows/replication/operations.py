"""What an execution does to images, as task runs of Prefect; tests put something else in their place."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tasks.digitalocean import Action, Image, ImageActionRequest
from tasks.image_actions import list_image_actions, post_image_action
from tasks.images import get_image
from tasks.tags import tag_images


@dataclass(frozen=True)
class Operations:
    """The calls an execution makes.

    Attributes:
        post: Start an action on an image.
        list_actions: List an image's actions.
        get_image: Look at an image; None if it is gone.
        tag: Put a tag on images; returns those that could not be tagged.
    """

    post: Callable[[int, ImageActionRequest], Awaitable[Action]] = post_image_action.aio
    list_actions: Callable[[int], Awaitable[list[Action]]] = list_image_actions.aio
    get_image: Callable[[int], Awaitable[Image | None]] = get_image.aio
    tag: Callable[[str, list[int]], Awaitable[frozenset[int]]] = tag_images.aio


AS_TASK_RUNS = Operations()
