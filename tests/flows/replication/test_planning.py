"""What is missing, whatever there is: properties of the plan."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.actions import BELIEVE_ACTIONS_FOR
from flows.replication.planning import (
    ImagePlan,
    ReplicationPlan,
    images_to_change,
    plan_replication,
    refusal_of,
)
from flows.replication.recovery_points import Candidate
from tasks.digitalocean import Action, Image
from tests.flows.images import NOW, action, image

REGIONS = ("ams3", "fra1", "nyc3", "sgp1")
ELSEWHERE = "lon1"
LATELY = BELIEVE_ACTIONS_FOR / timedelta(minutes=1)

World = tuple[list[Image], list[Action]]


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Images in all states, and actions on them, running, long done and just done."""
    images = [
        image(
            image_id,
            draw(st.sampled_from(["backup", "backup", "snapshot", "custom"])),
            *draw(st.sets(st.sampled_from((*REGIONS, ELSEWHERE)), min_size=1)),
            size_gigabytes=draw(st.none() | st.floats(0.5, 500)),
            public=draw(st.sampled_from([False, False, False, True])),
            status=draw(st.sampled_from(["available", "available", "available", "pending"])),
        )
        for image_id in draw(st.sets(st.integers(1, 9), max_size=5))
    ]
    actions = draw(
        st.lists(
            st.builds(
                action,
                st.sampled_from(["transfer", "transfer", "convert"]),
                st.sampled_from(["in-progress", "completed", "errored"]),
                st.sampled_from((*REGIONS, ELSEWHERE)),
                minutes_ago=st.sampled_from([0, LATELY - 1, LATELY + 1, 10_000]),
                id=st.integers(1, 10**9),
                resource_id=st.integers(1, 9),
            ),
            max_size=12,
        )
    )
    return images, actions


def plan_for(images: list[Image], actions: list[Action], regions: tuple[str, ...] = REGIONS) -> ReplicationPlan:
    return plan_replication([Candidate(each, each.name) for each in images], regions, actions, NOW)


def plan_of(one: Image, *actions: Action, regions: tuple[str, ...] = REGIONS) -> ImagePlan:
    (plan,) = plan_for([one], list(actions), regions).images
    return plan


def carried_out(plan: ReplicationPlan) -> list[Image]:
    """The images once everything in a plan has worked."""
    return [
        each.image
        if each.refusal
        else each.image.model_copy(
            update={
                "status": "available",
                "type": "snapshot" if each.convert or each.converting else each.image.type,
                "regions": tuple({*each.image.regions, *each.there, *each.under_way, *each.transfer_to}),
            }
        )
        for each in plan.images
    ]


def actions_of(plan: ReplicationPlan, status: str) -> list[Action]:
    """The actions that carrying a plan out starts."""
    started = []
    for each in plan.images:
        wanted = [("transfer", region) for region in each.transfer_to] + [("convert", "fra1")] * each.convert
        started += [action(kind, status, region, resource_id=each.image.id) for kind, region in wanted]
    return started


def nothing_to_start(plan: ReplicationPlan) -> bool:
    return plan.transfers == plan.conversions == 0


@given(worlds())
def test_every_wanted_region_of_an_image_is_accounted_for_exactly_once(world: World) -> None:
    plan = plan_for(*world)
    assert sorted(each.image.id for each in plan.images) == sorted(each.id for each in world[0])
    for each in plan.images:
        if not each.refusal:
            assert sorted([*each.there, *each.under_way, *each.transfer_to]) == sorted(REGIONS)


@given(worlds())
def test_no_transfer_goes_to_a_region_that_has_or_is_receiving_the_image(world: World) -> None:
    plan = plan_for(*world)
    running = {
        (each.resource_id, each.region_slug) for each in world[1] if each.in_progress and each.type == "transfer"
    }
    sent = [(each.image.id, region) for each in plan.images for region in each.transfer_to]
    assert len(sent) == len(set(sent)) == plan.transfers
    assert not running & set(sent)
    assert not any(region in each.image.regions for each in plan.images for region in each.transfer_to)


@given(worlds())
def test_only_public_or_unavailable_images_are_refused_and_with_a_reason(world: World) -> None:
    images, actions = world
    busy = {each.resource_id for each in actions if each.in_progress}
    for each in plan_for(images, actions).images:
        usable = each.image.status == "available" or each.image.id in busy
        assert bool(each.refusal) == (each.image.public or not usable)
        if each.refusal:
            assert each == ImagePlan(each.candidate, refusal=each.refusal)


@given(worlds())
def test_only_backups_with_missing_copies_are_converted_and_only_once(world: World) -> None:
    converting = {each.resource_id for each in world[1] if each.in_progress and each.type == "convert"}
    for each in plan_for(*world).images:
        if each.convert or each.converting:
            assert each.image.type == "backup"
            assert each.transfer_to
        assert not (each.convert and each.image.id in converting)
        assert not (each.convert and each.converting)


@given(worlds())
def test_the_largest_images_come_first(world: World) -> None:
    sizes = [each.image.size_gigabytes or 0 for each in plan_for(*world).images]
    assert sizes == sorted(sizes, reverse=True)


@given(worlds())
def test_planning_again_from_the_result_yields_an_empty_plan(world: World) -> None:
    done = carried_out(plan_for(*world))
    assert nothing_to_start(plan_for(done, []))
    assert all(each.refusal or each.there == REGIONS for each in plan_for(done, []).images)


@given(worlds(), st.sampled_from(["in-progress", "completed"]))
def test_a_plan_just_carried_out_leaves_nothing_to_do_even_if_the_images_lag_behind(world: World, status: str) -> None:
    images, actions = world
    assert nothing_to_start(plan_for(images, actions + actions_of(plan_for(images, actions), status)))


