"""When actions are polled, and by which requests."""

from __future__ import annotations

import math
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tasks.digitalocean import ActedOn, Action
from tasks.digitalocean.polling import (
    MOST_INTERVALS_LATE,
    MOST_INTERVALS_SKIPPED,
    MOST_MISSES,
    OVERDUE_PART_OF_AGE,
    SOURCES,
    Cadence,
    Feed,
    PendingAction,
    PollRequest,
    Source,
    choose_request,
)
from tests.tasks.digitalocean.api_examples import RUNNING_ACTION

PAGE_SIZE = 4
SHORTEST, LONGEST = 5.0, 120.0
ACTION = Action.model_validate(RUNNING_ACTION)
AGES = st.floats(0, 1e6)
SIZES = st.one_of(st.none(), st.floats(0, 500))


def pending_action(
    action_id: int = 1, image_id: int = 1, age: float = 0.0, *, gigabytes: float | None = None, blocking: bool = False
) -> PendingAction:
    """An action that started at 0 and was last seen in progress at an age."""
    action = ACTION.model_copy(update={"id": action_id, "type": "transfer"})
    return PendingAction(action, ActedOn("image", image_id), gigabytes, started=0.0, last_seen=age, blocking=blocking)


def feed_of(*action_ids: int, page_size: int = PAGE_SIZE) -> Feed:
    feed = Feed(page_size)
    feed.note(action_ids)
    return feed


# Which request


@st.composite
def situations(draw: st.DrawFn) -> tuple[set[PendingAction], list[PendingAction], Feed]:
    """Actions that are due, these and others, and a feed in which others' actions are, too."""
    images = draw(st.dictionaries(st.integers(1, 60), st.integers(1, 8), max_size=40))
    pending = [pending_action(action_id, image_id) for action_id, image_id in images.items()]
    for each in pending:
        each.skip_until = dict.fromkeys(draw(st.sets(st.sampled_from(("page", "resource")))), math.inf)
    due = {each for each in pending if draw(st.booleans())}
    feed = feed_of(*images, *draw(st.lists(st.integers(1, 60), max_size=30)))
    return due, pending, feed


def keys_of(each: PendingAction, feed: Feed) -> dict[Source, int | ActedOn]:
    return {"page": feed.page_of(each.action.id), "resource": each.resource, "action": each.action.id}


def shown_by(source: Source, key: int | ActedOn, pending: list[PendingAction], feed: Feed) -> set[PendingAction]:
    """What a request should show, by the rules of the API."""
    return {each for each in pending if source in each.sources(0.0) and keys_of(each, feed)[source] == key}


def requests_for(
    due: set[PendingAction], pending: list[PendingAction], feed: Feed
) -> list[tuple[PollRequest[PendingAction], set[PendingAction]]]:
    """The requests that show all that is due, and what was due before each."""
    requests = []
    while request := choose_request(due, pending, feed, 0.0):
        requests.append((request, due))
        assert due.intersection(request.shows)
        due = due.difference(request.shows)
    assert not due
    return requests


@given(situations())
def test_each_request_covers_as_many_due_actions_as_possible(
    situation: tuple[set[PendingAction], list[PendingAction], Feed],
) -> None:
    due, pending, feed = situation
    for request, still_due in requests_for(due, pending, feed):
        assert set(request.shows) == shown_by(request.source, request.key, pending, feed)
        most = max(
            len(shown_by(source, key, pending, feed) & still_due)
            for each in pending
            for source, key in keys_of(each, feed).items()
        )
        assert len(still_due.intersection(request.shows)) == most


def test_a_single_action_is_looked_up_by_its_id() -> None:
    only = pending_action(7)
    assert choose_request({only}, [only], feed_of(7), 0.0) == PollRequest("action", 7, (only,))


def test_actions_of_one_image_are_looked_up_in_its_list_and_of_many_in_the_feed() -> None:
    of_one = [pending_action(action_id, 1) for action_id in (1, 2)]
    request = choose_request(set(of_one), of_one, feed_of(1, 2), 0.0)
    assert request == PollRequest("resource", ActedOn("image", 1), tuple(of_one))
    of_many = [*of_one, *(pending_action(action_id, action_id) for action_id in (3, 4))]
    request = choose_request(set(of_many), of_many, feed_of(1, 2, 3, 4), 0.0)
    assert request == PollRequest("page", 1, tuple(of_many))


