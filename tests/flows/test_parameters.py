"""What people may type or choose: the flows and Prefect's server agree on it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from prefect import Flow
from prefect.exceptions import ParameterTypeError
from prefect.utilities.schema_tools import validate

from flows.convert_backups import convert_backups
from flows.image_action_history import image_action_history
from flows.parameters import REGION_NAMES, slug_of
from flows.replicate_backups import replicate_backups
from flows.report_coverage import report_coverage
from flows.transfer_images import transfer_images
from tasks.digitalocean.models import SLUG_PATTERN

FLOWS: list[Flow[Any, Any]] = [
    replicate_backups,
    transfer_images,
    convert_backups,
    report_coverage,
    image_action_history,
]
CHOICES = [f"{slug} ({name})" for slug, name in REGION_NAMES.items()]
NO_SLUGS = [
    "",
    "NYC3",
    "nyc 3",
    "fra1/../x",
    "fra1(Frankfurt 1)",
    " (Frankfurt 1)",
    "x" * 33,
    "frå1",
    7,
    None,
    ["fra1"],
]


def schema_of(flow: Flow[Any, Any]) -> Any:
    """The schema of a flow's parameters, as a deployment has it."""
    return flow.parameters.model_dump_for_openapi()


def flow_accepts(flow: Flow[Any, Any], **values: Any) -> bool:
    try:
        flow.validate_parameters(values)
    except ParameterTypeError:
        return False
    return True


def server_accepts(flow: Flow[Any, Any], **values: Any) -> bool:
    return not validate(values, schema_of(flow))


def validated(regions: object) -> Any:
    return replicate_backups.validate_parameters({"regions": regions})["regions"]


def choices_in(schema: Any) -> list[str]:
    """What the form of a new run offers for regions."""
    return [
        str(choice)
        for way in schema["properties"]["regions"]["anyOf"]
        if way["type"] == "array"
        for choice in way["items"].get("enum", [])
    ]


def test_the_form_offers_every_known_region_by_slug_and_name() -> None:
    for flow in (replicate_backups, transfer_images, report_coverage):
        assert choices_in(schema_of(flow)) == CHOICES


def test_every_choice_is_a_slug_with_a_name() -> None:
    for choice in CHOICES:
        slug = slug_of(choice)
        assert SLUG_PATTERN.fullmatch(slug)
        assert choice == f"{slug} ({REGION_NAMES[slug]})"
        assert REGION_NAMES[slug].strip()


def test_a_choice_is_taken_for_its_slug() -> None:
    assert validated(CHOICES) == list(REGION_NAMES)
    assert validated(["fra1 (Frankfurt 1)", "nyc3"]) == ["fra1", "nyc3"]


@pytest.mark.parametrize("text", ["fra1 nyc3", "fra1, nyc3", "fra1,nyc3"])
def test_slugs_may_be_typed_as_one_text(text: str) -> None:
    assert validated(text) == ["fra1", "nyc3"]
    assert server_accepts(replicate_backups, regions=text)


@pytest.mark.parametrize("regions", [None, [], ["fra1"], ["mars1", "moon-2"], CHOICES, CHOICES[:1]])
def test_choices_and_slugs_and_regions_that_are_newer_than_the_list_are_accepted(regions: list[str] | None) -> None:
    assert flow_accepts(replicate_backups, regions=regions)
    assert server_accepts(replicate_backups, regions=regions)


@pytest.mark.parametrize("bad", NO_SLUGS)
def test_what_is_no_slug_is_refused(bad: object) -> None:
    for regions in ([bad], ["fra1", bad], [CHOICES[0], bad]):
        assert not flow_accepts(replicate_backups, regions=regions)
        assert not server_accepts(replicate_backups, regions=regions)


@pytest.mark.parametrize("bad", ["", "FRA1", "fra1;nyc3", "fra1 (Frankfurt 1)", 7, {"fra1": True}])
def test_what_is_no_list_and_no_text_of_slugs_is_refused(bad: object) -> None:
    assert not flow_accepts(replicate_backups, regions=bad)
    assert not server_accepts(replicate_backups, regions=bad)


PRINTABLE = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40)
REGIONS = st.one_of(
    st.sampled_from([*CHOICES, *REGION_NAMES, "mars1"]),
    st.from_regex(SLUG_PATTERN, fullmatch=True),
    st.sampled_from(NO_SLUGS),
    PRINTABLE,
)


@settings(deadline=None)
@given(regions=st.lists(REGIONS, max_size=4))
@example(regions=["fra1 (Frankfurt 1"])
def test_flow_and_server_agree_on_any_mixture_of_regions(regions: list[Any]) -> None:
    assert flow_accepts(replicate_backups, regions=regions) == server_accepts(replicate_backups, regions=regions)


@settings(deadline=None)
@given(text=st.one_of(st.lists(st.sampled_from(["fra1", "mars1", "NYC 3", ",", ""])).map(" ".join), PRINTABLE))
def test_flow_and_server_agree_on_any_text_of_regions(text: str) -> None:
    assert flow_accepts(replicate_backups, regions=text) == server_accepts(replicate_backups, regions=text)


@settings(deadline=None)
@given(tag=st.one_of(st.none(), st.integers(), PRINTABLE))
def test_flow_and_server_agree_on_any_tag(tag: object) -> None:
    assert flow_accepts(replicate_backups, droplet_tag=tag) == server_accepts(replicate_backups, droplet_tag=tag)


@settings(deadline=None)
@given(
    ids=st.one_of(st.none(), st.lists(st.one_of(st.integers(), st.none(), st.sampled_from(["web", 1.5]))), st.text())
)
def test_flow_and_server_agree_on_any_image_ids(ids: object) -> None:
    for flow in (replicate_backups, transfer_images):
        assert flow_accepts(flow, image_ids=ids) == server_accepts(flow, image_ids=ids)


@settings(deadline=None)
@given(number=st.one_of(st.integers(), st.none(), st.sampled_from([1.5, "many"])))
def test_flow_and_server_agree_on_any_number(number: object) -> None:
    for values in ({"newest": number}, {"timeout_minutes": number}):
        assert flow_accepts(replicate_backups, **values) == server_accepts(replicate_backups, **values)


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.name)
def test_every_parameter_has_a_help_text(flow: Flow[Any, Any]) -> None:
    properties = schema_of(flow)["properties"]
    assert properties
    for name, described in properties.items():
        assert described.get("description", "").strip(), name
