"""Reports of runs, apart from pruning (see `pruning_report.py`)."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from tasks.accounts import DEFAULT_ACCOUNT
from tasks.digitalocean import Action, Usage


class Outcome(StrEnum):
    """The outcome of one copy, conversion or snapshot."""

    ALREADY_THERE = "already_there"
    TRANSFERRED = "transferred"
    CONVERTED = "converted"
    TAKEN = "taken"
    ADOPTED = "adopted"
    PLANNED = "planned"
    STARTED = "started"
    FAILED = "failed"
    TIMED_OUT = "timed_out"


REQUEST_ID = re.compile(r" \(request ID [^)]*\)")
MOST_NAMED = 20
FEW_REGIONS = 3
BAD_OUTCOMES = frozenset({Outcome.FAILED, Outcome.TIMED_OUT})
CONTINUES = "Actions that have started continue at DigitalOcean. Run the command again to finish."


class Row(BaseModel):
    """One image and one region, or one image's conversion.

    Attributes:
        source: Name and ID of the image's Droplet, or the name of the image.
        image_id: The image; None if its snapshot could not be taken.
        region: Slug of the region; None for a conversion.
        outcome: `adopted` if another run or a person had already started the action.
        seconds: From the start of the action until it was found completed; None if the run did not wait for it.
        error: What went wrong, with the API's message if it sent one.
        needs_conversion: Whether the image was still a backup when the run began.
        age_hours: Age of the newest copy in the region, of this image or an older one; None if unknown or not there.
    """

    model_config = ConfigDict(frozen=True)

    source: str
    droplet_id: int | None = None
    image_id: int | None
    image_name: str = ""
    region: str | None = None
    outcome: Outcome
    action_id: int | None = None
    seconds: float | None = None
    error: str = ""
    needs_conversion: bool = False
    age_hours: float | None = None

    @property
    def reason(self) -> str:
        """What went wrong, without the request ID, so that equal causes have equal reasons."""
        return REQUEST_ID.sub("", self.error) or self.outcome.replace("_", " ")


class SnapshotRow(BaseModel):
    """The snapshot of one Droplet.

    Attributes:
        source: Name and ID of the Droplet.
        image_id: The snapshot; None if it is not known yet.
        image_name: Its name, or the name that it was to get.
        size_gigabytes: Its size; before it is taken, an estimate, or None.
        outcome: `already_there` if the Droplet has a recent one, `adopted` if another run or a person started it.
        seconds: From the beginning until it was found; None if the run did not wait for it.
        error: What went wrong, with the API's message if it sent one.
        note: Why no other snapshot was needed.
    """

    model_config = ConfigDict(frozen=True)

    source: str
    droplet_id: int
    image_id: int | None = None
    image_name: str = ""
    size_gigabytes: float | None = None
    outcome: Outcome
    action_id: int | None = None
    seconds: float | None = None
    error: str = ""
    note: str = ""

    @property
    def reason(self) -> str:
        """What went wrong, without the request ID, so that equal causes have equal reasons."""
        return REQUEST_ID.sub("", self.error) or self.outcome.replace("_", " ")


@dataclass(frozen=True)
class Problem:
    """What went wrong with an image, once for all regions with the same reason.

    Attributes:
        source: Name and ID of the image's Droplet, or the name of the image.
        image_id: The image; None if the Droplet has none.
        everywhere: Whether these are all target regions of the image.
        error: What went wrong, with the ID of the first request.
        reason: The same without the ID.
    """

    source: str
    image_id: int | None
    regions: tuple[str, ...]
    everywhere: bool
    error: str
    reason: str

    @property
    def image(self) -> str:
        """Such as `web-01 (3164494), image 62137902`."""
        if self.image_id is None:
            return self.source
        image = f"image {self.image_id}"
        return image if self.source == str(self.image_id) else f"{self.source}, {image}"

    @property
    def image_and_regions(self) -> str:
        """Such as `web-01 (3164494), image 62137902 in fra1, nyc3`."""
        return f"{self.image} in {self.where}" if self.regions else self.image

    @property
    def where(self) -> str:
        """Such as `fra1, nyc3` or `all 8 regions`."""
        few = len(self.regions) <= FEW_REGIONS
        return f"all {len(self.regions)} regions" if self.everywhere and not few else ", ".join(self.regions)


class RunReport(BaseModel):
    """What all reports have in common.

    Attributes:
        account: Name of the account; `default` is the one whose token is in the environment.
        interrupted: Whether Ctrl-C ended the run early.
        rejected: Whether a person decided that the run ends without its work.
    """

    model_config = ConfigDict(frozen=True)

    account: str = DEFAULT_ACCOUNT
    usage: Usage = Usage()
    interrupted: bool = False
    rejected: bool = False

    @property
    @abstractmethod
    def summary(self) -> str:
        """The run in one line."""

    @property
    @abstractmethod
    def failure(self) -> str:
        """What went wrong, in one sentence; empty on success."""

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What went wrong, once per image and reason."""
        return ()

    @property
    def notes(self) -> tuple[str, ...]:
        """Further warnings."""
        return ()

    @property
    def spent(self) -> str:
        """Such as `12 API requests, 0 answered with 429`."""
        return f"{count(self.usage.requests, 'API request')}, {self.usage.too_many_requests} answered with 429"


