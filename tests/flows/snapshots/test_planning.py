"""Which Droplets need a snapshot: what is new, what is finished, and what counts as this project's own."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.actions import BELIEVE_ACTIONS_FOR
from flows.snapshots.planning import (
    FINISH_WITHIN,
    Holdings,
    SnapshotPlan,
    plan_snapshots,
    run_time_of,
    snapshot_name,
)
from tasks.digitalocean import Action, Droplet, Snapshot
from tests.flows.images import NOW, action, droplet, image, snapshot

TAG = "prefect:replicated"
WEB, DB = droplet(1, "app-01"), droplet(2, "db-01")
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


def taken(snapshot_id: int, of: Droplet, ago: timedelta, *regions: str, tagged: bool = True) -> Snapshot:
    """A snapshot by a run that began so long ago."""
    return snapshot(
        snapshot_id,
        *regions,
        days_old=ago / timedelta(days=1),
        droplet_id=of.id,
        name=snapshot_name(of.name, NOW - ago),
        tags=(TAG,) if tagged else (),
    )


def taking(of: Droplet, status: str = "in-progress", *, minutes_ago: float = 1, **other: Any) -> Action:
    return action("snapshot", status, minutes_ago=minutes_ago, resource_id=of.id, resource_type="droplet", **other)


def plan(
    snapshots: Sequence[Snapshot] = (),
    actions: Sequence[Action] = (),
    finished_runs: dict[timedelta, bool] | None = None,
    *,
    droplets: Sequence[Droplet] = (WEB, DB),
    unread: dict[int, str] | None = None,
    max_age_hours: int | None = None,
    regions: Sequence[str] = (),
    began: datetime | None = None,
) -> SnapshotPlan:
    finished = {NOW - ago: completed for ago, completed in (finished_runs or {}).items()}
    holdings = Holdings(droplets, snapshots, actions, unread or {}, finished_runs=finished)
    return plan_snapshots(holdings, NOW, managed_tag=TAG, max_age_hours=max_age_hours, regions=regions, began=began)


def missing(made: SnapshotPlan) -> list[int]:
    return [step.droplet.id for step in made.missing]


def test_a_name_holds_the_droplet_and_the_time_of_the_run_in_utc() -> None:
    assert snapshot_name("web-01", NOW) == "web-01 prefect 2026-11-23T03:00:00Z"
    assert run_time_of("web-01 prefect 2026-11-23T03:00:00Z") == NOW


@pytest.mark.parametrize(
    "name",
    [
        "",
        "web-01",
        "web-01 prefect",
        "web-01 prefect 2026-11-23",
        "web-01 prefect 2026-11-23T03:00:00",
        "web-01 prefect 2026-11-23T03:00:00Z copy",
        "web-01 prefect 2026-13-23T03:00:00Z",
        "web-01 Prefect 2026-11-23T03:00:00Z",
        "web-01-prefect-2026-11-23T03:00:00Z",
        "web-01 2026-11-23T03:00:00Z",
    ],
)
def test_other_names_are_not_of_this_project(name: str) -> None:
    assert run_time_of(name) is None


def test_without_snapshots_every_droplet_needs_one_under_the_time_of_the_run() -> None:
    made = plan()
    assert missing(made) == [WEB.id, DB.id]
    assert [step.name for step in made.steps] == [snapshot_name(each.name, NOW) for each in (WEB, DB)]


def test_two_droplets_of_one_name_are_two_droplets() -> None:
    twins = [droplet(1, "web"), droplet(2, "web")]
    made = plan([taken(10, twins[0], HOUR, tagged=False)], droplets=twins)
    assert missing(made) == [2]


def test_a_droplet_listed_twice_is_one() -> None:
    assert missing(plan(droplets=[WEB, WEB])) == [WEB.id]


def test_after_a_completed_run_every_droplet_gets_a_new_snapshot() -> None:
    made = plan([taken(10, WEB, HOUR)], finished_runs={HOUR: True})
    assert missing(made) == [WEB.id, DB.id]
    assert made.run_time == NOW


def test_an_unfinished_run_is_finished_under_its_own_time() -> None:
    made = plan([taken(10, WEB, HOUR)], finished_runs={HOUR: False})
    assert missing(made) == [DB.id]
    assert made.run_time == NOW - HOUR
    assert made.steps[1].name == snapshot_name(DB.name, NOW - HOUR)


@pytest.mark.parametrize(
    ("there", "regions", "finishes"),
    [
        (taken(10, WEB, HOUR), [], False),
        (taken(10, WEB, HOUR, tagged=False), [], True),
        (taken(10, WEB, HOUR, "fra1"), ["fra1", "nyc3"], True),
        (taken(10, WEB, HOUR, "fra1", "nyc3"), ["fra1", "nyc3"], False),
    ],
)
def test_without_prefect_an_untagged_snapshot_or_one_missing_in_a_region_shows_an_unfinished_run(
    there: Snapshot, regions: list[str], finishes: bool
) -> None:
    assert missing(plan([there], regions=regions)) == ([DB.id] if finishes else [WEB.id, DB.id])


def test_what_prefect_knows_wins_over_tags_and_regions() -> None:
    untagged = taken(10, WEB, HOUR, tagged=False)
    assert missing(plan([untagged], finished_runs={HOUR: True})) == [WEB.id, DB.id]


def test_a_run_that_began_six_hours_ago_is_not_finished() -> None:
    old = {FINISH_WITHIN: False}
    assert missing(plan([taken(10, WEB, FINISH_WITHIN, tagged=False)], finished_runs=old)) == [WEB.id, DB.id]
    young = FINISH_WITHIN - timedelta(seconds=1)
    assert missing(plan([taken(10, WEB, young)], finished_runs={young: False})) == [DB.id]


def test_a_snapshot_from_the_future_is_not_of_a_run_to_be_finished() -> None:
    assert missing(plan([taken(10, WEB, -HOUR, tagged=False)])) == [WEB.id, DB.id]


def test_what_the_run_to_be_finished_had_adopted_from_an_earlier_one_is_not_taken_again() -> None:
    # The first run was killed; the second adopted its snapshot of one Droplet, and failed at another.
    snapshots = [taken(10, WEB, 2 * HOUR), taken(11, DB, HOUR)]
    made = plan(snapshots, finished_runs={HOUR: False, 2 * HOUR: False})
    assert missing(made) == []
    assert made.run_time == NOW - HOUR


def test_snapshots_from_before_the_last_completed_run_do_not_count() -> None:
    snapshots = [taken(10, WEB, 3 * HOUR), taken(11, WEB, 2 * HOUR), taken(12, DB, HOUR)]
    made = plan(snapshots, finished_runs={HOUR: False, 2 * HOUR: True, 3 * HOUR: False})
    assert missing(made) == [WEB.id]


def test_a_droplet_renamed_since_the_run_keeps_its_snapshot() -> None:
    old_name = taken(10, droplet(WEB.id, "before"), HOUR)
    assert missing(plan([old_name], finished_runs={HOUR: False})) == [DB.id]


def test_other_peoples_snapshots_neither_count_nor_get_the_tag() -> None:
    foreign = snapshot(10, droplet_id=WEB.id, name="web-01 before the upgrade", tags=())
    made = plan([foreign], max_age_hours=24)
    assert missing(made) == [WEB.id, DB.id]
    assert made.untagged == ()


def test_snapshots_of_droplets_that_were_not_chosen_do_not_count() -> None:
    other = taken(10, droplet(3, "cache"), HOUR, tagged=False)
    made = plan([other])
    assert made.run_time == NOW
    assert made.untagged == ()


@pytest.mark.parametrize(("began", "needed"), [(None, True), (NOW - MINUTE, True), (NOW - 3 * MINUTE, False)])
def test_a_snapshot_that_another_run_took_while_this_one_waited_is_enough(began: datetime | None, needed: bool) -> None:
    made = plan([taken(10, WEB, 2 * MINUTE)], began=began, droplets=[WEB])
    assert bool(made.missing) == needed
    assert bool(made.steps[0].note) != needed


@pytest.mark.parametrize(("ago", "needed"), [(timedelta(hours=23), False), (timedelta(hours=24), True)])
def test_a_droplet_with_a_younger_managed_snapshot_needs_none(ago: timedelta, needed: bool) -> None:
    made = plan([taken(10, WEB, ago)], max_age_hours=24, droplets=[WEB])
    assert bool(made.missing) == needed
    assert bool(made.steps[0].note) != needed


def test_a_tagged_snapshot_of_any_name_is_a_managed_one() -> None:
    converted = snapshot(10, droplet_id=WEB.id, name="web-01 2026-11-22", days_old=0.1)
    assert missing(plan([converted], max_age_hours=24)) == [DB.id]


def test_earlier_snapshots_without_the_tag_get_it_for_two_days() -> None:
    snapshots = [taken(10, WEB, 47 * HOUR, tagged=False), taken(11, WEB, 49 * HOUR, tagged=False), taken(12, DB, HOUR)]
    assert plan(snapshots, finished_runs={HOUR: True}).untagged == (10,)


def test_a_tag_in_another_case_is_the_tag() -> None:
    shouted = taken(10, WEB, HOUR).model_copy(update={"tags": (TAG.upper(),)})
    assert plan([shouted]).untagged == ()


def test_a_snapshot_in_progress_is_adopted() -> None:
    running = taking(WEB)
    assert [step.running for step in plan(actions=[running]).steps] == [running, None]


@pytest.mark.parametrize(
    "other",
    [
        taking(droplet(3)),
        taking(WEB, "errored"),
        taking(WEB).model_copy(update={"type": "reboot"}),
        taking(WEB, "completed", minutes_ago=BELIEVE_ACTIONS_FOR / MINUTE + 1),
    ],
)
def test_other_actions_are_not_adopted(other: Action) -> None:
    assert [step.running for step in plan(actions=[other]).steps] == [None, None]


def test_an_action_that_has_just_completed_is_adopted_until_its_snapshot_is_listed() -> None:
    done = taking(WEB, "completed", minutes_ago=5)
    assert plan(actions=[done]).steps[0].running == done
    listed = snapshot(10, droplet_id=WEB.id, name="by hand", tags=(), days_old=30 / 1440)
    assert plan([listed], [done]).steps[0].running is None


def test_a_droplet_with_unknown_actions_is_refused_unless_it_has_its_snapshot() -> None:
    unread = {WEB.id: "its actions cannot be read", DB.id: "its actions cannot be read"}
    made = plan([taken(10, WEB, HOUR)], finished_runs={HOUR: False}, unread=unread)
    assert [(step.there is not None, step.refusal) for step in made.steps] == [
        (True, ""),
        (False, "its actions cannot be read"),
    ]
    assert missing(made) == []


def test_the_size_of_a_new_snapshot_is_that_of_the_newest_image() -> None:
    web = droplet(1, "web", backups=(20, 21))
    old = taken(10, web, 48 * HOUR).model_copy(update={"size_gigabytes": 2.0})
    backups = [image(20, "backup", days_old=1, size_gigabytes=5.0), image(21, "backup", days_old=3, size_gigabytes=9.0)]
    foreign = image(22, "backup", days_old=0, size_gigabytes=70.0)
    holdings = Holdings([web, DB], [old], backups=[*backups, foreign])
    made = plan_snapshots(holdings, NOW, managed_tag=TAG)
    assert [step.estimated_gb for step in made.steps] == [None, 5.0]
    assert (made.estimated_gb, made.unsized) == (5.0, 1)


# Whatever the account holds

AGES = st.timedeltas(-2 * HOUR, timedelta(days=3)).map(lambda age: timedelta(seconds=age // timedelta(seconds=1)))
DROPLETS = st.lists(
    st.builds(droplet, st.integers(1, 5), st.sampled_from(["web", "db"])),
    min_size=1,
    max_size=5,
    unique_by=lambda x: x.id,
)


@st.composite
def accounts(draw: st.DrawFn) -> tuple[Holdings, list[Snapshot]]:
    """What an account holds, and which of its snapshots are someone else's."""
    droplets = draw(DROPLETS)
    ages = draw(st.lists(AGES, min_size=1, max_size=3))
    owners = st.sampled_from([*droplets, droplet(9, "gone")])
    own = [
        taken(100 + number, draw(owners), draw(st.sampled_from(ages)), "fra1", tagged=draw(st.booleans()))
        for number in range(draw(st.integers(0, 5)))
    ]
    foreign = [
        snapshot(
            200 + number,
            droplet_id=draw(owners).id,
            name=draw(
                st.sampled_from(["by hand", "web", "web prefect yesterday", "web prefect 2026-11-23T02:30:00Z x"])
            ),
            tags=(),
            days_old=draw(st.floats(0, 3)),
        )
        for number in range(draw(st.integers(0, 3)))
    ]
    actions = [
        taking(
            draw(owners),
            draw(st.sampled_from(["in-progress", "completed", "errored"])),
            minutes_ago=draw(st.floats(0, 60)),
            id=number + 1,
        )
        for number in range(draw(st.integers(0, 3)))
    ]
    unread = {each.id: "unknown" for each in droplets if draw(st.integers(0, 5)) == 0}
    finished = {NOW - age: draw(st.booleans()) for age in ages if draw(st.booleans())}
    listed = draw(st.permutations([*own, *foreign]))
    return Holdings(droplets, listed, actions, unread, finished_runs=finished), foreign


