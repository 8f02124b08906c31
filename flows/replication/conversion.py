"""Converting backups, without copying them anywhere."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from threading import Event

from prefect.context import AsyncClientContext

from flows.replication.action_runner import ActionRunner, Ending, describe, largest_first
from flows.replication.planning import conversion_refusal_of, running
from flows.reporting.report import ConversionRow
from tasks.account_actions import KnownActions
from tasks.digitalocean import Action, Connection, ConvertImage, Image

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
        known: Actions on the images, as far as they are known.
        wait: Whether to wait until the conversions are done.
        tag: The tag on images that this project converts.
        tag_once_converted: Images that could not be tagged as backups, so have to be as snapshots.
    """

    def __init__(
        self,
        connection: Connection,
        known: KnownActions,
        *,
        wait: bool,
        tag: str,
        tag_once_converted: Collection[int] = (),
    ) -> None:
        self._runner = ActionRunner(connection)
        self._known = known
        self._wait = wait
        self._tag = tag
        self._tag_once_converted = tag_once_converted
        self._started: dict[int, Action] = {}
        self._rows: dict[int, ConversionRow] = {}
        self.ended = Event()

    async def run(self, images: Sequence[Image], timeout_seconds: float) -> tuple[ConversionRow, ...]:
        """Convert what is a backup.

        Args:
            images: The images.
            timeout_seconds: When to stop starting and waiting.

        Returns:
            One row per image.
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
            self.ended.set()
        return self.rows_so_far(images)

    def rows_so_far(self, images: Sequence[Image]) -> tuple[ConversionRow, ...]:
        """Say what has come of each image; what is not converted is timed out."""
        return tuple(self._rows.get(image.id) or self._unfinished(image) for image in images)

    def _unfinished(self, image: Image) -> ConversionRow:
        why = "still in progress" if image.id in self._started else "not started: the next run will"
        return self._row(image, "timed_out", why)

    async def _convert(self, image: Image) -> None:
        actions = _on(image, self._known.actions)
        if image.type == "snapshot" and not image.public:
            self._rows[image.id] = self._row(image, "already_a_snapshot")
            return
        if reason := conversion_refusal_of(image, actions):
            self._rows[image.id] = self._row(image, "failed", reason)
            return
        if image.id in self._known.unread:
            self._rows[image.id] = self._row(image, "failed", self._known.unread[image.id])
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
        except Exception as error:  # noqa: BLE001  # one image never stops the others
            self._rows[image.id] = self._row(image, "failed", describe(error))
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
