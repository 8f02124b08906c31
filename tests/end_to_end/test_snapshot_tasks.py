"""Listing and deleting snapshots, through Prefect."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from prefect import flow

from deployments.sandbox import Fault, FaultKind, Sandbox
from tasks.digitalocean import Snapshot, UnprocessableEntity
from tasks.snapshots import delete_snapshot, list_snapshots
from tests.end_to_end.accounts import changes, images_of


@flow
def listed() -> list[Snapshot]:
    snapshots: list[Snapshot] = list_snapshots()
    return snapshots


@flow
def deleted(image_ids: list[int]) -> list[bool]:
    outcomes: list[bool] = delete_snapshot.map(image_ids).result()
    return outcomes


def test_snapshots_are_listed_and_deleted_once_each(start: Callable[..., Sandbox]) -> None:
    sandbox = start(droplets=6)
    before = listed()
    assert {each.id for each in before} == {image.id for image in images_of(sandbox, "snapshot")}
    assert deleted([each.id for each in before]) == [True] * len(before)
    assert deleted([before[0].id]) == [False]
    assert listed() == []


def test_a_deletion_that_had_no_effect_is_retried_and_one_that_worked_is_not(
    start: Callable[..., Sandbox],
) -> None:
    sandbox = start(droplets=6)
    not_applied, done, *_ = images_of(sandbox, "snapshot")
    sandbox.faults.add(
        Fault(FaultKind.ERROR_BEFORE, "DELETE", f"/{not_applied.id}$"),
        Fault(FaultKind.DROP_AFTER, "DELETE", f"/{done.id}$"),
    )
    assert deleted([not_applied.id, done.id]) == [True, True]
    assert sorted(seen.path for seen in changes(sandbox)) == sorted(
        f"/v2/images/{image.id}" for image in (not_applied, not_applied, done)
    )


def test_a_backup_is_not_deleted_and_the_refusal_is_not_retried(sandbox: Sandbox) -> None:
    backup = images_of(sandbox, "backup")[0]
    with pytest.raises(UnprocessableEntity, match="Backups cannot be deleted"):
        deleted([backup.id])
    assert len(changes(sandbox)) == 1
