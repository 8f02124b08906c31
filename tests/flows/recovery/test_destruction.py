"""Only Droplets that a drill has certainly created are destroyed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.recovery.destruction import Leftover, NotOfADrill, is_of_a_drill, not_destroyed
from flows.recovery.markers import DRILL, RESTORE
from tasks.digitalocean import Droplet, Size

IMAGE = 167003119
MARKER = DRILL.marker(448000739, IMAGE)
SIZE = Size(
    slug="s-1vcpu-1gb",
    disk=25,
    memory=1024,
    vcpus=1,
    price_hourly=0.00893,
    price_monthly=6,
    regions=("fra1",),
)


def server(*tags: str, image_id: int | None = IMAGE, **other: Any) -> Droplet:
    wanted = {"id": 1, "name": "web-01-drill", "backup_ids": (), "snapshot_ids": ()} | other
    return Droplet(**wanted, tags=tags, image_id=image_id)


def test_a_droplet_with_the_tag_and_the_marker_of_its_image_is_a_drill() -> None:
    assert is_of_a_drill(server(DRILL.tag, MARKER))
    assert is_of_a_drill(server("dr", MARKER, "prefect:drill-closed", DRILL.tag))


@pytest.mark.parametrize(
    "other",
    [
        server(),
        server(DRILL.tag),
        server(MARKER),
        server(DRILL.tag, DRILL.marker(None, IMAGE + 1)),
        server(DRILL.tag, f"{MARKER}1"),
        server(DRILL.tag, f"{DRILL.tag}:{IMAGE}"),
        server(RESTORE.tag, RESTORE.marker(None, IMAGE)),
        server(DRILL.tag, RESTORE.marker(None, IMAGE)),
        server(RESTORE.tag, MARKER),
        server(DRILL.tag, MARKER, image_id=IMAGE + 1),
        server(DRILL.tag, MARKER, image_id=None),
        server(DRILL.tag, DRILL.marker(None, 0), image_id=None),
        server(DRILL.tag, f"{DRILL.tag}:image-None", image_id=None),
    ],
    ids=lambda droplet: f"{' '.join(droplet.tags)} from {droplet.image_id}",
)
def test_any_other_droplet_is_not(other: Droplet) -> None:
    assert not is_of_a_drill(other)


TAGS = [DRILL.tag, RESTORE.tag, "prefect:drill-closed", "dr", *(DRILL.marker(None, each) for each in (1, 2))]


@given(st.lists(st.sampled_from(TAGS), unique=True), st.none() | st.integers(1, 2))
def test_it_takes_both_the_tag_and_the_marker_whatever_else_there_is(tags: list[str], image_id: int | None) -> None:
    both = {DRILL.tag, f"prefect:drill:image-{image_id}"} <= set(tags)
    assert is_of_a_drill(server(*tags, image_id=image_id)) == both


def test_the_same_image_has_the_same_marker_whatever_the_original() -> None:
    assert DRILL.marker(1, IMAGE) == DRILL.marker(None, IMAGE) == "prefect:drill:image-167003119"


def test_what_is_not_destroyed_is_described_with_id_name_price_and_reason() -> None:
    left = not_destroyed(Leftover(server(size_slug="s-1vcpu-1gb"), "the API has refused"), [SIZE])
    assert (left.droplet_id, left.name, left.price_hourly, left.why) == (
        1,
        "web-01-drill",
        0.00893,
        "the API has refused",
    )


def test_the_price_of_an_unknown_size_is_unknown() -> None:
    left = not_destroyed(Leftover(server(size_slug="s-0vcpu"), str(NotOfADrill())), [SIZE])
    assert left.price_hourly is None
    assert "prefect:drill" in left.why
