"""Names of flows, and of their runs: what and where, as the UI lists them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from prefect.runtime import flow_run

from flows.parameters import slugs_of

# All of this project, as Prefect knows them.
FLOWS = (
    "replicate-backups",
    "transfer-images",
    "convert-backups",
    "prune-snapshots",
    "report-coverage",
    "image-action-history",
)
MOST_NAMED = 3


def replication_run_name() -> str:
    """Such as `dr -> all regions, 2026-11-23 03:00`."""
    parameters = flow_run.parameters
    regions = parameters.get("regions")
    tag = parameters.get("droplet_tag")
    named = _images(parameters) if parameters.get("image_ids") is not None else ""
    what = " and ".join(each for each in (tag, named) if each) or "all Droplets"
    where = "all regions" if regions is None else _some(slugs_of(regions), "regions")
    dry_run = " (dry run)" if parameters.get("dry_run") else ""
    return f"{what} -> {where}, {_now()}{dry_run}"


def images_run_name() -> str:
    """Such as `62137902, 62137903, 2026-11-23 03:00`."""
    return f"{_images(flow_run.parameters)}, {_now()}"


def coverage_run_name() -> str:
    """Such as `coverage of dr, 2026-11-23 03:00`."""
    return f"coverage of {flow_run.parameters.get('droplet_tag') or 'all Droplets'}, {_now()}"


def pruning_run_name() -> str:
    """Such as `prune dr, 2026-11-23 03:00`."""
    parameters = flow_run.parameters
    dry_run = " (dry run)" if parameters.get("dry_run", True) else ""
    return f"prune {parameters.get('droplet_tag') or 'all Droplets'}, {_now()}{dry_run}"


def _images(parameters: dict[str, Any]) -> str:
    return _some(parameters.get("image_ids") or [], "images")


def _some(things: Sequence[object], noun: str) -> str:
    return ", ".join(map(str, things)) if 0 < len(things) <= MOST_NAMED else f"{len(things)} {noun}"


def _now() -> str:
    return datetime.now().astimezone().strftime("%Y-%m-%d %H:%M")
