"""What runs did, and how they say it; what a run that deletes did is in `pruning`."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from tasks.digitalocean import Action


class Outcome(StrEnum):
    """What became of one image in one region."""

    ALREADY_THERE = "already_there"
    TRANSFERRED = "transferred"
    ADOPTED = "adopted"
    PLANNED = "planned"
    STARTED = "started"
    FAILED = "failed"
    TIMED_OUT = "timed_out"


REQUEST_ID = re.compile(r" \(request id [^)]*\)")
MOST_NAMED = 20
FEW_REGIONS = 3
BAD_OUTCOMES = frozenset({Outcome.FAILED, Outcome.TIMED_OUT})
ARRIVED = frozenset({Outcome.ALREADY_THERE, Outcome.TRANSFERRED, Outcome.ADOPTED})


class Row(BaseModel):
    """One image and one region.

    Attributes:
        source: What the image is a copy of, for people: a Droplet's name and id, or the image's own name.
        droplet_id: The Droplet it is a copy of, where that is known.
        image_id: The image.
        image_name: The image's name, which is free text.
        region: Slug of the region.
        outcome: What became of it. `adopted`: another run or person had started the transfer already.
        action_id: The transfer, where there was one.
        seconds: From the start of the transfer to when it was found finished, None where nothing was waited for.
        error: What went wrong, in the API's own words where it said something.
        needs_conversion: Whether the image was still a backup when the run began.
        age_hours: How old the newest copy in the region is, of this image or an older one; None where nobody asked, or
            there is none.
    """

    model_config = ConfigDict(frozen=True)

    source: str
    droplet_id: int | None = None
    image_id: int
    image_name: str = ""
    region: str
    outcome: Outcome
    action_id: int | None = None
    seconds: float | None = None
    error: str = ""
    needs_conversion: bool = False
    age_hours: float | None = None

    @property
    def reason(self) -> str:
        """What went wrong, without the request id, so that it is the same where the cause is."""
        return REQUEST_ID.sub("", self.error) or self.outcome.replace("_", " ")


class Problem(BaseModel):
    """What went wrong with an image, in all regions in which it is the same.

    Attributes:
        source: What the image is a copy of: a Droplet's name and id, or the image's own name.
        image_id: The image.
        regions: Slugs of the regions.
        everywhere: Whether these are all regions that the image was to be copied to.
        error: What went wrong, with the id of the first request.
        reason: The same without it.
    """

    model_config = ConfigDict(frozen=True)

    source: str
    image_id: int
    regions: tuple[str, ...]
    everywhere: bool
    error: str
    reason: str

    @property
    def image(self) -> str:
        """The image, and what it is a copy of."""
        image = f"image {self.image_id}"
        return image if self.source == str(self.image_id) else f"{self.source}, {image}"

    @property
    def where(self) -> str:
        """The regions."""
        few = len(self.regions) <= FEW_REGIONS
        return f"all {len(self.regions)} regions" if self.everywhere and not few else ", ".join(self.regions)


class RunReport(BaseModel):
    """What every run has to say.

    Attributes:
        api_requests: Requests sent to the API.
        too_many_requests: How many of them were answered with 429.
        seconds: How long the run took.
        interrupted: Whether Ctrl-C has ended it early.
    """

    model_config = ConfigDict(frozen=True)

    api_requests: int = 0
    too_many_requests: int = 0
    seconds: float = 0
    interrupted: bool = False

    @property
    @abstractmethod
    def summary(self) -> str:
        """The run in one line."""

    @property
    @abstractmethod
    def failure(self) -> str:
        """What somebody has to look at; empty when all is well."""

    @property
    def spent(self) -> str:
        """How many requests the run has sent."""
        return f"{count(self.api_requests, 'API request')}, {self.too_many_requests} answered with 429"


class ReplicationReport(RunReport):
    """What a run that copies images did.

    Attributes:
        rows: One per image and region.
        regions: The regions to copy to.
        doubtful_regions: Those of them that were named, but are not available for image transfers by the API's list.
        without_backups: Droplets that have nothing to copy, by name and id.
        volumes: How many volumes are attached to each Droplet that has any, by its name and id. No copy holds them.
        dry_run: Whether nothing was to be changed.
        added_gib: What the planned conversions add to the account's snapshots.
        added_unsized: How many of the images to convert have no size, and are not in `added_gib`.
        price_per_gib_month: What a GiB of snapshots costs a month, if the user has said so.
    """

    rows: tuple[Row, ...] = ()
    regions: tuple[str, ...] = ()
    doubtful_regions: tuple[str, ...] = ()
    without_backups: tuple[str, ...] = ()
    volumes: dict[str, int] = {}
    dry_run: bool = False
    added_gib: float = 0.0
    added_unsized: int = 0
    price_per_gib_month: float | None = None

    @property
    def totals(self) -> dict[Outcome, int]:
        """How many rows have each outcome that occurs."""
        counts = Counter(row.outcome for row in self.rows)
        return {outcome: counts[outcome] for outcome in Outcome if counts[outcome]}

    @property
    def bad_rows(self) -> tuple[Row, ...]:
        """Rows of what did not arrive."""
        return tuple(row for row in self.rows if row.outcome in BAD_OUTCOMES)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What went wrong, once per image and reason."""
        wanted = Counter((row.source, row.image_id) for row in self.rows)
        alike: dict[tuple[str, int, str], list[Row]] = {}
        for row in self.bad_rows:
            alike.setdefault((row.source, row.image_id, row.reason), []).append(row)
        return tuple(
            Problem(
                source=source,
                image_id=image_id,
                regions=tuple(row.region for row in rows),
                everywhere=len(rows) == wanted[source, image_id],
                error=rows[0].error or reason,
                reason=reason,
            )
            for (source, image_id, reason), rows in alike.items()
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader has to know besides, a sentence each."""
        notes = []
        if self.volumes:
            attached = [f"{droplet} has {count(number, 'volume')}" for droplet, number in self.volumes.items()]
            notes.append(f"Volumes are not covered, only the Droplets' own disks: {listed(attached)}.")
        if self.doubtful_regions:
            notes.append(
                f"DigitalOcean's list of regions does not offer {listed(self.doubtful_regions)} for image transfers. "
                "Regions that are named are tried all the same: check the spelling."
            )
        return tuple(notes)

    @property
    def summary(self) -> str:
        """The run in one line."""
        images = len({row.image_id for row in self.rows})
        counts = ", ".join(f"{number} {outcome.replace('_', ' ')}" for outcome, number in self.totals.items())
        copies = f"{count(images, 'image')} in {count(len(self.regions), 'region')}: {counts or 'nothing to do'}"
        if not self.dry_run:
            return f"{copies}; {self.spent}"
        return f"Dry run, {copies}; would add {self.added}; {self.spent}"

    @property
    def added(self) -> str:
        """What the planned conversions add, such as `12.5 GiB of snapshots, 0.75 a month`."""
        return added_snapshots(self.added_gib, self.price_per_gib_month, self.added_unsized)

    @property
    def failure(self) -> str:
        """How many of how many did not arrive, and the first reason; empty when all is well."""
        if not self.bad_rows:
            return ""
        if self.interrupted:
            return (
                f"{len(self.bad_rows)} of {len(self.rows)} copies have not arrived yet; transfers that have started go "
                "on at DigitalOcean. Run the command again to finish."
            )
        first = self.bad_rows[0]
        reason = first.error or first.outcome.replace("_", " ")
        return (
            f"{len(self.bad_rows)} of {len(self.rows)} copies did not arrive "
            f"(first: image {first.image_id} to {first.region}: {reason})"
        )


class CoverageReport(ReplicationReport):
    """Which recovery points are where, and how old.

    Attributes:
        max_age_hours: How old the newest copy in a region may be; None for as old as it is.
        unkept: Snapshots that the usual rule of retention does not keep.
        unkept_gib: Their size.
    """

    max_age_hours: int | None = None
    unkept: int = 0
    unkept_gib: float = 0.0

    @property
    def summary(self) -> str:
        """The report in one line."""
        parts = [super().summary.removesuffix(f"; {self.spent}"), f"replicate_backups would add {self.added}"]
        if self.unkept:
            parts.append(f"{count(self.unkept, 'snapshot')} ({gib(self.unkept_gib)}) that no rule keeps")
        return "; ".join([*parts, self.spent])

    @property
    def failure(self) -> str:
        """Where the objective is missed; empty when all is well, or nobody has set one."""
        if self.max_age_hours is None:
            return ""
        missed = []
        if self.bad_rows:
            first = self.bad_rows[0]
            where = f"{first.source} in {first.region}: {first.error}"
            missed.append(f"{len(self.bad_rows)} of {len(self.rows)} copies are missing or too old (first: {where})")
        if self.without_backups:
            missed.append(f"no backups of {', '.join(self.without_backups)}")
        return "; ".join(missed)


class ConversionRow(BaseModel):
    """One image that was to become a snapshot.

    Attributes:
        image_id: The image.
        outcome: `converted`, `already_a_snapshot`, `adopted` (the conversion was under way already), `started` (not
            waited for), `failed` or `timed_out`.
        action_id: The conversion, where there was one.
        seconds: How long it took, None where nothing was waited for.
        error: What went wrong, in the API's own words where it said something.
    """

    model_config = ConfigDict(frozen=True)

    image_id: int
    image_name: str = ""
    outcome: str
    action_id: int | None = None
    seconds: float | None = None
    error: str = ""


class ConversionReport(RunReport):
    """What a run that converts backups did."""

    rows: tuple[ConversionRow, ...] = ()

    @property
    def bad_rows(self) -> tuple[ConversionRow, ...]:
        """Rows that somebody has to look at."""
        return tuple(row for row in self.rows if row.outcome in BAD_OUTCOMES)

    @property
    def summary(self) -> str:
        """The run in one line."""
        counts = Counter(row.outcome.replace("_", " ") for row in self.rows)
        outcomes = ", ".join(f"{number} {outcome}" for outcome, number in counts.items())
        return f"{count(len(self.rows), 'image')}: {outcomes}; {self.spent}"

    @property
    def failure(self) -> str:
        """How many of how many were not converted, and the first reason; empty when all is well."""
        if not self.bad_rows:
            return ""
        if self.interrupted:
            return (
                f"{len(self.bad_rows)} of {len(self.rows)} images are not converted yet; conversions that have started "
                "go on at DigitalOcean. Run the command again to finish."
            )
        first = self.bad_rows[0]
        reason = first.error or first.outcome.replace("_", " ")
        return f"{len(self.bad_rows)} of {len(self.rows)} images were not converted (first: {first.image_id}: {reason})"


class ImageHistory(BaseModel):
    """The actions of one image.

    Attributes:
        image_id: The image.
        actions: Every action ever run on it.
        error: Why they could not be read; empty if they were.
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
        return f"{count(actions, 'action')} on {images}; {count(self.api_requests, 'API request')}"

    @property
    def failure(self) -> str:
        """How many of how many images could not be read, and the first reason; empty when all is well."""
        unread = [image for image in self.images if image.error]
        return (
            f"{len(unread)} of {len(self.images)} images could not be read (first: {unread[0].error})" if unread else ""
        )


def count(number: int, noun: str, plural: str = "") -> str:
    """Such as `1 image` or `2 images`."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def gib(size: float) -> str:
    """Such as `12.5 GiB`."""
    return f"{size:.2f}".rstrip("0").rstrip(".") + " GiB"


def added_snapshots(size: float, price_per_gib_month: float | None, unsized: int = 0) -> str:
    """Say what new snapshots come to.

    Args:
        size: Their size in GiB, as far as it is known.
        price_per_gib_month: What a GiB costs a month; None where nobody has said.
        unsized: How many of them have no size.

    Returns:
        Such as `12.5 GiB of snapshots, 0.75 a month`.
    """
    price = f", {size * price_per_gib_month:.2f} a month" if price_per_gib_month else ""
    return f"{'at least ' if unsized else ''}{gib(size)} of snapshots{price}"


def listed(things: Sequence[str]) -> str:
    """Name things, but not more than a reader can take in."""
    more = len(things) - MOST_NAMED
    return ", ".join([*things[:MOST_NAMED], *([f"and {more} more"] if more > 0 else [])])
