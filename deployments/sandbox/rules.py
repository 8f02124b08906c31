"""The rules of image actions: each returns the API's message if it refuses, else None."""

from __future__ import annotations

from deployments.sandbox.account import Image
from deployments.sandbox.behavior import Behavior
from deployments.sandbox.regions import Region


def why_not_convert(image: Image, now: float) -> str | None:
    """Check whether an image can be converted to a snapshot."""
    if image.status != "available":
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
    if image.status != "available":
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


def _is_locked(image: Image, now: float) -> bool:
    converting = any(action.type == "convert" for action in image.pending())
    return converting or now < image.locked_until
