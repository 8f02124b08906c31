"""Converting backups, without copying them anywhere."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress

from prefect.context import AsyncClientContext

from flows.replication.action_runner import ActionErrored, ActionRunner, Ending, explain, largest_first
from flows.replication.planning import conversion_refusal_of, running
from tasks.digitalocean import Action, APIError, Connection, ConvertImage, Image
from tasks.reporting.report import ConversionRow

OUTCOMES = {
    Ending.NOTHING_TO_DO: "already_a_snapshot",
    Ending.STARTED: "started",
    Ending.DONE: "converted",
    Ending.ADOPTED: "adopted",
}


def to_convert(images: Iterable[Image], actions: Sequence[Action]) -> list[Image]:
    """Choose the images that can be converted, by the actions on them."""
    return [image for image in images if not conversion_refusal_of(image, _on(image, actions))]


def _on(image: Image, actions: Iterable[Action]) -> list[Action]:
    return [action for action in actions if action.resource_id == image.id]


class Conversion:
    """Some backups being converted.

    Args:
        connection: The API.
        actions: Actions on the images, as far as they are known.
        wait: Whether to wait until the conversions are done.
        tag: The tag on images that this project converts.
        tag_once_converted: Images that could not be tagged as backups, so have to be as snapshots.
    """

    def __init__(
        self,
        connection: Connection,
        actions: Sequence[Action],
        *,
        wait: bool,
        tag: str,
        tag_once_converted: Collection[int] = (),
    ) -> None:
        self._runner = ActionRunner(connection)
        self._actions = actions
        self._wait = wait
        self._tag = tag
        self._tag_once_converted = tag_once_converted
        self._started: dict[int, Action] = {}
        self._rows: dict[int, ConversionRow] = {}

    async def run(self, images: Sequence[Image], timeout_seconds: float) -> tuple[ConversionRow, ...]:
        """Convert what is a backup.

        Args:
            images: The images.
            timeout_seconds: When to stop starting and waiting.

        Returns:
            A row an image.
        """
        serving = asyncio.create_task(self._runner.queue.serve())
        try:
            with suppress(TimeoutError):
                # One client of Prefect for all task runs; without it, each would open its own.
                async with (
                    AsyncClientContext.get_or_create(),
                    asyncio.timeout(timeout_seconds),
                    asyncio.TaskGroup() as all_,
                ):
                    for image in images:
                        all_.create_task(self._convert(image))
        finally:
            serving.cancel()
        return tuple(self._rows.get(image.id) or self._row(image, "timed_out", "still in progress") for image in images)

    async def _convert(self, image: Image) -> None:
        actions = _on(image, self._actions)
        if image.type == "snapshot" and not image.public:
            self._rows[image.id] = self._row(image, "already_a_snapshot")
            return
        if reason := conversion_refusal_of(image, actions):
            self._rows[image.id] = self._row(image, "failed", reason)
            return
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            ending = await self._runner.see_through(
                image,
                ConvertImage(),
                (largest_first(image),),
                running(actions, ConvertImage()),
                lambda action: self._started.update({image.id: action}),
                wait=self._wait,
            )
        except (APIError, ActionErrored) as error:
            self._rows[image.id] = self._row(image, "failed", explain(error, image))
        else:
            seconds = round(loop.time() - began, 1) if ending in {Ending.DONE, Ending.ADOPTED} else None
            self._rows[image.id] = self._row(image, OUTCOMES[ending], seconds=seconds)
            if image.id in self._tag_once_converted and ending is not Ending.STARTED:
                await self._runner.tag_converted(image.id, self._tag)

    def _row(self, image: Image, outcome: str, error: str = "", seconds: float | None = None) -> ConversionRow:
        action = self._started.get(image.id)
        return ConversionRow(
            image_id=image.id,
            image_name=image.name,
            outcome=outcome,
            action_id=action.id if action else None,
            seconds=seconds,
            error=error,
        )
