"""What protects a Droplet, and what does not."""

from __future__ import annotations

from datetime import datetime, timedelta
from math import fsum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.audit.droplets import Account, Objective, audit_droplets, snapshots_of_deleted
from flows.reporting.coverage_report import DropletAudit, FindingKind
from tasks.digitalocean import BackupPolicy, Droplet, Image, Volume
from tests.flows.images import NOW, droplet, image, snapshot

TAG = "prefect:replicated"
REGIONS = ("fra1", "nyc3")
DAILY = BackupPolicy(droplet_id=1, enabled=True, plan="daily", hour=0)
WEEKLY = BackupPolicy(droplet_id=1, enabled=True, plan="weekly", weekday="SUN", hour=20)
OFF = BackupPolicy(droplet_id=1, enabled=False)
USAGE_BASED = BackupPolicy(droplet_id=1, enabled=True, plan="platinum")


def account(droplets: list[Droplet], images: list[Image], *policies: BackupPolicy, **other: Any) -> Account:
    known = {each.droplet_id: each for each in policies}
    return Account(droplets, images, TAG, **{"policies": known, "volumes": {}, "proven": {}} | other)


def audit(
    images: list[Image], policy: BackupPolicy = OFF, hours: int | None = None, days: int | None = None, **other: Any
) -> DropletAudit:
    """Audit an account with one Droplet."""
    own = droplet(
        backups=tuple(each.id for each in images if each.type == "backup"),
        snapshots=tuple(each.id for each in images if each.type != "backup"),
    )
    (found,) = audit_droplets(account([own], images, policy, **other), Objective(REGIONS, hours, days), NOW, 0.06)
    return found


def managed(image_id: int = 1, *regions: str, days_old: float = 0, **other: Any) -> Image:
    return image(image_id, "snapshot", *(regions or REGIONS), days_old=days_old, tags=(TAG,), **other)


def kinds(found: DropletAudit) -> list[FindingKind]:
    return [each.kind for each in found.problems]


def texts(found: DropletAudit) -> list[str]:
    return [each.what for each in found.problems]


def test_a_copy_in_all_regions_and_no_overdue_backup_meet_the_objective() -> None:
    found = audit([managed(days_old=0.1)], WEEKLY)
    assert (found.plan, found.schedule, found.meets_objective, found.problems) == (
        "weekly",
        "weekly SUN 20:00",
        True,
        (),
    )
    assert found.ages == pytest.approx({"fra1": 2.4, "nyc3": 2.4})


def test_without_backups_and_snapshots_a_droplet_is_unprotected() -> None:
    found = audit([])
    assert (found.plan, texts(found)) == ("none", ["no backups and no snapshots made by this project"])
    assert not found.meets_objective
    assert found.ages == {"fra1": None, "nyc3": None}


def test_snapshots_that_somebody_made_do_not_count() -> None:
    assert kinds(audit([image(1)])) == [FindingKind.NO_BACKUPS]


def test_own_snapshots_protect_a_droplet_without_a_backup_plan() -> None:
    found = audit([managed()])
    assert (found.plan, found.schedule, found.problems) == ("own snapshots", "own snapshots", ())
    assert found.meets_objective


def test_a_new_droplet_is_told_when_its_first_window_begins() -> None:
    soon = {"start": NOW + timedelta(hours=5), "end": NOW + timedelta(hours=9)}
    young = droplet().model_copy(update={"created_at": NOW - timedelta(hours=1)})
    policy = DAILY.model_validate({**DAILY.model_dump(), "next_window": soon})
    (found,) = audit_droplets(account([young], [], policy), Objective(REGIONS), NOW)
    assert texts(found) == ["no backups yet; the next window begins 2026-11-23 08:00 UTC"]
    assert found.overdue_since is None


def test_an_overdue_backup_is_named_with_the_window_that_was_missed() -> None:
    found = audit([image(1, "backup", *REGIONS, days_old=2)], DAILY)
    assert texts(found) == ["backup overdue: none since the window that ended 2026-11-22 04:00 UTC"]
    assert not found.meets_objective
    assert found.newest_age_hours == 48


