"""How likely an action has finished, learnt from those that have."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tasks.digitalocean.durations import DurationEstimate

SECONDS = st.floats(0.1, 1e5)
SIZES = st.one_of(st.none(), st.floats(0, 500))
FINISHED = st.lists(st.tuples(SIZES, st.floats(0, 1e5)), max_size=20)


def learned(finished: list[tuple[float | None, float]], action_type: str = "transfer") -> DurationEstimate:
    durations = DurationEstimate()
    for gigabytes, seconds in finished:
        durations.learn(action_type, gigabytes, seconds)
    return durations


@given(finished=FINISHED, gigabytes=SIZES, seen=SECONDS, age=SECONDS)
def test_a_chance_is_one_whatever_was_learnt(
    finished: list[tuple[float | None, float]], gigabytes: float | None, seen: float, age: float
) -> None:
    assert 0 <= learned(finished).chance("transfer", gigabytes, seen, age) <= 1


@given(finished=FINISHED, gigabytes=SIZES, seen=SECONDS, ages=st.lists(SECONDS, min_size=2))
def test_the_chance_grows_with_the_age(
    finished: list[tuple[float | None, float]], gigabytes: float | None, seen: float, ages: list[float]
) -> None:
    durations = learned(finished)
    chances = [durations.chance("transfer", gigabytes, seen, age) for age in sorted(ages)]
    assert chances == sorted(chances)


@given(finished=FINISHED, gigabytes=SIZES, seen=SECONDS)
def test_there_is_no_chance_at_the_moment_it_was_seen_in_progress_and_certainty_in_the_end(
    finished: list[tuple[float | None, float]], gigabytes: float | None, seen: float
) -> None:
    durations = learned(finished)
    assert durations.chance("transfer", gigabytes, seen, seen) == 0
    assert durations.chance("transfer", gigabytes, seen, 1e9) > 0.99


@given(finished=FINISHED, gigabytes=SIZES, seen=SECONDS, age=SECONDS)
def test_each_type_of_action_has_a_pace_of_its_own(
    finished: list[tuple[float | None, float]], gigabytes: float | None, seen: float, age: float
) -> None:
    others = learned(finished, "convert").chance("transfer", gigabytes, seen, age)
    assert others == DurationEstimate().chance("transfer", gigabytes, seen, age)


def test_large_images_are_expected_to_take_longer() -> None:
    durations = learned([(10, 600.0)] * 10)
    assert durations.chance("transfer", 10, 5, 700) > 0.8
    assert durations.chance("transfer", 40, 5, 700) < durations.chance("transfer", 10, 5, 700)


def test_before_the_usual_time_the_chance_is_small_and_after_it_large() -> None:
    durations = learned([(1, 100.0)] * 20)
    assert durations.chance("transfer", 1, 50, 90) < 0.1
    assert durations.chance("transfer", 1, 50, 110) > 0.9


def test_an_image_without_a_size_is_none_to_divide_by() -> None:
    for nothing in (None, 0.0):
        assert learned([(nothing, 60.0)]).chance("transfer", nothing, 30, 90) > 0


def test_how_long_an_action_takes_is_unknown_until_one_has_finished() -> None:
    assert DurationEstimate().typical("transfer", 10) is None


def test_nine_of_ten_actions_take_no_longer_than_is_typical() -> None:
    durations = DurationEstimate()
    for rate in range(1, 11):
        durations.learn("transfer", 2.0, rate * 2.0)
    assert durations.typical("transfer", 5.0) == 50.0