def test_of_two_requests_that_cover_what_is_due_the_one_that_shows_more_actions_is_sent() -> None:
    due, other = pending_action(1, 1), pending_action(2, 2)
    request = choose_request({due}, [due, other], feed_of(1, 2), 0.0)
    assert request is not None
    assert request.source == "page"


@given(ids=st.lists(st.integers(1, 1000), max_size=100), wanted=st.integers(1, 1000))
def test_the_page_of_an_action_follows_from_the_newer_ones(ids: list[int], wanted: int) -> None:
    feed = feed_of(*ids)
    feed.note(ids)
    newest_first = sorted({*ids, wanted}, reverse=True)
    assert feed.page_of(wanted) == newest_first.index(wanted) // PAGE_SIZE + 1


# When


def interval(cadence: Cadence, pending: PendingAction) -> float:
    return cadence.due_at(pending, pending.last_seen) - pending.last_seen


@given(ages=st.lists(AGES, min_size=2), blocking=st.booleans())
def test_the_interval_grows_with_the_age_of_an_action_and_respects_the_minimum(
    ages: list[float], blocking: bool
) -> None:
    cadence = Cadence(SHORTEST, LONGEST)
    intervals = [interval(cadence, pending_action(age=age, blocking=blocking)) for age in sorted(ages)]
    assert all(later > earlier - 1e-6 for earlier, later in pairwise(intervals))
    assert min(intervals) > SHORTEST - 1e-6


def test_the_maximum_interval_holds_until_an_action_is_as_old_as_that() -> None:
    cadence = Cadence(SHORTEST, LONGEST)
    assert interval(cadence, pending_action(age=LONGEST)) == LONGEST
    assert LONGEST < interval(cadence, pending_action(age=3600)) < 3600 / 5


def test_actions_that_block_other_work_are_polled_more_often() -> None:
    cadence = Cadence(SHORTEST, LONGEST)
    assert interval(cadence, pending_action(age=60, blocking=True)) == 15
    assert interval(cadence, pending_action(age=60)) > 60


@given(age=AGES, gigabytes=st.floats(0, 500))
def test_an_action_as_old_as_others_were_at_their_end_is_polled_soon(age: float, gigabytes: float) -> None:
    cadence = Cadence(SHORTEST, LONGEST)
    cadence.learn(pending_action(gigabytes=2), 20.0)
    typical = cadence.typical("transfer", gigabytes)
    assert typical is not None
    soon = max(typical - age, OVERDUE_PART_OF_AGE * age, SHORTEST)
    assert interval(cadence, pending_action(age=age, gigabytes=gigabytes)) < soon + 1e-6


@given(age=AGES)
def test_without_a_known_size_what_others_took_does_not_matter(age: float) -> None:
    cadence = Cadence(SHORTEST, LONGEST)
    before = interval(cadence, pending_action(age=age))
    cadence.learn(pending_action(gigabytes=2), 20.0)
    assert interval(cadence, pending_action(age=age)) == before


def test_an_unlisted_action_is_polled_when_its_age_has_doubled() -> None:
    pending = pending_action(age=3000)
    pending.skip_until = {"page": math.inf, "resource": math.inf}
    assert interval(Cadence(SHORTEST, LONGEST), pending) == 3000


def test_a_round_starts_when_half_of_the_actions_or_of_the_blocking_ones_are_due() -> None:
    cadence = Cadence(SHORTEST, LONGEST)
    old, young = [pending_action(age=age) for age in (900, 950)], [pending_action(age=age) for age in (1, 2)]
    for each in [*old, *young]:
        each.last_seen, each.started = 1000, 1000 - each.last_seen
    halves = sorted(cadence.due_at(each, 1000) for each in [*old, *young])
    assert cadence.next_round([*old, *young], 1000) == halves[1]
    blocking = pending_action(age=1000, blocking=True)
    blocking.started = 970
    assert cadence.next_round([*old, blocking], 1000) == 1007.5