@given(worlds())
def test_images_without_missing_copies_are_not_looked_up(world: World) -> None:
    images, _ = world
    missing = {each.id for each in images_to_change([Candidate(each, "") for each in images], REGIONS)}
    for each in images:
        complete = each.available and set(REGIONS) <= set(each.regions)
        assert (each.id in missing) == (not each.public and not complete)


@given(worlds())
def test_a_plan_does_not_depend_on_the_order_of_the_lists(world: World) -> None:
    images, actions = world
    unambiguous = list({(each.resource_id, each.type, each.region_slug): each for each in actions}.values())
    # A conversion has no region.
    unambiguous = [each for each in unambiguous if each.type == "transfer"]
    assert plan_for(images, unambiguous) == plan_for(images[::-1], unambiguous[::-1])


def test_an_image_chosen_twice_is_copied_once() -> None:
    assert plan_for([image(1), image(1)], []).transfers == len(REGIONS) - 1


@pytest.mark.parametrize("status", ["NEW", "pending", "deleted", "retired", "something-new"])
@pytest.mark.parametrize("kind", ["custom", "snapshot", "backup"])
def test_case_17_an_image_that_is_not_available_is_refused_with_its_status(kind: str, status: str) -> None:
    plan = plan_of(image(1, kind, status=status))
    assert plan.refusal == f"its status is {status}: try again once it is available"
    assert nothing_to_start(plan_for([plan.image], []))


def test_a_public_image_is_refused_because_it_is_not_the_accounts() -> None:
    refused = image(1, "snapshot", public=True)
    assert "public image" in plan_of(refused).refusal
    assert images_to_change([Candidate(refused, "")], REGIONS) == []


@pytest.mark.parametrize("kind", ["custom", "admin", "base"])
def test_case_17_an_image_is_never_refused_because_of_its_name(kind: str) -> None:
    plan = plan_of(image(1, kind))
    assert (plan.refusal, plan.transfer_to, plan.convert) == ("", ("ams3", "nyc3", "sgp1"), False)


def test_an_image_whose_status_changes_during_a_copy_is_adopted() -> None:
    transferring = action("transfer", "in-progress", "nyc3")
    plan = plan_of(image(1, status="pending"), transferring)
    assert plan.refusal == ""
    assert plan.under_way == {"nyc3": transferring}
    assert plan.transfer_to == ("ams3", "sgp1")


def test_only_an_available_backup_can_be_converted() -> None:
    converting = action("convert", "in-progress", "fra1")
    assert refusal_of(image(1, "backup"), to_copy=False) == ""
    assert refusal_of(image(1, "backup", status="pending"), [converting], to_copy=False) == ""
    assert "its status is pending" in refusal_of(image(1, "backup", status="pending"), to_copy=False)
    assert "it is a custom image: only backups can be converted" in refusal_of(image(1, "custom"), to_copy=False)
    assert "public image" in refusal_of(image(1, "snapshot", public=True), to_copy=False)


def test_a_plan_says_how_much_its_conversions_add_to_the_snapshots() -> None:
    backup, unsized = image(1, "backup", size_gigabytes=12.5), image(2, "backup")
    nowhere_missing = image(3, "backup", *REGIONS, size_gigabytes=7)
    plan = plan_for([backup, unsized, nowhere_missing, image(4, "snapshot", size_gigabytes=30)], [])
    assert (plan.conversions, plan.added_gb, plan.unsized_conversions) == (2, 12.5, 1)
    converting = action("convert", "in-progress", "fra1")
    assert plan_for([backup], [converting]).added_gb == 0


def test_a_transfer_that_has_just_completed_counts_even_if_the_image_does_not_show_it() -> None:
    plan = plan_of(image(1), action(status="completed", minutes_ago=LATELY - 1))
    assert plan.there == ("fra1", "nyc3")


def test_a_transfer_that_completed_long_ago_does_not_override_the_image() -> None:
    assert "nyc3" in plan_of(image(1), action(status="completed", minutes_ago=LATELY + 1)).transfer_to


def test_an_errored_transfer_is_restarted() -> None:
    assert "nyc3" in plan_of(image(1), action(status="errored")).transfer_to


def test_a_transfer_in_progress_is_adopted_regardless_of_its_age() -> None:
    running = action(minutes_ago=10_000)
    assert plan_of(image(1), running).under_way == {"nyc3": running}


def test_a_conversion_that_has_just_completed_is_not_requested_again() -> None:
    plan = plan_of(image(1, "backup"), action("convert", "completed", "fra1"))
    assert (plan.convert, plan.converting) == (False, None)
    assert plan.transfer_to == ("ams3", "nyc3", "sgp1")


def test_a_conversion_in_progress_is_awaited_and_not_requested_again() -> None:
    running = action("convert", region="fra1")
    plan = plan_of(image(1, "backup"), running)
    assert (plan.convert, plan.converting) == (False, running)


def test_an_errored_conversion_is_requested_again() -> None:
    assert plan_of(image(1, "backup"), action("convert", "errored", "fra1")).convert


def test_a_backup_that_is_in_every_region_stays_a_backup() -> None:
    plan = plan_of(image(1, "backup"), regions=("fra1",))
    assert (plan.convert, plan.there) == (False, ("fra1",))


def test_actions_on_other_images_are_ignored() -> None:
    assert "nyc3" in plan_of(image(1), action(resource_id=2)).transfer_to
    assert "nyc3" in plan_of(image(1), action(resource_id=None)).transfer_to
