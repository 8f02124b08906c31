"""Which look is the cheapest, and whether it is worth a request."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from tasks.digitalocean.polling import Feed, Look, Place, Situation, Subject, choose_look, next_look

PAGE_SIZE = 4
SUBJECTS = st.dictionaries(st.integers(1, 60), st.integers(1, 8), max_size=40).map(
    lambda images: [Subject(action_id, image_id) for action_id, image_id in images.items()]
)
CHANCES = st.sampled_from([0.0, 0.1, 0.5, 1.0])


@st.composite
def situations(draw: st.DrawFn) -> tuple[dict[Subject, float], frozenset[Subject], Feed]:
    """Actions with their chances, those that no list shows, and a feed in which others' actions are, too."""
    subjects = draw(SUBJECTS)
    chances = {subject: draw(CHANCES) for subject in subjects}
    unlisted = frozenset(subject for subject in subjects if draw(st.integers(0, 4)) == 0)
    feed = Feed(PAGE_SIZE)
    feed.note(subject.action_id for subject in subjects)
    feed.note(draw(st.lists(st.integers(1, 60), max_size=30)))
    return chances, unlisted, feed


SITUATIONS = situations()


def shown_at(
    place: Place, chances: Mapping[Subject, float], unlisted: frozenset[Subject], feed: Feed
) -> frozenset[Subject]:
    """What a look is expected to show, by the rules of the API."""
    kind, key = place
    if kind == "action":
        return frozenset(each for each in chances if each.action_id == key)
    listed = [each for each in chances if each not in unlisted]
    if kind == "image":
        return frozenset(each for each in listed if each.image_id == key)
    return frozenset(each for each in listed if feed.page_of(each.action_id) == key)


def all_places(chances: Mapping[Subject, float], feed: Feed) -> set[Place]:
    places: set[Place] = set()
    for each in chances:
        places |= {("action", each.action_id), ("image", each.image_id), ("page", feed.page_of(each.action_id))}
    return places


@given(SITUATIONS)
def test_the_look_that_is_chosen_finds_the_most(
    situation: tuple[dict[Subject, float], frozenset[Subject], Feed],
) -> None:
    chances, unlisted, feed = situation
    look = choose_look(chances, unlisted, feed)
    if look is None:
        assert not chances
        return
    assert look.shows == shown_at(look.place, chances, unlisted, feed)
    most = max(
        sum(chances[each] for each in shown_at(place, chances, unlisted, feed)) for place in all_places(chances, feed)
    )
    assert abs(look.finds - most) < 1e-5


@given(SITUATIONS)
def test_every_action_is_shown_in_the_end_and_no_place_is_looked_at_twice(
    situation: tuple[dict[Subject, float], frozenset[Subject], Feed],
) -> None:
    chances, unlisted, feed = situation
    due, taken = dict(chances), set[Place]()
    while look := choose_look(due, unlisted, feed, taken):
        assert look.place not in taken
        assert look.shows
        taken.add(look.place)
        due = {subject: chance for subject, chance in due.items() if subject not in look.shows}
    assert not due
    assert len(taken) <= len(chances)


@given(SITUATIONS)
def test_what_no_look_shows_is_at_last_looked_at_by_its_id(
    situation: tuple[dict[Subject, float], frozenset[Subject], Feed],
) -> None:
    """The lists may be empty, for all the API promises: the looks still come to an end."""
    chances, unlisted, feed = situation
    taken = set[Place]()
    while look := choose_look(chances, unlisted, feed, taken):
        assert look.place not in taken
        taken.add(look.place)
    assert {("action", subject.action_id) for subject in chances} <= taken


def test_a_single_action_is_looked_at_by_its_id() -> None:
    feed = Feed(200)
    feed.note([7])
    only = Subject(7, 1)
    assert choose_look({only: 0.5}, (), feed) == Look(("action", 7), frozenset({only}), 0.5)


def test_actions_of_one_image_are_looked_at_in_its_list_and_of_many_in_the_feed() -> None:
    feed = Feed(200)
    feed.note(range(1, 7))
    of_one = {Subject(action_id, 1): 0.5 for action_id in (1, 2)}
    look = choose_look(of_one, (), feed)
    assert look is not None
    assert look.place == ("image", 1)
    look = choose_look({**of_one, **{Subject(action_id, action_id): 0.5 for action_id in (3, 4, 5)}}, (), feed)
    assert look is not None
    assert (look.place, len(look.shows)) == (("page", 1), 5)


def test_what_is_in_no_list_is_looked_at_alone() -> None:
    feed = Feed(200)
    subjects = {Subject(action_id, 1): 1.0 for action_id in range(1, 5)}
    feed.note(subject.action_id for subject in subjects)
    look = choose_look(subjects, frozenset(subjects), feed)
    assert look is not None
    assert look.place[0] == "action"


@given(ids=st.lists(st.integers(1, 1000), max_size=100), wanted=st.integers(1, 1000))
def test_the_page_of_an_action_follows_from_the_newer_ones(ids: list[int], wanted: int) -> None:
    feed = Feed(PAGE_SIZE)
    feed.note(ids)
    feed.note(ids)
    newest_first = sorted({*ids, wanted}, reverse=True)
    assert feed.page_of(wanted) == newest_first.index(wanted) // PAGE_SIZE + 1


# Whether to look at all


def situation_of(
    count: int, chance: float, *, contended: bool = False, overdue: bool = False
) -> tuple[Situation, Feed]:
    feed = Feed(200)
    subjects = [Subject(action_id, action_id) for action_id in range(1, count + 1)]
    feed.note(subject.action_id for subject in subjects)
    return Situation(dict.fromkeys(subjects, chance), contended=contended, overdue=overdue), feed


def test_without_anything_to_wait_for_there_is_no_look() -> None:
    assert next_look(*situation_of(0, 1.0)) is None
    assert next_look(*situation_of(0, 1.0, overdue=True)) is None


def test_nothing_is_looked_at_that_cannot_have_finished() -> None:
    assert next_look(*situation_of(150, 0.0)) is None


def test_what_has_surely_finished_is_looked_at() -> None:
    for count in (1, 2, 150):
        look = next_look(*situation_of(count, 1.0))
        assert look is not None
        assert len(look.shows) == count


def test_a_look_for_little_is_put_off_until_it_is_overdue() -> None:
    assert next_look(*situation_of(20, 0.1)) is None
    assert next_look(*situation_of(20, 0.1, overdue=True)) is not None


def test_requests_that_start_something_go_before_looks_that_find_little() -> None:
    assert next_look(*situation_of(30, 0.9)) is not None
    assert next_look(*situation_of(30, 0.9, contended=True)) is None
    assert next_look(*situation_of(150, 0.9, contended=True)) is not None


def test_what_other_work_waits_for_is_looked_at_sooner() -> None:
    situation, feed = situation_of(20, 0.4)
    assert next_look(situation, feed) is None
    waited_for = next(iter(situation.chances))
    look = next_look(Situation(situation.chances, blocking=frozenset({waited_for})), feed)
    assert look is not None
    assert waited_for in look.shows


@given(SITUATIONS, st.booleans(), st.booleans())
def test_a_round_of_looks_always_comes_to_an_end(
    drawn: tuple[dict[Subject, float], frozenset[Subject], Feed], contended: bool, overdue: bool
) -> None:
    chances, unlisted, feed = drawn
    situation = Situation(chances, frozenset(chances), unlisted, contended, overdue)
    taken = set[Place]()
    while look := next_look(situation, feed, taken):
        assert look.place not in taken
        taken.add(look.place)
