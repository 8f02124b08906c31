"""Which images are copied, and where to."""

from __future__ import annotations

import pytest

from flows.inventory import unlisted_images
from flows.replication.recovery_points import (
    attached_volumes,
    choose_recovery_points,
    doubtful_regions,
    newer_snapshots,
    target_regions,
)
from tasks.digitalocean import Droplet, Image, InvalidArgument, Region
from tests.flows.images import droplet, image, region

TAG = "prefect:replicated"
REGIONS = [region("nyc3"), region("fra1"), region("nyc2", "backups"), region("sfo1", available=False)]


def chosen(droplets: list[Droplet], images: list[Image], newest: int = 1, converted: tuple[int, ...] = ()) -> list[int]:
    selection = choose_recovery_points(droplets, images, managed_tag=TAG, newest=newest, converted=converted)
    return [candidate.image.id for candidate in selection.candidates]


def test_by_default_every_region_that_takes_images_is_a_target() -> None:
    assert target_regions(REGIONS, None) == ("fra1", "nyc3")


def test_case_18_requested_regions_are_the_targets_once_each_regardless_of_the_list() -> None:
    assert target_regions(REGIONS, ["nyc3", "nyc3"]) == ("nyc3",)
    assert target_regions(REGIONS, ["nyc2", "sfo1", "nyc3", "moon1"]) == ("moon1", "nyc2", "nyc3", "sfo1")
    assert target_regions([], ["moon1"]) == ("moon1",)


def test_an_empty_list_of_regions_is_rejected_and_does_not_mean_all() -> None:
    with pytest.raises(InvalidArgument, match="list of regions is empty"):
        target_regions(REGIONS, [])


def test_regions_not_listed_for_transfers_are_doubtful() -> None:
    assert doubtful_regions(REGIONS, ["nyc2", "sfo1", "nyc3", "moon1"]) == ("moon1", "nyc2", "sfo1")
    assert doubtful_regions(REGIONS, target_regions(REGIONS, None)) == ()


@pytest.mark.parametrize("known", [[], [region("nyc2", "backups"), region("sfo1", available=False)]])
def test_without_available_or_requested_regions_there_is_nothing_to_do(known: list[Region]) -> None:
    with pytest.raises(InvalidArgument, match="no region is listed as available for image transfers"):
        target_regions(known, None)


def test_the_newest_backups_are_chosen_by_creation_and_not_by_id_or_order() -> None:
    images = [image(7, "backup", days_old=3), image(8, "backup", days_old=1), image(5, "backup", days_old=2)]
    of = [droplet(backups=(7, 8, 5))]
    assert chosen(of, images) == [8]
    assert chosen(of, images, newest=2) == [8, 5]
    assert chosen(of, images, newest=9) == [8, 5, 7]


@pytest.mark.parametrize("status", ["NEW", "pending", "deleted", "retired"])
def test_only_available_images_are_recovery_points(status: str) -> None:
    being_made, older = image(1, "backup", status=status), image(2, "backup", days_old=1)
    managed = image(3, "snapshot", days_old=2, tags=[TAG], status=status)
    of = droplet(backups=(1, 2), snapshots=(3,))
    assert chosen([of], [being_made, older, managed], newest=3) == [2]
    selection = choose_recovery_points([of], [being_made, managed], managed_tag=TAG, newest=1)
    assert (selection.candidates, selection.without_backups) == ((), ("web (1)",))


def test_case_19_the_volumes_of_each_droplet_are_counted() -> None:
    droplets = [droplet(2, "web", volumes=("a", "b")), droplet(1, "db", volumes=("c",)), droplet(3, "api")]
    assert attached_volumes(droplets) == {"db (1)": 1, "web (2)": 2}


def test_a_managed_snapshot_counts_as_the_backup_it_was() -> None:
    images = [image(1, "backup", days_old=1), image(2, "snapshot", days_old=0, tags=[TAG])]
    assert chosen([droplet(backups=(1,), snapshots=(2,))], images) == [2]


def test_tags_are_recognized_in_any_case() -> None:
    assert chosen([droplet(snapshots=(2,))], [image(2, tags=["Prefect:Replicated"])]) == [2]


def test_manual_snapshots_are_not_touched() -> None:
    images = [image(1, "backup", days_old=9), image(2, "snapshot", days_old=0, tags=["keep"])]
    assert chosen([droplet(backups=(1,), snapshots=(2,))], images, newest=5) == [1]


def test_an_untagged_snapshot_with_a_known_conversion_counts() -> None:
    images = [image(1, "backup", days_old=1), image(2, "snapshot", days_old=0)]
    assert chosen([droplet(backups=(1,), snapshots=(2,))], images, converted=(2,)) == [2]


def test_an_image_listed_as_backup_and_as_snapshot_is_chosen_once() -> None:
    assert chosen([droplet(backups=(1,), snapshots=(1,))], [image(1, "backup")], newest=2) == [1]


def test_droplets_without_backups_are_named_and_block_nothing() -> None:
    droplets = [droplet(2, "web", backups=(1,)), droplet(3, "db", snapshots=(2,)), droplet(4, "api", backups=(99,))]
    selection = choose_recovery_points(droplets, [image(1, "backup"), image(2)], managed_tag=TAG, newest=1)
    assert [(each.image.id, each.source) for each in selection.candidates] == [(1, "web (2)")]
    assert selection.without_backups == ("api (4)", "db (3)")


def unclear(images: list[Image], of: Droplet, newest: int = 1) -> list[int]:
    selection = choose_recovery_points([of], images, managed_tag=TAG, newest=newest)
    return [each.id for each in newer_snapshots([of], images, selection, managed_tag=TAG)]


def test_only_untagged_snapshots_newer_than_a_chosen_recovery_point_need_a_lookup() -> None:
    backup = image(1, "backup", days_old=5)
    older, newer, tagged = image(2, days_old=6), image(3, days_old=4), image(4, days_old=7, tags=[TAG])
    assert unclear([backup, older, newer, tagged], droplet(backups=(1,), snapshots=(2, 3, 4))) == [3]


def test_an_untagged_snapshot_newer_than_a_tagged_one_needs_a_lookup() -> None:
    images = [image(1, days_old=5, tags=[TAG]), image(2, days_old=1), image(3, days_old=6)]
    assert unclear(images, droplet(snapshots=(1, 2, 3))) == [2]


def test_an_unavailable_snapshot_is_not_looked_up() -> None:
    images = [image(1, "backup", days_old=5), image(2, days_old=1, status="pending")]
    assert unclear(images, droplet(backups=(1,), snapshots=(2,))) == []


def test_older_manual_snapshots_are_not_looked_up_just_because_there_are_few_recovery_points() -> None:
    images = [image(1, "backup", days_old=5), image(2, days_old=6)]
    assert unclear(images, droplet(backups=(1,), snapshots=(2,)), newest=2) == []


def test_a_backup_that_became_a_snapshot_between_two_lists_needs_a_lookup() -> None:
    images = [image(1, days_old=1), image(2, "backup", days_old=2)]
    assert unclear(images, droplet(backups=(1, 2))) == [1]


def test_backups_missing_from_the_list_of_images_are_named_once() -> None:
    droplets = [droplet(1, backups=(3, 1)), droplet(2, backups=(2, 3), snapshots=(9,))]
    assert unlisted_images(droplets, [image(1, "backup")]) == [2, 3]