def test_a_backup_that_was_converted_to_a_snapshot_still_counts_as_that_backup() -> None:
    assert audit([managed(days_old=0.1)], DAILY).overdue_since is None
    untagged = image(1, "snapshot", *REGIONS, days_old=0.1)
    assert audit([untagged], DAILY, converted={1}).problems == ()


def test_with_an_age_as_the_objective_an_overdue_backup_is_reported_but_meets_it() -> None:
    found = audit([managed(days_old=2)], DAILY, hours=72)
    assert kinds(found) == [FindingKind.OVERDUE]
    assert found.meets_objective


def test_missing_and_old_copies_are_named_with_their_regions() -> None:
    found = audit([managed(1, "fra1", days_old=2), managed(2, "lon1")], hours=24)
    assert texts(found) == ["no copy in nyc3", "newest copy older than 24 h in every region that has one"]
    assert found.ages == {"fra1": 48, "nyc3": None}
    partly = audit([managed(1, "fra1", days_old=2), managed(2, "nyc3")], hours=24)
    assert texts(partly) == ["newest copy older than 24 h in fra1"]


def test_many_missing_regions_are_counted_and_the_others_named() -> None:
    many = tuple(f"reg{number}" for number in range(12))
    own = droplet(snapshots=(1,))
    (some,) = audit_droplets(account([own], [managed(1, "reg3")], OFF), Objective(many), NOW)
    (nowhere,) = audit_droplets(account([own], [managed(1, "lon1")], OFF), Objective(many), NOW)
    assert texts(some) == ["no copy in 11 of 12 regions, only in reg3"]
    assert texts(nowhere) == ["no copy in all 12 regions"]


def test_copies_in_the_own_region_alone_are_pointed_out() -> None:
    own = droplet(backups=(1,)).model_copy(update={"region": "fra1"})
    (found,) = audit_droplets(account([own], [image(1, "backup", "fra1")], DAILY), Objective(REGIONS), NOW)
    assert texts(found) == ["no copy outside the Droplet's own region"]


def test_a_copy_that_is_not_available_does_not_count_but_costs() -> None:
    found = audit([managed(1, size_gigabytes=10, status="pending")])
    assert kinds(found) == [FindingKind.NO_BACKUPS]
    assert (found.snapshots, found.snapshots_gb) == (1, 10)


@pytest.mark.parametrize(("days_ago", "proven"), [(29, True), (31, False), (None, False)])
def test_a_restore_must_be_proven_within_the_days_asked_for(days_ago: int | None, proven: bool) -> None:
    tags = {} if days_ago is None else {1: NOW - timedelta(days=days_ago)}
    found = audit([managed()], days=30, proven=tags)
    assert kinds(found) == ([] if proven else [FindingKind.UNPROVEN])
    assert found.meets_objective is proven
    assert audit([managed()], proven=tags).problems == ()


def test_if_proofs_cannot_be_read_no_restore_counts_as_proven() -> None:
    assert kinds(audit([managed()], days=30, proven=None)) == [FindingKind.UNPROVEN]


def test_volumes_are_named_with_their_sizes_and_do_not_decide_the_objective() -> None:
    known = {"a": Volume(id="a", name="pgdata", size_gigabytes=100)}
    own = droplet(snapshots=(1,), volumes=("a", "b"))
    (unnamed,) = audit_droplets(account([own], [managed()], OFF, volumes=None), Objective(REGIONS), NOW)
    assert unnamed.volumes_text == "2 volumes"
    (found,) = audit_droplets(account([own], [managed()], OFF, volumes=known), Objective(REGIONS), NOW)
    assert found.volumes_text == "pgdata (100 GiB), 1 volume"
    assert kinds(found) == [FindingKind.VOLUMES]
    assert found.meets_objective