def test_no_action_is_delayed_long_by_others() -> None:
    cadence = Cadence(SHORTEST, LONGEST)
    old = [pending_action(age=1e6) for _ in range(10)]
    young = pending_action(age=1e6)
    young.started = 1e6
    assert cadence.next_round([*old, young], 1e6) == 1e6 + SHORTEST + MOST_INTERVALS_LATE * LONGEST


@given(
    drawn=st.lists(st.tuples(st.floats(0, 300), st.dictionaries(st.sampled_from(SOURCES), st.integers(295, 310)))),
    now=st.integers(300, 315),
)
def test_something_is_due_when_a_round_starts(drawn: list[tuple[float, dict[Source, float]]], now: float) -> None:
    """Otherwise the poller would go round and round without sending anything."""
    cadence = Cadence(SHORTEST, LONGEST)
    pending = [pending_action(age=age) for age, _ in drawn]
    for each, (_, skip_until) in zip(pending, drawn, strict=True):
        each.skip_until = skip_until
    assert cadence.due(pending, now) or cadence.next_round(pending, now) > now


def test_without_pending_actions_there_is_no_round() -> None:
    assert Cadence(SHORTEST, LONGEST).next_round([], 0.0) == math.inf


# What a poll does not show


def test_a_source_that_fails_is_tried_again_later() -> None:
    cadence, pending = Cadence(SHORTEST, LONGEST), pending_action()
    now = 0.0
    for _ in range(MOST_MISSES - 1):
        cadence.note_miss(pending, "page", now)
        assert cadence.due_at(pending, now) > now + SHORTEST
        now = cadence.due_at(pending, now)
        assert "page" in pending.sources(now)
    cadence.note_miss(pending, "page", now)
    assert pending.sources(now) == ["resource", "action"]
    assert cadence.due_at(pending, now) <= now
    assert "page" in pending.sources(now + MOST_INTERVALS_SKIPPED * LONGEST)


@given(st.lists(st.sampled_from(["page", "resource", "action"]), max_size=60))
def test_misses_do_not_delay_polling_an_action_for_long(misses: list[Source]) -> None:
    cadence, pending = Cadence(SHORTEST, LONGEST), pending_action()
    now = 0.0
    for source in misses:
        cadence.note_miss(pending, source, now)
        due = cadence.due_at(pending, now)
        assert due <= now + LONGEST
        now = max(now, due)
        assert pending.sources(now)


@given(situations())
def test_a_round_ends_even_if_no_source_shows_anything(
    situation: tuple[set[PendingAction], list[PendingAction], Feed],
) -> None:
    due, pending, feed = situation
    cadence, now, requests = Cadence(SHORTEST, LONGEST), SHORTEST, 0
    while request := choose_request(due, pending, feed, now):
        for each in due.intersection(request.shows):
            cadence.note_miss(each, request.source, now)
        due = cadence.due(due, now)
        requests += 1
        assert requests <= 3 * len(pending)


# How long actions take


@given(finished=st.lists(st.tuples(SIZES, st.floats(0, 1e5)), max_size=20), gigabytes=SIZES)
def test_each_type_of_action_has_a_pace_of_its_own(
    finished: list[tuple[float | None, float]], gigabytes: float | None
) -> None:
    cadence = Cadence(SHORTEST, LONGEST)
    for size, seconds in finished:
        cadence.learn(pending_action(gigabytes=size), seconds)
    assert cadence.typical("convert", gigabytes) is None
    assert (cadence.typical("transfer", gigabytes) is None) == (not finished)


def test_nine_of_ten_actions_take_no_longer_than_the_typical_duration() -> None:
    cadence = Cadence(SHORTEST, LONGEST)
    for rate in range(1, 11):
        cadence.learn(pending_action(gigabytes=2.0), rate * 2.0)
    assert cadence.typical("transfer", 5.0) == 50.0


def test_an_image_without_a_size_causes_no_division_by_zero() -> None:
    for nothing in (None, 0.0):
        cadence = Cadence(SHORTEST, LONGEST)
        cadence.learn(pending_action(gigabytes=nothing), 60.0)
        assert cadence.typical("transfer", nothing) == 60.0
