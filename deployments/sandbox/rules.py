"""The rules of the API: each returns the API's message if it refuses, else None."""

from __future__ import annotations

from deployments.sandbox.account import Account, Droplet, DropletPlan, Image
from deployments.sandbox.behavior import Behavior
from deployments.sandbox.regions import Region

PENDING_EVENT = "Droplet already has a pending event."


def why_not_convert(image: Image, now: float) -> str | None:
    """Check whether an image can be converted to a snapshot."""
    if not _is_available(image):
        return "Image is not available."
    if _is_locked(image, now):
        return "Image already has a pending event."
    if image.type == "snapshot":
        return "Image is already a snapshot."
    if image.type != "backup":
        return "Only backups can be converted to snapshots."
    return None


def why_not_transfer(image: Image, region: Region | None, now: float, behavior: Behavior) -> str | None:  # noqa: PLR0911 - one for each reason
    """Check whether an image can be transferred to a region."""
    if region is None:
        return "Region is invalid."
    if not region.takes_images:
        return f"Region {region.slug} is not available for image transfers."
    if not _is_available(image):
        return "Image is not available."
    if _is_locked(image, now):
        return "Image already has a pending event."
    if image.type not in ("snapshot", "custom"):
        return "Only snapshots can be transferred. Convert the image to a snapshot first."
    if region.slug in image.regions:
        return f"Image is already available in region {region.slug}."
    pending = any(action.region == region.slug for action in image.pending())
    if pending and behavior.duplicate_transfers == "refuse":
        return f"Image already has a pending transfer to region {region.slug}."
    return None


def why_not_delete(image: Image, now: float) -> str | None:
    """Check whether an image can be deleted."""
    if image.type == "backup":
        return "Backups cannot be deleted."
    if image.pending() or now < image.locked_until:
        return "Image already has a pending event."
    return None


def why_not_create(account: Account, plan: DropletPlan, count: int) -> str | None:  # noqa: PLR0911 - one for each reason
    """Check whether a number of Droplets can be created."""
    region, image = account.regions[plan.region], plan.image
    if not region.available:
        return f"Region {region.slug} is not available."
    if plan.size.slug not in region.sizes:
        return f"Size {plan.size.slug} is not available in region {region.slug}."
    if image.status != "available" or region.slug not in image.regions:
        return f"The image you specified is not available in region {region.slug}."
    if plan.size.disk < image.min_disk_size:
        return f"The image needs a disk of {image.min_disk_size} GB; size {plan.size.slug} has {plan.size.disk} GB."
    if len(account.droplets) + count > account.droplet_limit:
        return "creating this/these droplet(s) will exceed your droplet limit"
    if region.slug in account.full_regions:
        return f"There is not enough capacity in region {region.slug} at the moment."
    return None


def why_not_snapshot(droplet: Droplet, region: Region) -> str | None:
    """Check whether a snapshot of a Droplet can be taken."""
    if droplet.is_busy():
        return PENDING_EVENT
    if droplet.status == "new":
        return "Droplet is not active."
    if not region.available:
        return f"Region {region.slug} is not available."
    return None


def _is_available(image: Image) -> bool:
    # After a region was lost, an image may be nowhere.
    return image.status == "available" and bool(image.regions)


def _is_locked(image: Image, now: float) -> bool:
    converting = any(action.type == "convert" for action in image.pending())
    return converting or now < image.locked_until