class ReplicationReport(RunReport):
    """The report of a run that copies or converts images.

    Attributes:
        rows: One per image and region.
        regions: Slugs of the target regions; empty if images were only to be converted.
        doubtful_regions: Target regions that the API does not list as available for image transfers.
        without_backups: Names and IDs of Droplets without backups.
        volumes: Number of attached volumes by Droplet name and ID. Copies do not include volumes.
        snapshots: One per Droplet of which a snapshot was to be taken and copied.
        added_gb: Size that conversions and new snapshots add to the account's snapshots; in a dry run, an estimate.
        added_unsized: How many of them have no known size, and are not in `added_gb`.
        price_per_gb_month: Monthly price of a GB of snapshots in US dollars; 0 to report no costs.
    """

    rows: tuple[Row, ...] = ()
    conversions: tuple[Row, ...] = ()
    regions: tuple[str, ...] = ()
    doubtful_regions: tuple[str, ...] = ()
    without_backups: tuple[str, ...] = ()
    volumes: dict[str, int] = {}
    snapshots: tuple[SnapshotRow, ...] = ()
    dry_run: bool = False
    added_gb: float = 0.0
    added_unsized: int = 0
    price_per_gb_month: float = 0.0

    @property
    def wanted(self) -> tuple[Row, ...]:
        """The rows of the copies, or of the conversions if there are no regions."""
        return self.rows if self.regions else self.conversions

    @property
    def totals(self) -> dict[Outcome, int]:
        """Number of copies by outcome; of conversions if there are no regions."""
        counts = Counter(row.outcome for row in self.wanted)
        return {outcome: counts[outcome] for outcome in Outcome if counts[outcome]}

    @property
    def bad_rows(self) -> tuple[Row, ...]:
        """The copies that did not arrive, or the images that were not converted."""
        return tuple(row for row in self.wanted if row.outcome in BAD_OUTCOMES)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What went wrong, once per image and reason."""
        wanted = Counter((row.source, row.image_id) for row in self.wanted)
        alike: dict[tuple[str, int | None, str], list[Row]] = {}
        for row in self.bad_rows:
            alike.setdefault((row.source, row.image_id, row.reason), []).append(row)
        return tuple(
            Problem(
                source=source,
                image_id=image_id,
                regions=tuple(row.region for row in rows if row.region),
                everywhere=len(rows) == wanted[source, image_id],
                error=rows[0].error or reason,
                reason=reason,
            )
            for (source, image_id, reason), rows in alike.items()
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """Warnings about volumes and regions."""
        notes = []
        if self.volumes:
            attached = [f"{droplet} has {count(number, 'volume')}" for droplet, number in self.volumes.items()]
            notes.append(f"Volumes are not covered, only the Droplets' own disks: {listed(attached)}.")
        if self.doubtful_regions:
            notes.append(
                f"DigitalOcean does not list {listed(self.doubtful_regions)} as available for image transfers. "
                "Regions that you name are tried anyway: check the spelling."
            )
        return tuple(notes)

    @property
    def summary(self) -> str:
        """The run in one line."""
        images = count(len({(row.source, row.image_id) for row in self.wanted}), "image")
        counts = ", ".join(f"{number} {outcome.replace('_', ' ')}" for outcome, number in self.totals.items())
        where = f" in {count(len(self.regions), 'region')}" if self.regions else ""
        copies = f"{images}{where}: {counts or 'nothing to do'}"
        if self.dry_run:
            return f"Dry run, {copies}; would add {self.added}; {self.spent}"
        added = f"added {self.added}; " if self.added_gb or self.added_unsized else ""
        return f"{copies}; {added}{self.spent}"

    @property
    def added(self) -> str:
        """What conversions and new snapshots add, such as `12.5 GB of snapshots, $0.75 a month`."""
        return added_snapshots(self.added_gb, self.price_per_gb_month, self.added_unsized)

    @property
    def failure(self) -> str:
        """How many copies did not arrive, and the first reason; empty on success."""
        if not self.bad_rows:
            return ""
        how_many = f"{len(self.bad_rows)} of {len(self.wanted)}"
        if self.interrupted:
            undone = f"{how_many} copies have not arrived" if self.regions else f"{how_many} images are not converted"
            return f"{undone} yet. {CONTINUES}"
        first = self.bad_rows[0]
        reason = first.error or first.outcome.replace("_", " ")
        if not self.regions:
            return f"{how_many} images were not converted (first: {first.image_id}: {reason})"
        what = first.source if first.image_id is None else f"image {first.image_id}"
        return f"{how_many} copies did not arrive (first: {what} to {first.region}: {reason})"


class ImageHistory(BaseModel):
    """The actions of one image.

    Attributes:
        error: Why they could not be read; empty on success.
    """

    model_config = ConfigDict(frozen=True)

    image_id: int
    actions: tuple[Action, ...] = ()
    error: str = ""


class ActionHistory(RunReport):
    """The actions of some images."""

    images: tuple[ImageHistory, ...] = ()

    @property
    def summary(self) -> str:
        """The report in one line."""
        actions = sum(len(image.actions) for image in self.images)
        images = count(len(self.images), "image")
        return f"{count(actions, 'action')} on {images}; {count(self.usage.requests, 'API request')}"

    @property
    def failure(self) -> str:
        """How many images could not be read, and the first reason; empty on success."""
        unread = [image for image in self.images if image.error]
        return (
            f"{len(unread)} of {len(self.images)} images could not be read (first: {unread[0].error})" if unread else ""
        )


def count(number: int, noun: str, plural: str = "") -> str:
    """Such as `1 image` or `2 images`."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def gb(size: float) -> str:
    """Such as `12.5 GB`."""
    return f"{size:.2f}".rstrip("0").rstrip(".") + " GB"