def planned(holdings: Holdings, max_age_hours: int | None, regions: Sequence[str] = ()) -> SnapshotPlan:
    return plan_snapshots(holdings, NOW, managed_tag=TAG, max_age_hours=max_age_hours, regions=regions)


MAX_AGES = st.none() | st.integers(1, 72)


@given(accounts(), MAX_AGES)
def test_every_droplet_has_exactly_one_step(
    account: tuple[Holdings, list[Snapshot]], max_age_hours: int | None
) -> None:
    made = planned(account[0], max_age_hours)
    assert sorted(step.droplet.id for step in made.steps) == sorted(each.id for each in account[0].droplets)
    assert all((step.there is not None) + bool(step.refusal) + step.missing == 1 for step in made.steps)


@given(accounts(), MAX_AGES)
def test_no_droplet_with_a_snapshot_of_the_run_to_be_finished_gets_another(
    account: tuple[Holdings, list[Snapshot]], max_age_hours: int | None
) -> None:
    made = planned(account[0], max_age_hours)
    there = {each.resource_id for each in account[0].snapshots if run_time_of(each.name) == made.run_time}
    if made.run_time < NOW:
        assert not there & set(missing(made))


@given(accounts(), MAX_AGES)
def test_someone_elses_snapshot_is_never_the_one_there_nor_tagged(
    account: tuple[Holdings, list[Snapshot]], max_age_hours: int | None
) -> None:
    made = planned(account[0], max_age_hours)
    foreign = {each.id for each in account[1]}
    assert not foreign & {step.there.id for step in made.steps if step.there}
    assert not foreign & set(made.untagged)


