"""Checks before anything is created: a pure function from what there is to a plan with one step per Droplet."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import fsum

from flows.recovery.markers import RESTORE, RESTORE_FIRST, Purpose
from flows.recovery.sources import Source
from tasks.digitalocean import CreateDroplet, Droplet, Image, Size, SshKey, Vpc
from tasks.digitalocean.models import TAG_PATTERN

# https://docs.digitalocean.com/reference/api/digitalocean/#operation/droplets_create
LONGEST_NAME = 255
NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?")
MOST_SIZES_NAMED = 3


@dataclass(frozen=True)
class Wish:
    """What the user wants.

    Attributes:
        purpose: Why they are created.
        size: Slug of the size of all Droplets; None for the originals' sizes.
        ssh_keys: IDs or fingerprints of SSH keys.
        vpc_uuid: The private network; None for the region's default.
        name_suffix: Appended to the originals' names.
        copy_tags: Whether to give them the originals' tags.
        tags: Further tags.
    """

    purpose: Purpose
    size: str | None = None
    ssh_keys: tuple[str, ...] = ()
    vpc_uuid: str | None = None
    name_suffix: str = ""
    copy_tags: bool = False
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Surroundings:
    """What the account has.

    Attributes:
        sizes: All sizes.
        droplets: All Droplets.
        droplet_limit: How many it may have.
        ssh_keys: The team's keys; empty if not needed.
        vpcs: The private networks; empty if not needed.
    """

    sizes: Sequence[Size]
    droplets: Sequence[Droplet]
    droplet_limit: int
    ssh_keys: Sequence[SshKey] = ()
    vpcs: Sequence[Vpc] = ()


@dataclass(frozen=True)
class Step:
    """One Droplet of the plan.

    Attributes:
        source: What it is rebuilt from.
        request: What to create; None if it cannot be created, or is not needed.
        marker: The tag by which it is recognized.
        size: Its size, or None.
        why_size: Why this size was chosen; empty if it is what was asked for.
        existing: The Droplet that an earlier run created, or None.
        problem: Why it cannot be created; empty if it can.
        left: Whether it has to wait, because the account has reached its Droplet limit.
        fitting: Slugs of the cheapest other sizes that would fit.
    """

    source: Source
    request: CreateDroplet | None = None
    marker: str = ""
    size: Size | None = None
    why_size: str = ""
    existing: Droplet | None = None
    problem: str = ""
    left: bool = False
    fitting: tuple[str, ...] = ()

    @property
    def to_create(self) -> bool:
        """Whether this run creates it."""
        return self.request is not None and self.existing is None and not self.left and not self.problem


@dataclass(frozen=True)
class RestorePlan:
    """What to create.

    Attributes:
        steps: One per Droplet, those that come first first.
    """

    steps: tuple[Step, ...]

    @property
    def to_create(self) -> tuple[Step, ...]:
        """The steps that create a Droplet."""
        return tuple(step for step in self.steps if step.to_create)

    @property
    def price_hourly(self) -> float:
        """What the new Droplets cost per hour, in US dollars."""
        return fsum(step.size.price_hourly for step in self.to_create if step.size)

    @property
    def price_monthly(self) -> float:
        """What the new Droplets cost per month, in US dollars."""
        return fsum(step.size.price_monthly for step in self.to_create if step.size)


def plan_restore(sources: Iterable[Source], wish: Wish, there: Surroundings) -> RestorePlan:
    """Check for every Droplet whether and how it can be created.

    Args:
        sources: What to rebuild.
        wish: What the user wants.
        there: What the account has.
    """
    steps = list(_one_per_marker(_step(source, wish, there) for source in sources))
    # False comes before True.
    steps.sort(key=lambda step: RESTORE_FIRST not in step.source.original.tags)
    room = max(0, there.droplet_limit - len(there.droplets))
    too_many = [step for step in steps if step.to_create][room:]
    return RestorePlan(tuple(replace(step, left=step in too_many) for step in steps))


def why_impossible(wish: Wish, region: str, there: Surroundings) -> str:
    """Say why no Droplet can be created in a region as wished; empty if nothing is known against it."""
    known = {str(key.id) for key in there.ssh_keys} | {key.fingerprint for key in there.ssh_keys}
    if unknown := [key for key in wish.ssh_keys if key.lower() not in known]:
        return f"the account has no SSH key {', '.join(unknown)}"
    if wish.vpc_uuid:
        vpc = next((each for each in there.vpcs if each.id == wish.vpc_uuid.lower()), None)
        if vpc is None:
            return f"VPC {wish.vpc_uuid} does not exist"
        if vpc.region != region:
            return f"VPC {wish.vpc_uuid} is in {vpc.region}, not in {region}"
    return ""


def _step(source: Source, wish: Wish, there: Surroundings) -> Step:
    image = source.image
    if not source.needed:
        return Step(source)
    if image is None or source.problem:
        return Step(source, problem=source.problem)
    marker = wish.purpose.marker(source.droplet_id, image.id)
    if existing := existing_droplet(there.droplets, marker, source.region):
        size = next((each for each in there.sizes if each.slug == existing.size_slug), None)
        # Its creation may have failed.
        again = _created_step(source, image, marker, wish, there).request if existing.being_created else None
        return Step(source, again, marker, size, existing=existing)
    return _created_step(source, image, marker, wish, there)


def _created_step(source: Source, image: Image, marker: str, wish: Wish, there: Surroundings) -> Step:
    name = source.original.name + wish.name_suffix
    size, why_size = choose_size(source, wish, there.sizes)
    problem = why_impossible(wish, source.region, there) or _why_not_name(name) or ("" if size else why_size)
    if problem or size is None:
        return Step(source, marker=marker, size=size, problem=problem)
    copied = filter(TAG_PATTERN.fullmatch, source.original.tags) if wish.copy_tags else ()
    request = CreateDroplet(
        name=name,
        region=source.region,
        size=size.slug,
        image=image.id,
        tags=tuple(dict.fromkeys((wish.purpose.tag, marker, *copied, *wish.tags))),
        ssh_keys=tuple(int(key) if key.isdecimal() else key.lower() for key in wish.ssh_keys),
        vpc_uuid=wish.vpc_uuid.lower() if wish.vpc_uuid else None,
        monitoring="monitoring" in source.original.features,
        ipv6="ipv6" in source.original.features,
        backups=wish.purpose == RESTORE and "backups" in source.original.features,
    )
    others = [each.slug for each in fitting_sizes(there.sizes, source.region, image.min_disk_size) if each != size]
    return Step(source, request, marker, size, why_size, fitting=tuple(others[:MOST_SIZES_NAMED]))


def _one_per_marker(steps: Iterable[Step]) -> Iterator[Step]:
    """Of several images of one Droplet, use only the first: what is created from them could not be told apart."""
    images: dict[str, int] = {}
    for step in steps:
        image_id = step.source.image.id if step.source.image else 0
        used = images.setdefault(step.marker, image_id) if step.marker and not step.problem else image_id
        why = f"image {image_id} belongs to the same Droplet as image {used}: name only one of them"
        yield step if used == image_id else Step(step.source, problem=why)


def existing_droplet(droplets: Iterable[Droplet], marker: str, region: str) -> Droplet | None:
    """Find the Droplet that was created for a marker."""
    return next((each for each in droplets if marker in each.tags and each.region == region), None)


def choose_size(source: Source, wish: Wish, sizes: Sequence[Size]) -> tuple[Size | None, str]:
    """Choose the size of a Droplet: the wished one, else the original's, else the cheapest that fits.

    Returns:
        The size and why it is not what was asked for, or None and the reason.
    """
    least = source.image.min_disk_size if source.image else 0
    fitting = {each.slug: each for each in fitting_sizes(sizes, source.region, least)}
    asked = wish.size or source.original.size
    if asked in fitting:
        return fitting[asked], ""
    known = next((each for each in sizes if each.slug == asked), None)
    if known is None:
        why = f"size {asked} does not exist" if asked else "the original's size is not known"
    elif known.disk < least:
        why = f"size {asked} has a disk of {known.disk} GB, but the image needs {least} GB"
    else:
        why = f"size {asked} is not available in {source.region}"
    if wish.size:
        return None, f"{why}; sizes that fit: {_names(fitting.values())}"
    similar = [each for each in fitting.values() if known is None or each.memory >= known.memory]
    cheapest = min(similar or fitting.values(), key=lambda each: (each.price_monthly, each.slug), default=None)
    if cheapest is None:
        return None, f"{why}, and no size available in {source.region} has a disk of at least {least} GB"
    return cheapest, f"{why}: chose the cheapest that fits"


def fitting_sizes(sizes: Iterable[Size], region: str, least_disk: int) -> list[Size]:
    """List the sizes with a large enough disk that are available in a region, cheapest first."""
    fitting = [each for each in sizes if each.available and region in each.regions and each.disk >= least_disk]
    return sorted(fitting, key=lambda each: (each.price_monthly, each.slug))


def _names(sizes: Collection[Size]) -> str:
    return ", ".join(each.slug for each in list(sizes)[:MOST_SIZES_NAMED]) or "none"


def _why_not_name(name: str) -> str:
    if len(name) > LONGEST_NAME:
        return f"the name {name[:20]}... has more than {LONGEST_NAME} characters"
    return "" if NAME.fullmatch(name) else f"{name!r} is not a valid name: expected letters, digits, dots and dashes"
