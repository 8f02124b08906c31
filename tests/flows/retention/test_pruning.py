"""Which snapshots go and which stay, whatever there is: properties of the plan, and examples of the rule."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.retention.pruning import HOLD_TAG, PruningPlan, newest_backup_by_droplet, plan_pruning, unavailable_snapshots
from flows.retention.rule import RetentionRule
from tasks.digitalocean import Image, InvalidArgument, Snapshot
from tests.flows.images import NOW, droplet, image, snapshot

TAG = "prefect:replicated"
REGIONS = ("fra1", "nyc3")
NOTHING = RetentionRule(keep_last=0, keep_daily=0, keep_weekly=0, keep_monthly=0)
KEEPS = ("keep_last", "keep_daily", "keep_weekly", "keep_monthly")


@dataclass(frozen=True)
class World:
    """What a run finds.

    Attributes:
        snapshots: Those of all Droplets, this project's and others.
        under_way: Images with an action under way.
        backups: Each Droplet's newest backup, where it has one.
        pending: Snapshots that are not available.
    """

    snapshots: tuple[Snapshot, ...]
    under_way: frozenset[int] = frozenset()
    backups: tuple[tuple[int, Image], ...] = ()
    pending: frozenset[int] = frozenset()

    def plan(self, rule: RetentionRule, now: datetime = NOW) -> PruningPlan:
        statuses = dict.fromkeys(self.pending, "pending")
        backups = dict(self.backups)
        return plan_for(self.snapshots, rule, now, under_way=self.under_way, backups=backups, unavailable=statuses)

    def without(self, gone: Iterable[Snapshot]) -> World:
        lost = {each.id for each in gone}
        return replace(self, snapshots=tuple(each for each in self.snapshots if each.id not in lost))

    def managed(self, droplet_id: int) -> list[Snapshot]:
        """A Droplet's available snapshots that this project made, the newest first."""
        own = [each for each in self.snapshots if each.resource_id == droplet_id and is_managed(each)]
        own = [each for each in own if each.id not in self.pending]
        return sorted(own, key=lambda each: (each.created_at, each.id), reverse=True)


def is_managed(one: Snapshot) -> bool:
    return TAG in {tag.lower() for tag in one.tags}


def is_held(one: Snapshot) -> bool:
    return HOLD_TAG in {tag.lower() for tag in one.tags}


def plan_for(
    snapshots: Iterable[Snapshot],
    rule: RetentionRule,
    now: datetime = NOW,
    *,
    regions: Collection[str] = REGIONS,
    **known: Any,
) -> PruningPlan:
    return plan_pruning(snapshots, rule, now, managed_tag=TAG, regions=regions, **known)


AGES = st.integers(0, 200 * 24 * 60).map(lambda minutes: minutes / (24 * 60))
COUNTS = st.integers(0, 3)
RULES = st.builds(RetentionRule, COUNTS, COUNTS, COUNTS, COUNTS, st.sampled_from([None, None, 0, 7, 100]))

# Most are as they should be: one that is not can keep all others, and then there is nothing to be seen.
PLACES = st.sampled_from([*[REGIONS] * 8, (*REGIONS, "lon1"), ("fra1",)])
TAGS = st.sampled_from(
    [*[(TAG,)] * 8, ("Prefect:Replicated", "web"), (TAG, HOLD_TAG), ("Prefect:HOLD", "web", TAG), ("keep",), ()]
)
OWNERS = st.sampled_from([1, 1, 1, 2, 2, 3])


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Some Droplets' snapshots, and all that may keep them from going."""
    several = st.lists(st.tuples(AGES, OWNERS, TAGS, PLACES, st.sampled_from([0.5, 30.0])), min_size=8, max_size=25)
    snapshots = tuple(
        snapshot(number, *places, days_old=age, droplet_id=owner, tags=tags, size_gigabytes=size)
        for number, (age, owner, tags, places, size) in enumerate(draw(several), start=1)
    )
    under_way = draw(st.frozensets(st.integers(1, 25), max_size=3))
    backups = draw(st.dictionaries(OWNERS, AGES, max_size=1))
    return World(
        snapshots,
        under_way,
        tuple((owner, image(900 + owner, "backup", "fra1", days_old=age)) for owner, age in backups.items()),
        draw(st.frozensets(st.integers(1, 25), max_size=3)),
    )


