"""Proofs in the names of tags: what a later run reads is what a drill has written."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.recovery.proofs import Proof, last_proven, read_proofs
from flows.recovery.records import DropletRecord, tags_for
from tasks.digitalocean.models import LARGEST_ID, SLUG_PATTERN, TAG_PATTERN
from tests.flows.images import NOW

PROOF = Proof(datetime(2026, 11, 26, 3, 0, tzinfo=UTC), 448000739, "fra1", 167003119, 41)
TAG = "prefect:proven:202611260300:448000739:fra1:167003119:41"
IDS = st.integers(1, LARGEST_ID)
ZONES = st.integers(-12, 14).map(lambda hours: timezone(timedelta(hours=hours)))
PROOFS = st.builds(
    Proof,
    st.datetimes(datetime(2026, 1, 1), datetime(2126, 1, 1), timezones=ZONES),
    IDS,
    st.from_regex(SLUG_PATTERN, fullmatch=True),
    IDS,
    st.integers(0, 10**6),
)


def test_a_proof_is_a_tag_that_a_person_can_read() -> None:
    assert PROOF.tag == TAG
    assert read_proofs([TAG]) == [PROOF]


@given(PROOFS)
def test_a_proof_is_read_as_it_was_written_to_the_minute(proof: Proof) -> None:
    assert TAG_PATTERN.fullmatch(proof.tag)
    (read,) = read_proofs([proof.tag])
    assert read.at == proof.at.astimezone(UTC).replace(second=0, microsecond=0)
    assert (read.droplet_id, read.region, read.image_id, read.seconds) == (
        proof.droplet_id,
        proof.region,
        proof.image_id,
        proof.seconds,
    )


@pytest.mark.parametrize(
    "tag",
    [
        "dr",
        "prefect:proven",
        "prefect:proven:",
        "prefect:drill:image-167003119",
        "prefect:restored:448000739",
        f"my-{TAG}",
        TAG.removesuffix(":41"),
        f"{TAG}:1",
        TAG.replace("202611260300", "202613260300"),
        TAG.replace("202611260300", "yesterday"),
        TAG.replace("448000739", "web-01"),
        TAG.replace("167003119", "image-167003119"),
        TAG.replace(":41", ":41s"),
        *tags_for([DropletRecord(448000739, "web-01", "s-1vcpu-1gb", "nyc3")], NOW),
    ],
)
def test_other_tags_are_no_proofs(tag: str) -> None:
    assert read_proofs(["env:prod", tag, TAG]) == [PROOF]


@given(st.lists(st.from_regex(re.compile(f"({TAG[:15]})?{TAG_PATTERN.pattern}"), fullmatch=True)))
def test_no_tag_that_somebody_else_has_made_stops_the_reading(tags: list[str]) -> None:
    assert PROOF in read_proofs([*tags, TAG])


def test_a_tag_that_exists_in_another_case_is_a_proof_too() -> None:
    assert read_proofs([TAG.replace("prefect", "Prefect")]) == [PROOF]


@given(st.lists(PROOFS, max_size=6).flatmap(lambda proofs: st.tuples(st.just(proofs), st.permutations(proofs))))
def test_a_droplet_was_last_proven_by_its_newest_proof_whatever_the_order(
    both: tuple[list[Proof], list[Proof]],
) -> None:
    proofs, shuffled = both
    expected: dict[int, datetime] = {}
    for proof in proofs:
        expected[proof.droplet_id] = max(proof.at, expected.get(proof.droplet_id, proof.at))
    assert last_proven(shuffled) == expected


def test_the_newest_of_several_proofs_wins() -> None:
    proofs = [Proof(NOW - timedelta(days=days), droplet_id, "fra1", 1, 40) for droplet_id, days in [(1, 9), (1, 2)]]
    for order in (proofs, proofs[::-1]):
        assert last_proven([*order, Proof(NOW, 2, "fra1", 1, 40)]) == {1: NOW - timedelta(days=2), 2: NOW}
