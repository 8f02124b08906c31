"""What a person approved is compared with what would be created now."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.recovery.markers import RESTORE
from flows.recovery.plan_changes import plan_changes
from flows.recovery.preflight import RestorePlan, Surroundings, Wish, plan_restore
from flows.recovery.sources import Source
from tasks.digitalocean import Droplet, Size
from tests.flows.images import image
from tests.flows.recovery.recovery_examples import MEDIUM, SIZES, SMALL, droplet, size, source

WISH = Wish(RESTORE, name_suffix="-restored", copy_tags=True)
WEB = source(1, "web")
DB = source(2, "db")


def plan(
    *sources: Source, sizes: tuple[Size, ...] = SIZES, droplets: tuple[Droplet, ...] = (), limit: int = 100, **wish: Any
) -> RestorePlan:
    return plan_restore(sources, replace(WISH, **wish), Surroundings(sizes, droplets, limit))


RESTORED = droplet(7, "web-restored", "fra1", tags=(RESTORE.tag, RESTORE.marker(1, 101)))


@pytest.mark.parametrize(
    ("now", "changes"),
    [
        (plan(WEB, DB), []),
        (plan(DB, WEB), []),
        (plan(WEB, source(2, "db", image=image(105))), ["db (2): image 105 instead of 102"]),
        (plan(WEB, DB, source(3, "mail")), ["mail (3): was not in the approved plan"]),
        (plan(WEB), ["db (2): no longer exists"]),
        (plan(WEB, DB, droplets=(RESTORED,)), ["web (1): has already been restored, as Droplet 7"]),
        (plan(WEB, DB, limit=1), ["db (2): the account's Droplet limit is reached"]),
        (plan(WEB, replace(DB, needed=False)), ["db (2): is already in the region"]),
        (plan(WEB, replace(DB, image=None, problem="no copy is in fra1")), ["db (2): no copy is in fra1"]),
        (
            plan(WEB, source(2, "db", tags=("b", "a"))),
            ["db (2): tags a, b, prefect:restored, prefect:restored:2 instead of prefect:restored, prefect:restored:2"],
        ),
        (plan(WEB, source(2, "db", features=("backups",))), ["db (2): backups on instead of off"]),
        (
            plan(WEB, source(2, "db", size=MEDIUM)),
            [f"db (2): size {MEDIUM} instead of {SMALL}, $24.00 a month instead of $6.00"],
        ),
        (
            plan(WEB, DB, sizes=(size(SMALL, 25, 7, "fra1"),)),
            ["web (1): $7.00 a month instead of $6.00", "db (2): $7.00 a month instead of $6.00"],
        ),
    ],
)
def test_every_change_of_what_is_created_or_of_its_price_is_named(now: RestorePlan, changes: list[str]) -> None:
    assert plan_changes(plan(WEB, DB), now) == changes


def test_why_a_droplet_cannot_be_created_may_change_and_so_may_the_order_of_tags() -> None:
    lost = replace(DB, image=None, problem="no copy")
    before = plan(source(1, "web", tags=("a", "b")), lost)
    now = plan(source(1, "web", tags=("b", "a")), replace(lost, problem="its copy is not available yet"))
    assert plan_changes(before, now) == []


@given(st.permutations([source(number, f"web-{number}") for number in range(1, 6)]), st.integers(0, 5))
def test_a_plan_differs_from_a_part_of_itself_by_what_the_part_lacks(sources: list[Source], kept: int) -> None:
    whole, part = plan(*sources), plan(*sources[:kept])
    assert plan_changes(whole, whole) == []
    assert len(plan_changes(whole, part)) == len(plan_changes(part, whole)) == len(sources) - kept