# What never happens


@given(worlds(), RULES)
def test_the_newest_snapshot_of_a_droplet_is_never_deleted(world: World, rule: RetentionRule) -> None:
    gone = {each.id for each in world.plan(rule).to_delete}
    for droplet_id in (1, 2, 3):
        assert not gone & {each.id for each in world.managed(droplet_id)[:1]}


@given(worlds(), RULES)
def test_the_plan_contains_every_tagged_snapshot_once_and_no_other(world: World, rule: RetentionRule) -> None:
    plan = world.plan(rule)
    assert sorted(each.snapshot.id for each in plan.verdicts) == [
        each.id for each in world.snapshots if is_managed(each)
    ]
    assert plan.left_alone == len(world.snapshots) - len(plan.verdicts)


@given(worlds(), RULES)
def test_snapshots_with_an_action_in_progress_are_not_deleted(world: World, rule: RetentionRule) -> None:
    assert not {each.id for each in world.plan(rule).to_delete} & world.under_way


@given(worlds(), RULES)
def test_unavailable_snapshots_are_not_deleted_and_cause_no_deletion(world: World, rule: RetentionRule) -> None:
    plan = world.plan(rule)
    without = replace(world, snapshots=tuple(each for each in world.snapshots if each.id not in world.pending))
    assert not {each.id for each in plan.to_delete} & world.pending
    assert plan.to_delete == without.plan(rule).to_delete


@given(worlds(), RULES)
def test_nothing_is_deleted_until_the_newest_recovery_point_is_in_every_region(
    world: World, rule: RetentionRule
) -> None:
    for one in world.plan(rule).to_delete:
        newest = world.managed(one.resource_id)[0]
        assert set(newest.regions) >= set(REGIONS)
        backup = dict(world.backups).get(one.resource_id)
        assert backup is None or backup.created_at <= newest.created_at


ANY_REGIONS = st.sets(st.sampled_from(["fra1", "nyc3", "lon1"]), min_size=1)


@given(worlds(), RULES, ANY_REGIONS, st.integers(0), st.timedeltas(timedelta(days=-2), timedelta(days=2)))
def test_no_rule_deletes_a_held_snapshot_or_one_below_the_minimum_age(
    world: World, rule: RetentionRule, regions: set[str], number: int, later: timedelta
) -> None:
    about_of_age = world.snapshots[number % len(world.snapshots)]
    now = about_of_age.created_at + timedelta(days=rule.older_than_days or 0) + later
    plan = plan_for(
        world.snapshots,
        rule,
        now,
        regions=regions,
        under_way=world.under_way,
        backups=dict(world.backups),
        unavailable=dict.fromkeys(world.pending, "pending"),
    )
    for one in plan.to_delete:
        assert not is_held(one)
        assert rule.older_than_days is None or now - one.created_at >= timedelta(days=rule.older_than_days)
    for verdict in plan.verdicts:
        assert ("held by the tag prefect:hold" in verdict.reason) == is_held(verdict.snapshot)


@given(worlds(), RULES, st.sets(st.integers(1, 25)))
def test_setting_holds_never_deletes_more(world: World, rule: RetentionRule, to_hold: set[int]) -> None:
    held = replace(
        world,
        snapshots=tuple(
            each.model_copy(update={"tags": (*each.tags, HOLD_TAG)}) if each.id in to_hold else each
            for each in world.snapshots
        ),
    )
    before = {each.id for each in world.plan(rule).to_delete}
    assert {each.id for each in held.plan(rule).to_delete} <= before - to_hold


