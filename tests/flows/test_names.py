"""Names of flow runs, as the UI lists them."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from prefect.context import FlowRunContext
from pydantic import SecretStr

from flows.names import (
    account_of_run,
    accounts_in,
    coverage_run_name,
    images_run_name,
    pruning_run_name,
    replication_run_name,
)
from tasks.credentials import DigitalOceanCredentials


def named(name: Callable[[], str], **parameters: Any) -> str:
    """A run's name without the time that all of them end in."""
    context: dict[str, Any] = {"flow_run": SimpleNamespace(id=uuid4()), "parameters": parameters}
    with FlowRunContext.model_construct(**context):
        whole = name()
    what, moment = whole.rsplit(", ", 1)
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d", moment)
    return what + moment[len("2026-11-23 03:00") :]


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"droplet_tag": None, "regions": None}, "all Droplets -> all regions"),
        ({"droplet_tag": "dr", "regions": ["nyc3", "fra1"]}, "dr -> nyc3, fra1"),
        ({"droplet_tag": "dr", "regions": list("abcd")}, "dr -> 4 regions"),
        ({"droplet_tag": "dr", "regions": []}, "dr -> 0 regions"),
        ({"image_ids": [1, 2, 3], "regions": None}, "1, 2, 3 -> all regions"),
        ({"image_ids": [1, 2, 3, 4], "regions": ["nyc3"]}, "4 images -> nyc3"),
        ({"droplet_tag": None, "image_ids": None, "regions": None}, "all Droplets -> all regions"),
        ({"droplet_tag": None, "image_ids": [1, 2], "regions": None}, "1, 2 -> all regions"),
        ({"droplet_tag": "dr", "image_ids": [1, 2, 3, 4], "regions": ["nyc3"]}, "dr and 4 images -> nyc3"),
        ({"droplet_tag": "dr", "regions": ["fra1 (Frankfurt 1)", "nyc3"]}, "dr -> fra1, nyc3"),
        ({"droplet_tag": None, "regions": None, "dry_run": True}, "all Droplets -> all regions (dry run)"),
    ],
)
def test_a_copying_run_is_named_after_its_source_and_regions(parameters: dict[str, Any], expected: str) -> None:
    assert named(replication_run_name, **parameters) == expected


@pytest.mark.parametrize(("ids", "expected"), [([7], "7"), ([7, 8, 9, 10], "4 images"), ([], "0 images")])
def test_a_run_on_images_is_named_after_them(ids: list[int], expected: str) -> None:
    assert named(images_run_name, image_ids=ids) == expected


def test_a_coverage_run_is_named_after_the_droplets() -> None:
    assert named(coverage_run_name, droplet_tag=None) == "coverage of all Droplets"
    assert named(coverage_run_name, droplet_tag="dr") == "coverage of dr"


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"droplet_tag": None, "dry_run": False}, "prune all Droplets"),
        ({"droplet_tag": "dr", "dry_run": False}, "prune dr"),
        ({"droplet_tag": "dr", "dry_run": True}, "prune dr (dry run)"),
        ({}, "prune all Droplets (dry run)"),
    ],
)
def test_a_pruning_run_is_named_after_the_droplets_and_is_a_dry_run_by_default(
    parameters: dict[str, Any], expected: str
) -> None:
    assert named(pruning_run_name, **parameters) == expected


def test_a_run_on_another_account_is_named_after_it_first() -> None:
    block = DigitalOceanCredentials(token=SecretStr("dop_v1_0"))
    assert named(replication_run_name, credentials="prod") == "@prod: all Droplets -> all regions"
    assert named(pruning_run_name, credentials="prod", dry_run=False) == "@prod: prune all Droplets"
    assert named(images_run_name, credentials=block, image_ids=[7]) == "unsaved: 7"
    assert named(coverage_run_name, credentials="prod, shop") == "prod, shop: coverage of all Droplets"
    assert named(coverage_run_name, credentials=["prod"], droplet_tag="dr") == "@prod: coverage of dr"
    assert named(replication_run_name, credentials="") == "all Droplets -> all regions"


def test_a_block_as_the_server_stores_it_is_not_the_default_account() -> None:
    stored = {"credentials": {"token": "**********"}}
    assert accounts_in(stored) == ["unsaved"]
    assert account_of_run(stored, "@prod: all Droplets -> all regions, 2026-11-23 03:00") == "prod"
    assert account_of_run({"credentials": "shop"}, "@prod: named otherwise") == "shop"
    assert account_of_run({"credentials": "prod, shop"}, "prod, shop: all Droplets -> all regions") == "unsaved"
    assert accounts_in({}) == ["default"]
