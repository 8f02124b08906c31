"""Which Droplets a drill rebuilds, and where: each in turn, always away from home."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from flows.recovery.drills import NEVER, Choice, choose_drills
from flows.recovery.markers import DRILL
from flows.recovery.proofs import Proof, last_proven
from flows.recovery.sources import Holdings
from tasks.digitalocean import Droplet, Image
from tests.flows.images import NOW, image, snapshot

HOME, AWAY = "nyc3", ("ams3", "fra1", "sgp1")
EVERYWHERE = (HOME, *AWAY)


def server(droplet_id: int, *images: int, region: str = HOME, **other: Any) -> Droplet:
    wanted = {"name": f"web-{droplet_id:02d}", "backup_ids": (), "snapshot_ids": images, "region": region} | other
    return Droplet(id=droplet_id, **wanted)


def proof(droplet_id: int, region: str = "fra1", *, days_ago: float = 1) -> Proof:
    return Proof(NOW - timedelta(days=days_ago), droplet_id, region, image_id=droplet_id, seconds=40)


def holding(droplets: Iterable[Droplet], images: Iterable[Image], proofs: Iterable[Proof] = ()) -> Holdings:
    return Holdings(tuple(droplets), tuple(images), (), {}, tuple(proofs))


def copied(*droplet_ids: int, regions: tuple[str, ...] = EVERYWHERE, proofs: Iterable[Proof] = ()) -> Holdings:
    """Droplets with one image each, which has the same ID."""
    droplets = [server(each, each) for each in droplet_ids]
    return holding(droplets, [image(each, "snapshot", *regions) for each in droplet_ids], proofs)


def choose(holdings: Holdings, *, sample: int = 1, **other: Any) -> Choice:
    return choose_drills(holdings, **{"droplet_tag": None, "regions": None, "sample": sample} | other)


def chosen(choice: Choice) -> list[tuple[int | None, str, int]]:
    """Droplet, region and image of each source."""
    return [(each.droplet_id, each.region, each.image.id if each.image else 0) for each in choice.sources]


def test_droplets_that_were_never_proven_come_first_and_then_those_proven_longest_ago() -> None:
    proofs = [proof(1, days_ago=3), proof(2, days_ago=90), proof(2, days_ago=2), proof(4, days_ago=5)]
    choice = choose(copied(1, 2, 3, 4, proofs=proofs), sample=9)
    assert [each.droplet_id for each in choice.sources] == [3, 4, 1, 2]
    assert [each.droplet_id for each in choose(copied(1, 2, 3, 4, proofs=proofs), sample=2).sources] == [3, 4]


@given(
    st.lists(st.tuples(st.integers(1, 6), st.sampled_from(AWAY), st.integers(0, 99)), max_size=12), st.integers(1, 6)
)
def test_no_droplet_that_is_left_out_was_proven_longer_ago(drills: list[tuple[int, str, int]], sample: int) -> None:
    proofs = [proof(droplet_id, region, days_ago=days) for droplet_id, region, days in drills]
    choice = choose(copied(*range(1, 7), proofs=proofs), sample=sample)
    taken = {each.droplet_id for each in choice.sources}
    proven = last_proven(proofs)
    assert len(choice.sources) == len(taken) == sample
    left = [proven.get(each, NEVER) for each in range(1, 7) if each not in taken]
    assert max(proven.get(each or 0, NEVER) for each in taken) <= min(left, default=NOW)


@given(st.integers(1, 7), st.integers(1, 3), st.integers(1, 3))
def test_in_the_course_of_time_every_droplet_is_proven_in_every_region(droplets: int, sample: int, places: int) -> None:
    ids, regions = range(1, droplets + 1), AWAY[:places]
    holdings = copied(*ids, regions=(HOME, *regions))
    proofs: list[Proof] = []
    at: datetime = NOW
    for _ in range(droplets * places):
        choice = choose(Holdings(holdings.droplets, holdings.images, (), {}, proofs), sample=sample)
        for droplet_id, region, image_id in chosen(choice):
            at += timedelta(minutes=1)
            proofs.append(Proof(at, droplet_id or 0, region, image_id, 40))
        times = [sum(each.droplet_id == droplet_id for each in proofs) for droplet_id in ids]
        assert max(times) - min(times) <= 1
    for droplet_id in ids:
        visited = [each.region for each in proofs if each.droplet_id == droplet_id][:places]
        assert sorted(visited) == sorted(regions)


def test_the_region_is_the_one_where_the_droplet_itself_was_proven_longest_ago() -> None:
    ams3 = [proof(1, "ams3", days_ago=2), proof(1, "ams3", days_ago=30)]
    proofs = [*ams3, proof(1, "fra1", days_ago=9), proof(1, "sgp1"), proof(2, "fra1")]
    assert chosen(choose(copied(1, proofs=proofs))) == [(1, "fra1", 1)]
    assert chosen(choose(copied(1, proofs=proofs), regions=["sgp1", "ams3"])) == [(1, "ams3", 1)]


def test_an_older_copy_elsewhere_is_proven_if_the_newest_is_only_at_home() -> None:
    images = [
        image(1, "backup", HOME, days_old=0),
        image(2, "snapshot", HOME, "fra1", days_old=1),
        image(3, "snapshot", HOME, *AWAY, days_old=2),
    ]
    holdings = holding([server(1, 1, 2, 3)], images)
    assert chosen(choose(holdings)) == [(1, "fra1", 2)]
    assert chosen(choose(holdings, regions=["sgp1", HOME])) == [(1, "sgp1", 3)]


def test_an_image_that_is_not_available_is_not_used() -> None:
    images = [image(1, "snapshot", "fra1", status="pending"), image(2, "snapshot", "fra1", days_old=5)]
    assert chosen(choose(holding([server(1, 1, 2)], images))) == [(1, "fra1", 2)]


def test_a_snapshot_that_only_the_list_of_snapshots_ascribes_to_the_droplet_is_used() -> None:
    holdings = Holdings((server(1),), (image(7, "snapshot", "fra1"),), (snapshot(7, "fra1", droplet_id=1),), {})
    assert chosen(choose(holdings)) == [(1, "fra1", 7)]


def test_a_source_is_the_living_droplet_with_its_own_size_and_region() -> None:
    (source,) = choose(holding([server(1, 1, size_slug="s-1vcpu-1gb")], [image(1, "snapshot", "fra1")])).sources
    assert source.exists
    assert source.needed
    assert (source.original.region, source.original.size, source.label) == (HOME, "s-1vcpu-1gb", "web-01 (1)")


def test_a_drill_is_never_chosen_nor_called_unprotected() -> None:
    drill = server(1, 1, tags=(DRILL.tag, DRILL.marker(None, 9)))
    bare = server(2, tags=(DRILL.tag,))
    assert choose(holding([drill, bare], [image(1, "snapshot", "fra1")]), sample=9) == Choice(())


def test_droplets_without_a_copy_away_from_home_are_listed() -> None:
    droplets = [server(4, 4), server(3, 3), server(2), server(1, 1, name="db")]
    images = [image(4, "snapshot", HOME, "fra1"), image(3, "backup", HOME), image(1, "snapshot", "ams3")]
    choice = choose(holding(droplets, images), sample=9)
    assert [each.droplet_id for each in choice.sources] == [1, 4]
    assert choice.unprotected == ("web-02 (2)", "web-03 (3)")
    only = choose(holding(droplets, images), sample=9, regions=["fra1"])
    assert [each.droplet_id for each in only.sources] == [4]
    assert only.unprotected == ("db (1)", "web-02 (2)", "web-03 (3)")


def test_a_tag_in_any_case_limits_both_the_choice_and_the_list_of_unprotected_droplets() -> None:
    droplets = [server(1, 1, tags=("DR",)), server(2, 2), server(3, tags=("web", "dr")), server(4)]
    choice = choose(holding(droplets, [image(1), image(2)]), sample=9, droplet_tag="dr")
    assert [each.droplet_id for each in choice.sources] == [1]
    assert choice.unprotected == ("web-03 (3)",)