@given(worlds(), RULES)
def test_every_snapshot_is_kept_or_deleted_for_a_reason(world: World, rule: RetentionRule) -> None:
    plan = world.plan(rule)
    for verdict in plan.verdicts:
        assert bool(verdict.kept_by) == (not verdict.should_delete) == (verdict.reason != "no rule keeps it")
    assert list(plan.to_delete) == [verdict.snapshot for verdict in plan.verdicts if not verdict.kept_by]
    assert plan.gb_to_delete == sum(snapshot.size_gigabytes for snapshot in plan.to_delete)


@given(worlds(), RULES, st.integers(0, 10))
def test_a_plan_with_too_many_deletions_exceeds_the_limit(world: World, rule: RetentionRule, most: int) -> None:
    plan = world.plan(rule)
    assert plan.exceeds(most) == (len(plan.to_delete) > most)


# What a second run does


@given(worlds(), RULES)
def test_a_second_run_at_the_same_moment_deletes_nothing(world: World, rule: RetentionRule) -> None:
    first = world.plan(rule)
    again = world.without(first.to_delete).plan(rule)
    assert again.to_delete == ()
    assert again.verdicts == tuple(verdict for verdict in first.verdicts if not verdict.should_delete)


@given(worlds(), RULES, st.timedeltas(timedelta(), timedelta(days=400)))
def test_without_new_snapshots_later_runs_delete_only_what_has_reached_the_minimum_age(
    world: World, rule: RetentionRule, later: timedelta
) -> None:
    rest = world.without(world.plan(rule).to_delete)
    of_age = timedelta(days=rule.older_than_days or 0)
    for one in rest.plan(rule, NOW + later).to_delete:
        assert NOW - one.created_at < of_age <= NOW + later - one.created_at


