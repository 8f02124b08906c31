"""Names of flows and of flow runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, TypeVar

from prefect.runtime import flow_run
from pydantic_core import PydanticCustomError

from flows.parameters import ids_of, region_of, several_credentials_of, slugs_of, tag_of
from tasks.accounts import DEFAULT_ACCOUNT, RUNS_OF_ACCOUNTS, UNSAVED_ACCOUNT, prefix_of_runs
from tasks.credentials import account_of

# All flows of this project.
FLOWS = (
    "replicate-backups",
    "transfer-images",
    "convert-backups",
    "prune-snapshots",
    "report-coverage",
    "image-action-history",
    "restore-droplets",
    "drill-restore",
    "snapshot-droplets",
)
MOST_NAMED = 3

T = TypeVar("T")


def accounts_in(parameters: Mapping[str, Any]) -> list[str]:
    """Name the accounts of a run by its parameters, also as Prefect's server stores them."""
    try:
        credentials = several_credentials_of(parameters.get("credentials"))
    except PydanticCustomError:
        # Not a name: a block as Prefect's server stores it, or a mistake, which the run itself reports.
        return [UNSAVED_ACCOUNT]
    return [account_of(each) for each in credentials] if credentials else [DEFAULT_ACCOUNT]


def account_of_run(parameters: Mapping[str, Any], name: str | None) -> str:
    """Name the account of a run that may have only one; if its parameters only refer to a block, by the run's name."""
    accounts = accounts_in(parameters)
    account = accounts[0] if len(accounts) == 1 else UNSAVED_ACCOUNT
    if account == UNSAVED_ACCOUNT and name and name.startswith(RUNS_OF_ACCOUNTS):
        return name.removeprefix(RUNS_OF_ACCOUNTS).partition(":")[0]
    return account


def replication_run_name() -> str:
    """Such as `dr -> all regions, 2026-11-23 03:00`."""
    parameters = flow_run.parameters
    regions = _read(slugs_of, parameters.get("regions"))
    tag = _read(tag_of, parameters.get("droplet_tag"))
    named = _images(parameters) if parameters.get("image_ids") is not None else ""
    what = " and ".join(str(each) for each in (tag, named) if each) or "all Droplets"
    where = "all regions" if regions is None else _some(regions, "regions")
    dry_run = " (dry run)" if parameters.get("dry_run") else ""
    return f"{_account()}{what} -> {where}, {_now()}{dry_run}"


def images_run_name() -> str:
    """Such as `62137902, 62137903, 2026-11-23 03:00`."""
    return f"{_account()}{_images(flow_run.parameters)}, {_now()}"


def coverage_run_name() -> str:
    """Such as `coverage of dr, 2026-11-23 03:00`."""
    return f"{_account()}coverage of {_droplets(flow_run.parameters)}, {_now()}"


def pruning_run_name() -> str:
    """Such as `prune dr, 2026-11-23 03:00`."""
    parameters = flow_run.parameters
    dry_run = " (dry run)" if parameters.get("dry_run", True) else ""
    return f"{_account()}prune {_droplets(parameters)}, {_now()}{dry_run}"


def restore_run_name() -> str:
    """Such as `restore dr to fra1, 2026-11-23 03:00 (dry run)`."""
    parameters = flow_run.parameters
    named = [
        _some(_read(ids_of, parameters[name]), noun)
        for name, noun in (("droplet_ids", "Droplets"), ("image_ids", "images"))
        if parameters.get(name) is not None
    ]
    what = ", ".join(named) or _droplets(parameters)
    dry_run = " (dry run)" if parameters.get("dry_run", True) else ""
    return f"{_account()}restore {what} to {_read(region_of, parameters.get('region'))}, {_now()}{dry_run}"


def drill_run_name() -> str:
    """Such as `restore drill of dr, 2026-11-23 03:00`."""
    parameters = flow_run.parameters
    dry_run = " (dry run)" if parameters.get("dry_run") else ""
    return f"{_account()}restore drill of {_droplets(parameters)}, {_now()}{dry_run}"


def snapshots_run_name() -> str:
    """Such as `snapshots of dr, 2026-11-23 03:00`."""
    parameters = flow_run.parameters
    named = _read(ids_of, parameters["droplet_ids"]) if parameters.get("droplet_ids") is not None else None
    what = _droplets(parameters) if named is None else _some(named, "Droplets")
    dry_run = " (dry run)" if parameters.get("dry_run") else ""
    return f"{_account()}snapshots of {what}, {_now()}{dry_run}"


def _account() -> str:
    """Such as `@prod: `; empty for the default account."""
    accounts = accounts_in(flow_run.parameters)
    if accounts == [DEFAULT_ACCOUNT]:
        return ""
    if accounts == [UNSAVED_ACCOUNT] or len(accounts) > 1:
        return f"{', '.join(accounts)}: "
    return prefix_of_runs(*accounts)


def _droplets(parameters: dict[str, Any]) -> str:
    return str(_read(tag_of, parameters.get("droplet_tag")) or "all Droplets")


def _images(parameters: dict[str, Any]) -> str:
    return _some(_read(ids_of, parameters.get("image_ids")) or [], "images")


def _read(read: Callable[[object], T], value: Any) -> T | Any:
    """Read a parameter; return an invalid one as it is, because the run itself reports it."""
    try:
        return read(value)
    except PydanticCustomError:
        return value


def _some(things: Any, noun: str) -> str:
    if not isinstance(things, (list, tuple)):
        return str(things)
    return ", ".join(map(str, things)) if 0 < len(things) <= MOST_NAMED else f"{len(things)} {noun}"


def _now() -> str:
    return datetime.now().astimezone().strftime("%Y-%m-%d %H:%M")
