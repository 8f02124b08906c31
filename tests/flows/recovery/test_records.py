"""What is recorded of Droplets in the names of tags, and what is read back from them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.recovery.markers import DRILL, RESTORE
from flows.recovery.records import LONGEST_TAG, DropletRecord, missing_records, read_records, record_of, tags_for
from tasks.digitalocean import Droplet
from tasks.digitalocean.models import TAG_PATTERN
from tests.flows.images import NOW
from tests.flows.recovery.recovery_examples import droplet, record

IDS = st.integers(1, 2**63 - 1)
FEATURES = st.sets(st.sampled_from(["backups", "monitoring", "ipv6"])).map(
    lambda had: tuple(each for each in ("backups", "monitoring", "ipv6") if each in had)
)
TAGS = st.sets(st.from_regex(r"[A-Za-z0-9_:-]{1,20}", fullmatch=True), max_size=3).map(lambda tags: tuple(sorted(tags)))
RECORDS = st.builds(
    DropletRecord,
    droplet_id=IDS,
    name=st.text("abXY09.-_:", min_size=1, max_size=63),
    size=st.sampled_from(["", "s-1vcpu-1gb", "gpu-h100x1-80gb"]),
    region=st.sampled_from(["", "nyc3", "fra1"]),
    vpc=st.text("0123456789abcdef", max_size=8),
    features=FEATURES,
    tags=TAGS,
)
ODD_DROPLETS = st.builds(
    droplet,
    droplet_id=IDS,
    name=st.one_of(st.text(max_size=20), st.sampled_from(["w.b" * 85, "." * 300, "web-01"])),
    region=st.text(max_size=5),
    tags=st.lists(st.one_of(st.text(max_size=9), st.sampled_from(["_" * 255, "a:b" * 40])), max_size=5).map(tuple),
    size_slug=st.sampled_from(["", "s-1vcpu-1gb", "odd_" * 75]),
    vpc_uuid=st.text(max_size=10),
    features=st.lists(st.sampled_from(["backups", "droplet_agent", "ipv6", "monitoring"]), max_size=4),
)


def of_each(droplets: list[DropletRecord] | list[Droplet], key: str) -> list[int]:
    return [getattr(each, key) for each in droplets]


@given(records=st.lists(RECORDS, max_size=12, unique_by=lambda each: each.droplet_id))
def test_what_is_written_is_read_back(records: list[DropletRecord]) -> None:
    assert read_records(tags_for(records, NOW)) == {each.droplet_id: each for each in records}


@given(droplets=st.lists(ODD_DROPLETS, max_size=6, unique_by=lambda each: each.id))
def test_every_droplet_is_recorded_once_in_valid_tags_whatever_it_is_called(droplets: list[Droplet]) -> None:
    missing = missing_records(droplets, {})
    tags = tags_for(missing, NOW)
    assert all(TAG_PATTERN.fullmatch(tag) for tag in tags)
    known = read_records(tags)
    assert sorted(known) == sorted(of_each(droplets, "id"))
    assert missing_records(droplets, known) == []


@given(records=st.lists(RECORDS, min_size=2, max_size=6, unique_by=lambda each: each.droplet_id), data=st.data())
def test_the_newest_record_of_each_droplet_wins_in_any_order(records: list[DropletRecord], data: st.DataObject) -> None:
    renamed = [DropletRecord(each.droplet_id, "renamed") for each in records[1:]]
    older = [DropletRecord(each.droplet_id, "older") for each in records]
    tags = [
        *tags_for(older, NOW - timedelta(days=1)),
        *tags_for(records, NOW),
        *tags_for(renamed, NOW + timedelta(minutes=1)),
    ]
    read = read_records(data.draw(st.permutations(tags)))
    assert read == {each.droplet_id: each for each in [records[0], *renamed]}


FOREIGN = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        [
            "env:prod",
            "prefect:replicated",
            "prefect:droplets:",
            "prefect:droplets:202611230300",
            "prefect:droplets:202611230300:",
            "prefect:droplets:202611230300:7:web:s-1vcpu-1gb:nyc3",
            "prefect:droplets:202611230300:web:7:s-1vcpu-1gb:nyc3::",
            "prefect:droplets:202613230300:7:web:s-1vcpu-1gb:nyc3::",
            "prefect:droplets:today:7:web:s-1vcpu-1gb:nyc3::",
            "prefect:proven:202611260300:7:fra1:167003119:41",
            "my:prefect:droplets:202611230300:7:web:s-1vcpu-1gb:nyc3::",
        ]
    ),
)


@given(foreign=st.lists(FOREIGN, max_size=6))
def test_other_tags_are_ignored(foreign: list[str]) -> None:
    mine = record(1, "web-01", tags=("dr",))
    assert read_records([*foreign, *tags_for([mine], NOW), *foreign]) == {1: mine}


def test_a_tag_that_was_first_created_in_capitals_is_read_too() -> None:
    (tag,) = tags_for([record(7)], NOW)
    assert read_records([tag.replace("prefect:droplets", "Prefect:Droplets")]) == {7: record(7)}


def test_the_time_of_a_record_is_in_utc() -> None:
    assert tags_for([record()], NOW)[0].startswith("prefect:droplets:202611230300:1:web:")


def test_about_three_droplets_share_a_tag() -> None:
    records = [
        record(448_000_000 + each, f"web-{each:02d}", tags=("dr", "env:prod"), vpc="5a4981aa") for each in (1, 2, 3)
    ]
    assert len(tags_for(records, NOW)) == 1
    assert len(tags_for(records * 10, NOW)) in range(8, 12)


def test_a_tag_is_filled_to_its_last_character_and_no_further() -> None:
    lengths = [
        len(tags[0])
        for characters in range(60, 180)
        if len(tags := tags_for([record(1, "w" * 40), record(2, "w" * characters)], NOW)) == 1
    ]
    assert max(lengths) == LONGEST_TAG


def test_a_very_long_name_is_cut_and_tags_that_do_not_fit_are_left_out() -> None:
    name, tags = "w" * 150, tuple(f"{letter}" * 40 for letter in "abcde")
    many = droplet(7, name, tags=tags, size_slug="s-1vcpu-1gb")
    kept = read_records(tags_for([record_of(many)], NOW))[7]
    assert (kept.name, kept.size, kept.region) == (name, "s-1vcpu-1gb", "nyc3")
    assert kept.tags == tags[: len(kept.tags)]
    assert 0 < len(kept.tags) < len(tags)
    cut = read_records(tags_for([record_of(droplet(7, "w" * 255))], NOW))[7]
    assert 150 < len(cut.name) < LONGEST_TAG
    assert cut.size == "s-1vcpu-1gb"


@pytest.mark.parametrize(
    "change", [{"name": "new"}, {"size_slug": "s-2vcpu-4gb"}, {"tags": ("dr",)}, {"region": "fra1"}]
)
def test_a_droplet_is_recorded_again_once_it_has_changed(change: dict[str, object]) -> None:
    known = read_records(tags_for(missing_records([droplet(1), droplet(2)], {}), NOW))
    assert missing_records([droplet(1), droplet(2)], known) == []
    changed = droplet(**{"droplet_id": 2, **change})  # type: ignore[arg-type]  # by name
    assert missing_records([droplet(1), changed], known) == [record_of(changed)]


def test_tags_that_tell_why_a_droplet_was_created_are_not_recorded() -> None:
    tags = ("dr", RESTORE.tag, RESTORE.marker(7, 8), DRILL.tag, DRILL.marker(7, 8), "prefect:restore-first")
    assert record_of(droplet(tags=tags)).tags == ("dr", "prefect:restore-first")


def test_a_droplet_with_usage_based_backups_is_recorded_with_backups_although_its_features_lack_them() -> None:
    assert record_of(droplet(features=(), backup_ids=())).features == ()
    assert record_of(droplet(features=(), backup_ids=(7,))).features == ("backups",)