@given(worlds(), RULES)
def test_an_interrupted_run_is_finished_by_the_next(world: World, rule: RetentionRule) -> None:
    all_at_once = world.plan(rule).to_delete
    half = all_at_once[: len(all_at_once) // 2]
    assert world.without(half).plan(rule).to_delete == all_at_once[len(half) :]


# What the rule and the order do


@given(worlds(), RULES, st.sampled_from(KEEPS), st.integers(1, 5))
def test_keeping_more_never_deletes_more(world: World, rule: RetentionRule, keep: str, more: int) -> None:
    wider = replace(rule, **{keep: getattr(rule, keep) + more})
    assert set(world.plan(wider).to_delete) <= set(world.plan(rule).to_delete)


@given(worlds(), RULES, st.integers(0, 100))
def test_a_higher_minimum_age_never_deletes_more(world: World, rule: RetentionRule, more: int) -> None:
    older = replace(rule, older_than_days=(rule.older_than_days or 0) + more)
    assert set(world.plan(older).to_delete) <= set(world.plan(rule).to_delete)


@given(worlds(), RULES, st.randoms())
def test_a_plan_does_not_depend_on_the_order_of_the_list_or_on_repeated_entries(
    world: World, rule: RetentionRule, draw: Any
) -> None:
    shuffled = [*world.snapshots, *world.snapshots[:3]]
    draw.shuffle(shuffled)
    assert replace(world, snapshots=tuple(shuffled)).plan(rule) == world.plan(rule)


@given(worlds(), RULES)
def test_the_plan_is_sorted_by_droplet_and_newest_first(world: World, rule: RetentionRule) -> None:
    order = [(each.snapshot.resource_id, -each.snapshot.created_at.timestamp()) for each in world.plan(rule).verdicts]
    assert order == sorted(order)


@given(worlds(), RULES)
def test_each_droplet_is_judged_by_its_own_snapshots(world: World, rule: RetentionRule) -> None:
    whole = world.plan(rule)
    for droplet_id in (1, 2, 3):
        alone = replace(world, snapshots=tuple(each for each in world.snapshots if each.resource_id == droplet_id))
        assert alone.plan(rule).verdicts == tuple(
            each for each in whole.verdicts if each.snapshot.resource_id == droplet_id
        )


# Nights on end


def at(day: datetime, image_id: int, *regions: str) -> Snapshot:
    return snapshot(image_id, *(regions or REGIONS)).model_copy(update={"created_at": day})


def nights(first: datetime, count: int, rule: RetentionRule) -> list[list[datetime]]:
    """What is left after each night of which every one brings a snapshot and then a run."""
    there: list[Snapshot] = []
    left = []
    for night in range(count):
        now = first + timedelta(days=night)
        there.append(at(now, night + 1))
        gone = {each.id for each in plan_for(there, rule, now + timedelta(hours=1)).to_delete}
        there = [each for each in there if each.id not in gone]
        left.append([each.created_at for each in reversed(there)])
    return left


@given(
    st.builds(RetentionRule, st.integers(0, 8), st.integers(0, 8), st.integers(0, 4), COUNTS),
    st.datetimes(datetime(2025, 1, 1), datetime(2027, 12, 31), timezones=st.just(UTC)),
)
def test_nightly_snapshots_never_exceed_the_sum_of_the_rule(rule: RetentionRule, first: datetime) -> None:
    most = max(1, rule.keep_last + rule.keep_daily + rule.keep_weekly + rule.keep_monthly)
    assert all(len(left) <= most for left in nights(first, 70, rule))


def test_the_default_rule_keeps_a_week_of_days_four_sundays_and_six_month_ends_of_a_year() -> None:
    left = nights(datetime(2026, 1, 1, 3, tzinfo=UTC), 365, RetentionRule())[-1]
    assert [f"{day:%a %m-%d}" for day in left] == [
        "Thu 12-31", "Wed 12-30", "Tue 12-29", "Mon 12-28", "Sun 12-27", "Sat 12-26", "Fri 12-25",
        "Sun 12-20", "Sun 12-13",
        "Mon 11-30", "Sat 10-31", "Wed 09-30", "Mon 08-31", "Fri 07-31",
    ]  # fmt: skip


# One month, to be read


def test_one_month_of_nights_with_three_days_two_weeks_and_two_months_kept() -> None:
    november = [at(datetime(2026, 11, day, 3, tzinfo=UTC), day) for day in range(1, 24)]
    october = [at(datetime(2026, 10, day, 3, tzinfo=UTC), 100 + day) for day in (30, 31)]
    rule = RetentionRule(keep_last=2, keep_daily=3, keep_weekly=2, keep_monthly=2)
    plan = plan_for([*october, *november], rule)
    stays = {f"{each.snapshot.created_at:%m-%d}": each.kept_by for each in plan.verdicts if not each.should_delete}
    assert stays == {
        "11-23": ("last 1 of 2", "day 2026-11-23", "week 2026-W48", "month 2026-11", "newest recovery point"),
        "11-22": ("last 2 of 2", "day 2026-11-22", "week 2026-W47"),
        "11-21": ("day 2026-11-21",),
        "10-31": ("month 2026-10",),
    }
    assert {each.reason for each in plan.verdicts if each.should_delete} == {"no rule keeps it"}
    assert (len(plan.to_delete), plan.gb_to_delete) == (21, 52.5)
    assert (plan.exceeds(20), plan.exceeds(21)) == (True, False)


# Examples


def kept(*snapshots: Snapshot, rule: RetentionRule = NOTHING, **known: Any) -> dict[int, tuple[str, ...]]:
    return {each.snapshot.id: each.kept_by for each in plan_for(snapshots, rule, **known).verdicts}


def test_only_days_with_a_snapshot_count() -> None:
    ages = {1: 0.0, 2: 0.05, 3: 10.0, 4: 40.0}
    found = kept(
        *(snapshot(number, *REGIONS, days_old=age) for number, age in ages.items()), rule=RetentionRule(0, 2, 0, 0)
    )
    assert {number: reasons[:1] for number, reasons in found.items()} == {
        1: ("day 2026-11-23",),
        2: (),
        3: ("day 2026-11-13",),
        4: (),
    }


def test_weeks_start_on_monday_and_january_first_may_belong_to_the_previous_year() -> None:
    days = [
        datetime(2027, 1, 4, tzinfo=UTC),
        datetime(2027, 1, 3, 23, 59, tzinfo=UTC),
        datetime(2026, 12, 28, tzinfo=UTC),
    ]
    found = kept(*(at(day, 3 - number) for number, day in enumerate(days)), rule=RetentionRule(0, 0, 5, 0))
    assert found == {3: ("week 2027-W01", "newest recovery point"), 2: ("week 2026-W53",), 1: ()}


def test_of_two_snapshots_created_at_once_the_one_with_the_higher_id_is_newer() -> None:
    assert kept(snapshot(1, *REGIONS), snapshot(2, *REGIONS)) == {2: ("newest recovery point",), 1: ()}


def test_the_minimum_age_is_exact_to_the_second() -> None:
    second = 1 / 86400
    found = kept(
        snapshot(1, *REGIONS),
        snapshot(2, *REGIONS, days_old=30 - second),
        snapshot(3, *REGIONS, days_old=30),
        rule=replace(NOTHING, older_than_days=30),
    )
    assert found == {1: ("younger than 30 days", "newest recovery point"), 2: ("younger than 30 days",), 3: ()}


def test_a_newer_unavailable_snapshot_does_not_make_an_older_one_deletable() -> None:
    pending, newest, older = (snapshot(number, *REGIONS, days_old=number) for number in (1, 2, 3))
    rule = replace(NOTHING, keep_last=1)
    assert kept(pending, newest, older, rule=rule, unavailable={1: "pending"}) == {
        1: ("status pending",),
        2: ("last 1 of 1", "newest recovery point"),
        3: (),
    }
    elsewhere = snapshot(2, "fra1", days_old=2)
    assert kept(pending, elsewhere, older, rule=rule, unavailable={1: "pending"})[3] == ("newest copy not yet in nyc3",)
    assert kept(pending, unavailable={1: "pending"}) == {1: ("status pending",)}


def test_a_snapshot_has_the_status_of_its_image_or_an_unknown_one_if_unlisted() -> None:
    snapshots = [snapshot(number) for number in (1, 2, 3)]
    images = [image(1), image(2, status="pending"), image(9, status="NEW")]
    assert unavailable_snapshots(snapshots, images) == {2: "pending", 3: "unknown"}


def test_a_backup_that_is_not_available_is_not_the_newest() -> None:
    images = [image(1, "backup", days_old=1, status="pending"), image(2, "backup", days_old=2)]
    assert newest_backup_by_droplet([droplet(7, backups=(1, 2))], images) == {7: images[1]}
    assert newest_backup_by_droplet([droplet(7, backups=(1,))], images) == {}


def test_while_the_newest_is_missing_somewhere_all_snapshots_of_its_droplet_stay_and_say_where() -> None:
    found = kept(
        snapshot(1, days_old=1),
        snapshot(2, *REGIONS, days_old=2),
        snapshot(3, *REGIONS, days_old=1, droplet_id=2),
        snapshot(4, *REGIONS, days_old=2, droplet_id=2),
        regions=("sgp1", "nyc3", "fra1"),
    )
    assert found[1] == ("newest recovery point", "newest copy not yet in nyc3, sgp1")
    assert found[2] == ("newest copy not yet in nyc3, sgp1",)
    assert found[4] == ("newest copy not yet in sgp1",)


def test_one_droplet_with_missing_copies_does_not_block_another() -> None:
    found = kept(
        snapshot(1, "fra1"),
        snapshot(2, *REGIONS, days_old=1),
        snapshot(3, *REGIONS, droplet_id=2),
        snapshot(4, *REGIONS, days_old=1, droplet_id=2),
    )
    assert [number for number, reasons in found.items() if not reasons] == [4]


def test_nothing_is_deleted_while_a_backup_is_newer_than_every_snapshot() -> None:
    snapshots = [snapshot(1, *REGIONS, days_old=1), snapshot(2, *REGIONS, days_old=2)]
    newer, older = image(9, "backup", "fra1"), image(9, "backup", "fra1", days_old=1.5)
    assert kept(*snapshots, backups={1: newer}) == {
        1: ("newest snapshot", "newest copy not yet in nyc3"),
        2: ("newest copy not yet in nyc3",),
    }
    assert kept(*snapshots, backups={1: older})[2] == ()
    assert kept(*snapshots, backups={2: newer})[2] == ()


def test_a_backup_in_every_region_does_not_make_the_newest_snapshot_deletable() -> None:
    snapshots = [snapshot(1, *REGIONS, days_old=1), snapshot(2, *REGIONS, days_old=2)]
    found = kept(*snapshots, backups={1: image(9, "backup", "fra1")}, regions=["fra1"])
    assert found == {1: ("newest snapshot",), 2: ()}


def test_an_action_in_progress_protects_a_snapshot_that_no_rule_keeps() -> None:
    found = kept(snapshot(1, *REGIONS), snapshot(2, *REGIONS, days_old=1), under_way={2, None})
    assert found[2] == ("action in progress",)


def test_a_held_snapshot_is_kept_in_addition_to_those_of_the_rule() -> None:
    snapshots = [
        snapshot(3, *REGIONS, days_old=1),
        snapshot(2, *REGIONS, days_old=2, tags=(TAG, "Prefect:Hold")),
        snapshot(1, *REGIONS, days_old=3),
        snapshot(0, *REGIONS, days_old=4),
    ]
    plan = plan_for(snapshots, replace(NOTHING, keep_last=2))
    assert [verdict.reason for verdict in plan.verdicts] == [
        "last 1 of 2, newest recovery point",
        "held by the tag prefect:hold",
        "last 2 of 2",
        "no rule keeps it",
    ]


def test_a_held_snapshot_can_be_the_newest_recovery_point() -> None:
    held = snapshot(2, "fra1", tags=(TAG, HOLD_TAG))
    plan = plan_for([held, snapshot(1, *REGIONS, days_old=1)], NOTHING)
    missing = "newest copy not yet in nyc3"
    assert [verdict.reason for verdict in plan.verdicts] == [
        f"held by the tag prefect:hold, newest recovery point, {missing}",
        missing,
    ]


def test_an_unavailable_snapshot_that_is_held_says_both() -> None:
    plan = plan_for([snapshot(1, tags=(TAG, HOLD_TAG))], NOTHING, unavailable={1: "deleted"})
    assert [verdict.reason for verdict in plan.verdicts] == ["held by the tag prefect:hold, status deleted"]


def test_manual_snapshots_are_only_counted_and_replace_no_other() -> None:
    own = [snapshot(number, *REGIONS, days_old=number) for number in (2, 3)]
    plan = plan_for([snapshot(1, *REGIONS, tags=()), *own], replace(NOTHING, keep_last=2))
    assert [each.snapshot.id for each in plan.verdicts if each.kept_by] == [2, 3]
    assert plan.left_alone == 1


def test_planning_without_regions_is_an_error() -> None:
    with pytest.raises(InvalidArgument, match="region"):
        kept(snapshot(1), regions=())


@pytest.mark.parametrize("name", [*KEEPS, "older_than_days"])
def test_a_rule_cannot_keep_a_negative_number(name: str) -> None:
    with pytest.raises(InvalidArgument, match=f"{name} is -1"):
        RetentionRule(**{name: -1})


def test_an_empty_plan_deletes_nothing() -> None:
    plan = plan_for([], RetentionRule())
    assert (plan.verdicts, plan.gb_to_delete, plan.exceeds(0)) == ((), 0, False)


def test_the_newest_backup_is_found_by_creation_even_if_it_has_just_become_a_snapshot() -> None:
    droplets = [droplet(1, backups=(7, 8)), droplet(2, backups=(9, 99)), droplet(3, backups=(98,)), droplet(4)]
    images = [image(7, "backup", days_old=1), image(8, "backup", days_old=2), image(9, "snapshot"), image(10, "backup")]
    assert {owner: each.id for owner, each in newest_backup_by_droplet(droplets, images).items()} == {1: 7, 2: 9}