def monthly(size: float, price_per_gb_month: float) -> str:
    """Such as `, $0.75 a month`; empty if the price per GB is 0."""
    return f", ${size * price_per_gb_month:,.2f} a month" if price_per_gb_month else ""


def added_snapshots(size: float, price_per_gb_month: float, unsized: int = 0) -> str:
    """Describe the size and price of new snapshots, such as `12.5 GB of snapshots, $0.75 a month`; or `no snapshots`.

    Args:
        size: Their known size in GB.
        price_per_gb_month: Price per GB and month in US dollars; 0 to leave it out.
        unsized: How many of them have no known size.
    """
    if not size and not unsized:
        return "no snapshots"
    return f"{'at least ' if unsized else ''}{gb(size)} of snapshots{monthly(size, price_per_gb_month)}"


def estimated_snapshots(size: float, price_per_gb_month: float, unsized: int = 0) -> str:
    """The same for an estimate, such as `about 12.5 GB of snapshots, $0.75 a month`."""
    return f"{'about ' if size and not unsized else ''}{added_snapshots(size, price_per_gb_month, unsized)}"


def listed(things: Sequence[str]) -> str:
    """Join things with commas, at most `MOST_NAMED` of them."""
    more = len(things) - MOST_NAMED
    return ", ".join([*things[:MOST_NAMED], *([f"and {more} more"] if more > 0 else [])])