@given(accounts())
def test_without_a_largest_age_no_snapshot_of_a_run_older_than_six_hours_counts(
    account: tuple[Holdings, list[Snapshot]],
) -> None:
    times = [run_time_of(step.there.name) for step in planned(account[0], None).steps if step.there]
    assert all(time and timedelta(0) <= NOW - time < FINISH_WITHIN for time in times)


@given(accounts())
def test_after_a_run_that_completed_all_snapshots_are_new(account: tuple[Holdings, list[Snapshot]]) -> None:
    holdings, _ = account
    all_done: dict[datetime, bool] = {
        time: True for each in holdings.snapshots if (time := run_time_of(each.name)) is not None
    }
    made = planned(Holdings(holdings.droplets, holdings.snapshots, finished_runs=all_done), None)
    assert made.run_time == NOW
    assert len(made.missing) == len(holdings.droplets)


@given(accounts(), st.sampled_from([(), ("fra1",), ("fra1", "nyc3")]))
def test_a_plan_carried_out_leaves_nothing_to_finish(
    account: tuple[Holdings, list[Snapshot]], regions: tuple[str, ...]
) -> None:
    holdings, _ = account
    before = planned(holdings, None, regions)
    new = [
        taken(300 + step.droplet.id, step.droplet, NOW - before.run_time, *regions, tagged=False)
        for step in before.missing
    ]
    killed = Holdings(
        holdings.droplets, [*holdings.snapshots, *new], unread=holdings.unread, finished_runs={before.run_time: False}
    )
    again = planned(killed, None, regions)
    if new:
        assert again.run_time == before.run_time
        assert missing(again) == []


@given(accounts(), MAX_AGES)
def test_the_order_of_the_lists_does_not_matter(
    account: tuple[Holdings, list[Snapshot]], max_age_hours: int | None
) -> None:
    holdings, _ = account
    reversed_lists = Holdings(
        holdings.droplets[::-1],
        holdings.snapshots[::-1],
        holdings.actions,
        holdings.unread,
        finished_runs=holdings.finished_runs,
    )
    assert planned(holdings, max_age_hours) == planned(reversed_lists, max_age_hours)
