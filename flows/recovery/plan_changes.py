"""Compares two plans: what a person has approved, and what would be created now. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from flows.recovery.preflight import RestorePlan, Step

# The fields of a request to create a Droplet, as a person calls them. Both plans are for the same region.
NAMES = {
    "name": "name",
    "image": "image",
    "size": "size",
    "tags": "tags",
    "ssh_keys": "SSH keys",
    "vpc_uuid": "VPC",
    "monitoring": "monitoring",
    "ipv6": "IPv6",
    "backups": "backups",
}


def plan_changes(approved: RestorePlan, now: RestorePlan) -> list[str]:
    """Say what would now be created differently, such as `web-01 (1): image 5 instead of 4`; empty if nothing.

    Droplets that neither plan creates are not compared, because the reason makes no difference.

    Args:
        approved: The plan that was approved.
        now: The plan that was computed after that.
    """
    before, after = ({step.marker: step for step in plan.to_create} for plan in (approved, now))
    others = {step.source.label: step for step in now.steps if not step.to_create}
    changes = [change for marker, step in before.items() if (change := _change(step, after.get(marker), others))]
    return changes + [
        f"{step.source.label}: was not in the approved plan" for marker, step in after.items() if marker not in before
    ]


def _change(old: Step, new: Step | None, others: Mapping[str, Step]) -> str:
    label = old.source.label
    if new is None:
        return f"{label}: {_why_no_longer(others.get(label))}"
    changed = ", ".join(_changed_fields(old, new))
    return f"{label}: {changed}" if changed else ""


def _why_no_longer(step: Step | None) -> str:
    if step is None:
        return "no longer exists"
    if step.existing:
        return f"has already been restored, as Droplet {step.existing.id}"
    if step.left:
        return "the account's Droplet limit is reached"
    return step.problem or "is already in the region"


def _changed_fields(old: Step, new: Step) -> Iterator[str]:
    before, after = (step.request.model_dump() if step.request else {} for step in (old, new))
    for field, name in NAMES.items():
        if (now := _text(after.get(field))) != (was := _text(before.get(field))):
            yield f"{name} {now} instead of {was}"
    was_price, price = (step.size.price_monthly if step.size else 0.0 for step in (old, new))
    if price != was_price:
        yield f"${price:.2f} a month instead of ${was_price:.2f}"


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        # Their order means nothing.
        return ", ".join(sorted(map(str, value))) or "none"
    return str(value or "none")
