"""What is rebuilt, and from which image."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.recovery.markers import DRILL, RESTORE
from flows.recovery.sources import Holdings, Source, choose_sources
from tasks.digitalocean import Image
from tests.flows.images import image, snapshot
from tests.flows.recovery.recovery_examples import SMALL, droplet, holdings, record


def chosen(there: Holdings, **how: Any) -> dict[int, Source]:
    """The sources for a rebuild in fra1, by ID of the original."""
    sources = choose_sources(there, "fra1", **how)
    found = {source.original.droplet_id: source for source in sources}
    assert len(found) == len(sources)
    return found


def image_of(source: Source) -> int | None:
    return source.image.id if source.image else None


IMAGES = st.lists(
    st.builds(
        lambda image_id, regions, days_old, status: image(
            image_id, "snapshot", *regions, days_old=days_old, status=status
        ),
        image_id=st.integers(1, 50),
        regions=st.sets(st.sampled_from(["fra1", "nyc3", "ams3"]), min_size=1),
        days_old=st.integers(0, 4),
        status=st.sampled_from(["available", "available", "pending", "deleted", "retired"]),
    ),
    max_size=8,
    unique_by=lambda each: each.id,
)


@given(images=IMAGES, deleted=st.booleans())
def test_the_newest_available_image_in_the_region_is_chosen(images: list[Image], *, deleted: bool) -> None:
    ids = tuple(each.id for each in images)
    there = (
        holdings(images=tuple(images), snapshots=tuple(snapshot(each, droplet_id=7) for each in ids))
        if deleted
        else holdings(droplet(7, images=ids), images=tuple(images))
    )
    usable = [each for each in images if each.status == "available" and "fra1" in each.regions]
    sources = chosen(there)
    if deleted and not images:
        assert sources == {}
        return
    assert sources[7].exists is not deleted
    assert sources[7].needed
    if usable:
        best = sources[7].image
        assert best in usable
        assert all(best.created_at >= each.created_at for each in usable)
        assert sources[7].problem == ""
    else:
        assert sources[7].image is None
        assert sources[7].problem.startswith("it has no available backup or snapshot in fra1")
        assert ("the newest is in" in sources[7].problem) == any(each.available and each.regions for each in images)


def test_snapshots_of_a_destroyed_droplet_are_its_recovery_points_with_what_was_recorded_of_it() -> None:
    there = holdings(
        droplet(1, images=(11,)),
        images=(image(11), image(12, days_old=1), image(13)),
        snapshots=(snapshot(12, droplet_id=7), snapshot(13, droplet_id=8)),
        records=(record(7, "db-01", tags=("dr",)), record(1, "outdated")),
    )
    sources = chosen(there)
    assert {each: (source.exists, image_of(source)) for each, source in sources.items()} == {
        1: (True, 11),
        7: (False, 12),
        8: (False, 13),
    }
    assert sources[7].original == record(7, "db-01", tags=("dr",))
    assert sources[1].original.name == "web"
    assert [sources[7].label, sources[7].droplet_id] == ["db-01 (7)", 7]


@pytest.mark.parametrize(
    ("image_name", "name"),
    [
        ("web-01 2026-11-20", "web-01"),
        ("db.example.com-before-upgrade", "db.example.com-before-upgrade"),
        ("Web\u00e9 (old)", "Web"),
        ("-- nightly", "droplet-7"),
        ("", "droplet-7"),
    ],
)
def test_a_droplet_of_which_nothing_is_recorded_is_named_after_its_snapshot(image_name: str, name: str) -> None:
    there = holdings(images=(image(12, name=image_name),), snapshots=(snapshot(12, droplet_id=7),))
    assert chosen(there)[7].original.name == name


def test_a_droplet_that_still_is_in_the_region_is_not_needed_unless_it_is_named() -> None:
    there = holdings(droplet(1, region="fra1", images=(11,)), droplet(2, images=(12,)), images=(image(11), image(12)))
    assert {each: source.needed for each, source in chosen(there).items()} == {1: False, 2: True}
    assert {each: source.needed for each, source in chosen(there, droplet_ids=[1]).items()} == {1: True}


def test_a_destroyed_droplet_of_the_region_itself_is_needed() -> None:
    there = holdings(images=(image(12),), snapshots=(snapshot(12, droplet_id=7),), records=(record(7, region="fra1"),))
    assert chosen(there)[7].needed


def test_droplets_of_drills_are_never_rebuilt() -> None:
    drill = droplet(9, tags=(DRILL.tag, DRILL.marker(1, 11), RESTORE.marker(1, 11)), images=(19,))
    there = holdings(droplet(1, images=(11,)), drill, images=(image(11), image(19)))
    assert set(chosen(there)) == {1}


@given(
    original_exists=st.booleans(),
    original_has=st.booleans(),
    restored_has=st.booleans(),
    restored_in=st.sampled_from(["fra1", "nyc3", "ams3"]),
)
def test_of_a_restored_droplet_and_its_original_exactly_one_is_rebuilt(
    *, original_exists: bool, original_has: bool, restored_has: bool, restored_in: str
) -> None:
    original = [droplet(1, images=(11,) if original_has else ())] if original_exists else []
    restored = droplet(
        2, "web-restored", restored_in, (RESTORE.tag, RESTORE.marker(1, 11)), (12,) if restored_has else ()
    )
    there = holdings(
        *original,
        restored,
        images=(image(11), image(12)),
        snapshots=(snapshot(11, droplet_id=1),) if original_has else (),
    )
    sources = chosen(there)
    known = original_exists or original_has
    assert set(sources) == ({1} if known and not restored_has else {2})
    if 2 in sources:
        assert sources[2].needed is (restored_in != "fra1")


@given(have_images=st.lists(st.booleans(), min_size=1, max_size=5), data=st.data())
def test_of_a_droplet_that_was_restored_again_and_again_the_latest_with_an_image_is_rebuilt(
    have_images: list[bool], data: st.DataObject
) -> None:
    chain = [
        droplet(number, region="nyc3", tags=(RESTORE.tag, RESTORE.marker(number - 1, 9)), images=(10 + number,) * has)
        for number, has in enumerate(have_images, 1)
    ]
    there = holdings(*data.draw(st.permutations(chain)), images=tuple(image(10 + each.id) for each in chain))
    latest = max((each.id for each in chain if each.backup_ids), default=1)
    assert set(chosen(there)) == {latest}


def test_a_droplet_that_says_it_was_restored_from_itself_is_rebuilt() -> None:
    assert set(chosen(holdings(droplet(1, tags=(RESTORE.marker(1, 11),), images=(11,)), images=(image(11),)))) == {1}


def test_a_restored_droplet_stands_for_its_original_only_once_it_has_an_image_in_the_region() -> None:
    restored = droplet(2, region="nyc3", tags=(RESTORE.marker(1, 11),), images=(12,))
    there = holdings(droplet(1, images=(11,)), restored, images=(image(11), image(12, "backup", "nyc3")))
    assert set(chosen(there)) == {1}


ACCOUNT = holdings(
    droplet(1, "web-01", "nyc3", ("dr", "env:prod"), (11,)),
    droplet(2, "web-02", "sgp1", ("dr",), (12,)),
    droplet(3, "db-01", "nyc3", ("env:prod",), (13,)),
    images=(image(11), image(12), image(13), image(14), image(15), image(16, "custom", name="legacy.qcow2")),
    snapshots=(snapshot(14, droplet_id=7), snapshot(15, droplet_id=8)),
    records=(record(7, "mail-01", region="nyc3", tags=("dr",)),),
)


@pytest.mark.parametrize(
    ("how", "ids"),
    [
        ({}, {1, 2, 3, 7, 8}),
        ({"droplet_tag": "dr"}, {1, 2, 7}),
        ({"droplet_tag": "DR"}, {1, 2, 7}),
        ({"droplet_tag": "d"}, set()),
        # Nothing is recorded of 8, so it may have been there.
        ({"from_region": "nyc3"}, {1, 3, 7, 8}),
        ({"from_region": "nyc3", "droplet_tag": "env:prod"}, {1, 3}),
        ({"droplet_ids": [3, 7, 3]}, {3, 7}),
        ({"droplet_ids": [2, 3], "droplet_tag": "dr"}, {2}),
    ],
)
def test_droplets_are_chosen_by_tag_region_and_id(how: dict[str, Any], ids: set[int]) -> None:
    assert set(chosen(ACCOUNT, **how)) == ids


def test_sources_are_sorted_by_name() -> None:
    assert [each.original.name for each in choose_sources(ACCOUNT, "fra1")] == [
        "db-01",
        "droplet-8",
        "mail-01",
        "web-01",
        "web-02",
    ]


def test_an_unknown_droplet_id_has_a_problem() -> None:
    (source,) = chosen(ACCOUNT, droplet_ids=[99]).values()
    assert (source.label, source.problem) == ("droplet-99 (99)", "it has no available backup or snapshot in fra1")


def test_named_images_are_used_instead_of_the_newest() -> None:
    there = holdings(
        droplet(1, "web-01", images=(11, 12)),
        images=(image(11, days_old=5), image(12), image(13, "custom", name="erp 2")),
    )
    old, custom = choose_sources(there, "fra1", image_ids=[11, 13, 11])
    assert (image_of(old), old.droplet_id, old.original.size, old.problem) == (11, 1, SMALL, "")
    assert (image_of(custom), custom.droplet_id, custom.original.name, custom.problem) == (13, None, "erp", "")


@pytest.mark.parametrize(
    ("there", "problem"),
    [
        ((), "image 11 does not exist or was deleted"),
        ((image(11, "snapshot", "nyc3"),), "image 11 is not in fra1"),
        ((image(11, status="pending"),), "image 11 is not available: its status is pending"),
    ],
)
@pytest.mark.parametrize("owned", [True, False])
def test_a_named_image_that_cannot_be_used_has_a_problem(
    there: tuple[Image, ...], problem: str, *, owned: bool
) -> None:
    (source,) = choose_sources(
        holdings(images=there, snapshots=(snapshot(11, droplet_id=7),) if owned else ()), "fra1", image_ids=[11]
    )
    assert source.problem == problem
