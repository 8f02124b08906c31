"""What is checked before anything is created."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.recovery.markers import DRILL, RESTORE, RESTORE_FIRST
from flows.recovery.preflight import RestorePlan, Step, Surroundings, Wish, choose_size, plan_restore
from flows.recovery.sources import Source
from tasks.digitalocean import Droplet, Size, SshKey, Vpc
from tasks.digitalocean.models import LARGEST_ID
from tests.flows.images import image
from tests.flows.recovery.recovery_examples import LARGE, MEDIUM, SIZES, SMALL, droplet, size, source

WISH = Wish(RESTORE, name_suffix="-restored")
KEY = SshKey(id=512190, fingerprint="3b:16:e4:bf:8b:00:8b:b8:59:8c:a9:d3:f0:19:fa:45")
VPC, ELSEWHERE = "5a4981aa-9653-4bd1-bef5-d6bff52042e4", "e0fe0f4d-596a-465e-a902-571ce57b79fa"


def account(*droplets: Droplet, limit: int = 100, sizes: tuple[Size, ...] = SIZES) -> Surroundings:
    return Surroundings(sizes, droplets, limit, (KEY,), (Vpc(id=VPC, region="fra1"), Vpc(id=ELSEWHERE, region="nyc3")))


def plan(*sources: Source, there: Surroundings | None = None, **wish: Any) -> RestorePlan:
    return plan_restore(sources, replace(WISH, **wish), there or account())


def only(restore: RestorePlan) -> Step:
    (step,) = restore.steps
    return step


KINDS: dict[str, dict[str, Any]] = {
    "needed": {},
    "restored before": {},
    "not needed": {"needed": False},
    "without image": {"image": None, "problem": "no image"},
    "too large": {"disk": 1000},
    "badly named": {"name": "web_1"},
}


@given(
    kinds=st.lists(st.tuples(st.sampled_from(sorted(KINDS)), st.booleans()), max_size=12),
    others=st.integers(0, 5),
    limit=st.integers(0, 15),
)
def test_never_more_is_created_than_the_account_may_have_and_what_comes_first_comes_first(
    kinds: list[tuple[str, bool]], others: int, limit: int
) -> None:
    tags = [(RESTORE_FIRST,) if first else () for _, first in kinds]
    sources = [source(number, tags=tags[number - 1], **KINDS[kind]) for number, (kind, _) in enumerate(kinds, 1)]
    there = [droplet(100 + number) for number in range(others)]
    there += [
        droplet(200 + number, region="fra1", tags=(RESTORE.tag, RESTORE.marker(number, 0)))
        for number, (kind, _) in enumerate(kinds, 1)
        if kind == "restored before"
    ]
    restore = plan(*sources, there=account(*there, limit=limit))
    wanted = [kind for kind, _ in kinds].count("needed")
    assert len(restore.to_create) == min(wanted, max(0, limit - len(there)))
    left = [step for step in restore.steps if step.left]
    assert len(left) == wanted - len(restore.to_create)
    assert sorted(step.source.label for step in restore.steps) == sorted(each.label for each in sources)
    first = [RESTORE_FIRST in step.source.original.tags for step in restore.steps]
    assert first == sorted(first, reverse=True)
    order = [step.left for step in restore.steps if step.to_create or step.left]
    assert order == sorted(order)


SOME_SIZES = st.lists(
    st.builds(
        lambda slug, disk, monthly, regions, memory, available: size(
            slug, disk, monthly, *regions, memory=memory, available=available
        ),
        slug=st.sampled_from([SMALL, MEDIUM, LARGE, "c-2", "m-2vcpu-16gb", "gpu-h100x1-80gb"]),
        disk=st.sampled_from([10, 25, 80, 320]),
        monthly=st.integers(4, 9),
        regions=st.lists(st.sampled_from(["fra1", "nyc3"]), min_size=1),
        memory=st.sampled_from([512, 1024, 4096]),
        available=st.booleans(),
    ),
    max_size=6,
    unique_by=lambda each: each.slug,
).map(tuple)


@given(
    sizes=SOME_SIZES, least=st.sampled_from([0, 10, 25, 80, 320]), wished=st.sampled_from([None, SMALL, MEDIUM, "odd"])
)
def test_the_chosen_size_is_available_in_the_region_and_its_disk_is_large_enough(
    sizes: tuple[Size, ...], least: int, wished: str | None
) -> None:
    def fits(each: Size) -> bool:
        return each.available and "fra1" in each.regions and each.disk >= least

    found, why = choose_size(source(disk=least), replace(WISH, size=wished), sizes)
    asked = wished or SMALL
    fitting = [each for each in sizes if fits(each)]
    if found is None:
        assert why
        assert not (any(each.slug == asked for each in fitting) if wished else fitting)
        return
    assert fits(found)
    assert (why == "") is (found.slug == asked)
    if wished:
        assert found.slug == wished
    original = next((each for each in sizes if each.slug == SMALL), None)
    if why and original and any(each.memory >= original.memory for each in fitting):
        assert found.memory >= original.memory
        assert all(each.price_monthly >= found.price_monthly for each in fitting if each.memory >= original.memory)


@pytest.mark.parametrize(
    ("of_source", "size_slug", "why"),
    [
        ({}, SMALL, ""),
        (
            {"disk": 26},
            MEDIUM,
            f"size {SMALL} has a disk of 25 GB, but the image needs 26 GB: chose the cheapest that fits",
        ),
        ({"size": "c-2"}, MEDIUM, "size c-2 is not available in fra1: chose the cheapest that fits"),
        ({"size": "512mb"}, SMALL, "size 512mb does not exist: chose the cheapest that fits"),
        ({"size": ""}, SMALL, "the original's size is not known: chose the cheapest that fits"),
    ],
)
def test_a_size_that_is_not_the_originals_is_explained(of_source: dict[str, Any], size_slug: str, why: str) -> None:
    step = only(plan(source(**of_source)))
    assert step.size
    assert step.request
    assert (step.size.slug, step.request.size, step.why_size) == (size_slug, size_slug, why)


@pytest.mark.parametrize(
    ("of_source", "wish", "problem"),
    [
        (
            {"disk": 100},
            {"size": MEDIUM},
            f"size {MEDIUM} has a disk of 80 GB, but the image needs 100 GB; sizes that fit: {LARGE}",
        ),
        ({}, {"size": "c-2"}, f"size c-2 is not available in fra1; sizes that fit: {SMALL}, {MEDIUM}, {LARGE}"),
        (
            {"disk": 900},
            {"size": SMALL},
            f"size {SMALL} has a disk of 25 GB, but the image needs 900 GB; sizes that fit: none",
        ),
        ({}, {"size": "s-9vcpu"}, f"size s-9vcpu does not exist; sizes that fit: {SMALL}, {MEDIUM}, {LARGE}"),
        (
            {"disk": 900},
            {},
            (
                f"size {SMALL} has a disk of 25 GB, but the image needs 900 GB, "
                "and no size available in fra1 has a disk of at least 900 GB"
            ),
        ),
        ({}, {"ssh_keys": (str(KEY.id), "7", "00" + ":00" * 15)}, "the account has no SSH key 7, 00" + ":00" * 15),
        ({}, {"vpc_uuid": ELSEWHERE}, f"VPC {ELSEWHERE} is in nyc3, not in fra1"),
        ({}, {"vpc_uuid": VPC.replace("5", "6")}, f"VPC {VPC.replace('5', '6')} does not exist"),
        ({"name": "web_01"}, {}, "'web_01-restored' is not a valid name: expected letters, digits, dots and dashes"),
        ({"name": ".web"}, {}, "'.web-restored' is not a valid name: expected letters, digits, dots and dashes"),
        ({}, {"name_suffix": "-"}, "'web-' is not a valid name: expected letters, digits, dots and dashes"),
        ({"name": "w" * 250}, {}, f"the name {'w' * 20}... has more than 255 characters"),
        ({"image": None, "problem": "there is none"}, {}, "there is none"),
        ({"problem": "image 101 is not in fra1"}, {}, "image 101 is not in fra1"),
    ],
)
def test_what_cannot_be_created_says_why_and_is_not_created(
    of_source: dict[str, Any], wish: dict[str, Any], problem: str
) -> None:
    restore = plan(source(**of_source), source(2, "other"), **wish)
    assert restore.steps[0].problem == problem
    assert restore.steps[0].source not in [step.source for step in restore.to_create]


def test_the_request_has_everything_that_was_recorded_and_wished() -> None:
    original = source(7, "web-01", tags=("dr", "env:prod"), features=("backups", "monitoring"))
    key = KEY.fingerprint
    step = only(
        plan(original, ssh_keys=(str(KEY.id), key), vpc_uuid=VPC, copy_tags=True, tags=("mine", "dr"), size=MEDIUM)
    )
    assert step.request
    assert step.request.model_dump() == {
        "name": "web-01-restored",
        "region": "fra1",
        "size": MEDIUM,
        "image": 107,
        "tags": ("prefect:restored", "prefect:restored:7", "dr", "env:prod", "mine"),
        "ssh_keys": (KEY.id, key),
        "vpc_uuid": VPC,
        "monitoring": True,
        "ipv6": False,
        "backups": True,
    }
    assert step.fitting == (SMALL, LARGE)


def test_fingerprints_and_uuids_may_be_in_capitals() -> None:
    step = only(plan(source(), ssh_keys=(KEY.fingerprint.upper(),), vpc_uuid=VPC.upper()))
    assert step.problem == ""
    assert step.request
    assert (step.request.ssh_keys, step.request.vpc_uuid) == ((KEY.fingerprint,), VPC)


def test_drills_copy_neither_tags_nor_backups_and_are_marked_by_image() -> None:
    original = source(7, tags=("env:prod",), features=("backups",))
    step = only(plan_restore([original], Wish(DRILL, name_suffix="-drill"), account()))
    assert step.request
    assert step.request.tags == ("prefect:drill", "prefect:drill:image-107")
    assert not step.request.backups


@pytest.mark.parametrize("status", ["new", "active", "off"])
def test_what_an_earlier_run_created_is_not_created_again(status: str) -> None:
    restored = droplet(50, "web-restored", "fra1", (RESTORE.tag, "prefect:restored:1"), size_slug=MEDIUM, status=status)
    step = only(plan(source(1), there=account(restored, limit=1), size="s-9vcpu"))
    assert (step.existing, step.to_create, step.left, step.problem) == (restored, False, False, "")
    assert step.size
    assert step.size.slug == MEDIUM


@pytest.mark.parametrize(
    "other",
    [
        droplet(50, region="ams3", tags=("prefect:restored:1",)),
        droplet(50, region="fra1", tags=("prefect:restored:11", "prefect:restored")),
        droplet(50, region="fra1", tags=("prefect:drill", "prefect:drill:image-101")),
    ],
)
def test_a_droplet_in_another_region_or_of_another_original_or_drill_is_not_mistaken_for_it(other: Droplet) -> None:
    assert only(plan(source(1), there=account(other))).to_create


def test_two_images_of_the_same_droplet_are_not_created_at_once() -> None:
    one, two = source(1), source(1, image=image(102))
    restore = plan(one, two, there=account(limit=LARGEST_ID))
    assert [step.source for step in restore.to_create] == [one]
    assert restore.steps[1].problem == "image 102 belongs to the same Droplet as image 101: name only one of them"


def test_prices_are_those_of_what_is_created() -> None:
    restore = plan(
        source(1), source(2, size=MEDIUM), source(3, size=LARGE), source(4, needed=False), source(5, name="w_"),
        there=account(droplet(50), limit=3),
    )  # fmt: skip
    assert [step.left for step in restore.steps] == [False, False, True, False, False]
    assert restore.price_monthly == 30
    assert restore.price_hourly == pytest.approx(30 / 672)