def test_an_unknown_plan_is_shown_as_it_is() -> None:
    found = audit([managed(days_old=300)], USAGE_BASED)
    assert (found.plan, found.schedule, found.overdue_since) == ("platinum", "platinum", None)


def test_without_a_readable_policy_the_plan_is_unknown() -> None:
    assert audit([image(1, "backup", *REGIONS)], policies=None).plan == "unknown"
    assert audit([image(1, "backup", *REGIONS)], policies={}).plan == "unknown"
    assert audit([], policies=None).plan == "unknown"
    assert audit([managed()], policies=None).plan == "own snapshots"


def test_a_backup_that_cannot_be_read_is_not_called_missing() -> None:
    own = droplet(backups=(9,))
    (found,) = audit_droplets(account([own], [], DAILY, unread={9: "403"}), Objective(REGIONS), NOW)
    assert texts(found) == ["no backups that can be read"]


def test_the_most_urgent_droplets_come_first() -> None:
    droplets = [droplet(1, "fine", snapshots=(1,)), droplet(2, "bare"), droplet(3, "partly", snapshots=(3,))]
    found = audit_droplets(account(droplets, [managed(1), managed(3, "fra1")]), Objective(REGIONS), NOW)
    assert [each.droplet for each in found] == ["bare (2)", "partly (3)", "fine (1)"]


def test_snapshots_of_deleted_droplets_are_those_of_this_project_and_count_once() -> None:
    listed = [
        snapshot(1, droplet_id=1),
        *[snapshot(2, droplet_id=99)] * 2,
        snapshot(3, droplet_id=99, tags=()),
    ]
    assert [each.id for each in snapshots_of_deleted(account([droplet(1)], []), listed)] == [2]


IMAGES = st.lists(
    st.builds(
        image,
        st.integers(1, 12),
        st.sampled_from(["backup", "snapshot"]),
        st.sampled_from([*REGIONS, "lon1"]),
        st.sampled_from([*REGIONS, "lon1"]),
        days_old=st.floats(0, 60),
        size_gigabytes=st.none() | st.floats(0, 100),
        tags=st.sampled_from([(), (TAG,)]),
        status=st.sampled_from(["available", "pending"]),
    ),
    unique_by=lambda each: each.id,
)
LIMITS = st.none() | st.integers(1, 200)


@given(images=IMAGES, owners=st.lists(st.integers(1, 4), min_size=12, max_size=12), hours=LIMITS, days=LIMITS)
def test_every_droplet_is_audited_once_and_every_snapshot_priced_once(
    images: list[Image], owners: list[int], hours: int | None, days: int | None
) -> None:
    droplets = [
        droplet(each, snapshots=tuple(image.id for image in images if owners[image.id - 1] == each))
        for each in (1, 2, 3, 4)
    ]
    found = audit_droplets(account(droplets, images, DAILY), Objective(REGIONS, hours, days), NOW, 0.06)
    assert sorted(each.droplet_id for each in found) == [1, 2, 3, 4]
    own = [each.size_gigabytes or 0 for each in images if each.type != "backup" and each.tags]
    assert fsum(each.snapshots_gb for each in found) == pytest.approx(fsum(own))
    assert fsum(each.snapshots_price for each in found) == pytest.approx(fsum(own) * 0.06)
    assert sum(each.snapshots for each in found) == len(own)


@given(images=IMAGES, hours=LIMITS)
def test_a_droplet_meets_the_objective_only_with_a_recent_copy_in_every_region(
    images: list[Image], hours: int | None
) -> None:
    found = audit(images, DAILY, hours=hours)
    newest: dict[str, datetime] = {}
    for each in images:
        if each.available and (each.type == "backup" or each.tags):
            newest |= {slug: max(each.created_at, newest.get(slug, each.created_at)) for slug in each.regions}
    recent = all(slug in newest and (hours is None or NOW - newest[slug] <= timedelta(hours=hours)) for slug in REGIONS)
    assert found.meets_objective is (recent and (hours is not None or found.overdue_since is None))
    assert found.meets_objective or found.problems
