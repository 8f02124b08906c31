"""What users may type or choose: the flows and Prefect's server agree on it, and errors are plain sentences."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from prefect import Flow
from prefect.exceptions import ParameterTypeError
from prefect.utilities.schema_tools import validate
from pydantic import SecretStr

from flows.convert_backups import convert_backups
from flows.drill_restore import drill_restore
from flows.image_action_history import image_action_history
from flows.parameters import LARGEST_ID, REGION_NAMES, slugs_of
from flows.prune_snapshots import prune_snapshots
from flows.replicate_backups import replicate_backups
from flows.report_coverage import report_coverage
from flows.restore_droplets import restore_droplets
from flows.snapshot_droplets import snapshot_droplets
from flows.transfer_images import transfer_images
from tasks.credentials import DigitalOceanCredentials
from tasks.digitalocean.models import SLUG_PATTERN

FLOWS: list[Flow[Any, Any]] = [
    replicate_backups,
    transfer_images,
    convert_backups,
    prune_snapshots,
    report_coverage,
    image_action_history,
    restore_droplets,
    drill_restore,
    snapshot_droplets,
]
CHOICES = [f"{slug} ({name})" for slug, name in REGION_NAMES.items()]
NOT_SLUGS = [
    "",
    ",",
    "nyc 3",
    "3",
    "-fra1",
    "fra1;nyc3",
    "fra1/../x",
    "fra1(Frankfurt 1)",
    " (Frankfurt 1)",
    "x" * 33,
    "frå1",
    7,
    True,
    ["fra1"],
    {"fra1": True},
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


def read(flow: Flow[Any, Any], **values: Any) -> dict[str, Any]:
    """A flow's parameters, as its code gets them."""
    given = flow.validate_parameters(values)
    return {name: given[name] for name in values}


def refusal_of(flow: Flow[Any, Any], **values: Any) -> str:
    with pytest.raises(ParameterTypeError) as error:
        flow.validate_parameters(values)
    return str(error.value)


def choices_in(schema: Any) -> list[str]:
    """What the form of a new run offers for regions."""
    return [
        str(choice)
        for way in schema["properties"]["regions"]["anyOf"]
        if way["type"] == "array"
        for choice in way["items"].get("enum", [])
    ]


def test_the_form_offers_every_known_region_by_slug_and_name() -> None:
    for flow in (replicate_backups, transfer_images, report_coverage, prune_snapshots):
        assert choices_in(schema_of(flow)) == CHOICES
    assert "ric1 (Richmond 1)" in CHOICES


def test_every_choice_is_a_slug_with_a_name() -> None:
    for choice, slug in zip(CHOICES, REGION_NAMES, strict=True):
        assert SLUG_PATTERN.fullmatch(slug)
        assert slugs_of(choice) == [slug]
        assert choice == f"{slug} ({REGION_NAMES[slug]})"
        assert REGION_NAMES[slug].strip()


@pytest.mark.parametrize(
    ("regions", "slugs"),
    [
        (CHOICES, list(REGION_NAMES)),
        (["fra1 (Frankfurt 1)", "nyc3"], ["fra1", "nyc3"]),
        ("fra1 nyc3", ["fra1", "nyc3"]),
        ("fra1, nyc3", ["fra1", "nyc3"]),
        (" fra1,nyc3,\n", ["fra1", "nyc3"]),
        ("FRA1", ["fra1"]),
        ("fra1 (Frankfurt 1), NYC3", ["fra1", "nyc3"]),
        (["fra1,nyc3", "SGP1"], ["fra1", "nyc3", "sgp1"]),
        (["mars1", "moon-2"], ["mars1", "moon-2"]),
        ([], []),
        (None, None),
    ],
)
def test_case_33_regions_may_have_commas_spaces_and_capitals(regions: object, slugs: list[str]) -> None:
    for flow in (replicate_backups, transfer_images, report_coverage, prune_snapshots):
        assert flow_reads_regions(flow, regions) == slugs
        assert server_accepts(flow, **required(flow), regions=regions)


def required(flow: Flow[Any, Any]) -> dict[str, Any]:
    return dict.fromkeys(schema_of(flow).get("required", []), 1)


def flow_reads_regions(flow: Flow[Any, Any], regions: object) -> Any:
    return flow.validate_parameters({**required(flow), "regions": regions})["regions"]


@pytest.mark.parametrize("bad", NOT_SLUGS)
def test_an_invalid_slug_is_rejected(bad: object) -> None:
    for regions in ([bad], ["fra1", bad], [CHOICES[0], bad]):
        assert not flow_accepts(replicate_backups, regions=regions)
        assert not server_accepts(replicate_backups, regions=regions)
    if bad != ["fra1"]:
        assert not flow_accepts(replicate_backups, regions=bad)
        assert not server_accepts(replicate_backups, regions=bad)


@pytest.mark.parametrize(
    ("image_ids", "ids"),
    [
        ([62137902, 62137903], [62137902, 62137903]),
        (["62137902"], [62137902]),
        (62137902, [62137902]),
        ("62137902", [62137902]),
        ("62137902,62137903", [62137902, 62137903]),
        (" 62137902 62137903\n", [62137902, 62137903]),
        ([62137902, "62137903,62137904"], [62137902, 62137903, 62137904]),
        ([LARGEST_ID], [LARGEST_ID]),
        ([], []),
    ],
)
def test_cases_24_and_33_ids_may_be_numbers_text_or_a_single_value(image_ids: object, ids: list[int]) -> None:
    for flow in (replicate_backups, transfer_images, convert_backups, image_action_history):
        assert read(flow, image_ids=image_ids) == {"image_ids": ids}
        assert server_accepts(flow, image_ids=image_ids)


@pytest.mark.parametrize(
    "bad", [0, -7, "0", "-7", "web", 1.5, True, LARGEST_ID + 1, "9" * 5000, "", "1;2", {"id": 1}, [[1]]]
)
def test_an_invalid_id_is_rejected(bad: object) -> None:
    for flow in (replicate_backups, transfer_images, convert_backups, image_action_history):
        for image_ids in (bad, [bad], [62137902, bad]):
            assert not flow_accepts(flow, image_ids=image_ids)
            assert not server_accepts(flow, image_ids=image_ids)


def test_flows_on_images_require_image_ids() -> None:
    for flow in (transfer_images, convert_backups, image_action_history):
        assert not flow_accepts(flow, image_ids=None)
        assert not server_accepts(flow, image_ids=None)
        assert not server_accepts(flow)


@pytest.mark.parametrize(
    ("tag", "read_as"),
    [("dr", "dr"), (" env:prod ", "env:prod"), (["dr"], "dr"), ("", None), ([], None), ([""], None), (None, None)],
)
def test_case_24_an_empty_tag_means_all_droplets_and_a_list_of_one_is_accepted(
    tag: object, read_as: str | None
) -> None:
    for flow in (replicate_backups, report_coverage, prune_snapshots):
        assert read(flow, droplet_tag=tag) == {"droplet_tag": read_as}
        assert server_accepts(flow, droplet_tag=tag)


@pytest.mark.parametrize("bad", ["no tag", "dr!", "x" * 256, 7, True, ["dr", "web"], [7], {"dr": True}])
def test_an_invalid_tag_is_rejected(bad: object) -> None:
    for flow in (replicate_backups, report_coverage, prune_snapshots):
        assert not flow_accepts(flow, droplet_tag=bad)
        assert not server_accepts(flow, droplet_tag=bad)


@pytest.mark.parametrize(
    ("flow", "values", "sentence"),
    [
        (replicate_backups, {"newest": 0}, "newest: must be at least 1"),
        (replicate_backups, {"newest": 101}, "newest: must be at most 100"),
        (replicate_backups, {"newest": "many"}, "newest: must be an integer, not 'many'"),
        (replicate_backups, {"newest": True}, "newest: must be an integer, not True"),
        (replicate_backups, {"timeout_minutes": 10**9}, "timeout_minutes: must be at most 10080"),
        (prune_snapshots, {"older_than_days": -1}, "older_than_days: must be at least 0"),
        (report_coverage, {"max_age_hours": 1.5}, "max_age_hours: must be an integer, not 1.5"),
        (
            replicate_backups,
            {"regions": "fra1 nyc_3"},
            "regions: 'nyc_3' is not a region slug; expected slugs such as fra1,nyc3",
        ),
        (
            transfer_images,
            {"image_ids": "62137902, web"},
            "image_ids: 'web' is not an image ID; expected positive integers such as 62137902,62137903",
        ),
        (
            replicate_backups,
            {"droplet_tag": "disaster recovery"},
            (
                "droplet_tag: 'disaster recovery' is not a valid tag; "
                "expected at most 255 letters, digits, colons, dashes and underscores"
            ),
        ),
        (replicate_backups, {"droplet_tag": ["dr", "web"]}, "droplet_tag: expected one tag, not 2"),
    ],
)
def test_errors_name_the_parameter_and_say_what_is_expected(
    flow: Flow[Any, Any], values: dict[str, Any], sentence: str
) -> None:
    refusal = refusal_of(flow, **values)
    assert refusal == f"Flow run received invalid parameters:\n - {sentence}"


PRINTABLE = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40)
REGIONS = st.one_of(
    st.sampled_from([*CHOICES, *REGION_NAMES, "mars1", "FRA1", "fra1,nyc3"]),
    st.from_regex(SLUG_PATTERN, fullmatch=True),
    st.sampled_from(NOT_SLUGS),
    PRINTABLE,
)


@settings(deadline=None)
@given(regions=st.lists(REGIONS, max_size=4))
@example(regions=["fra1 (Frankfurt 1"])
def test_flow_and_server_agree_on_any_mixture_of_regions(regions: list[Any]) -> None:
    assert flow_accepts(replicate_backups, regions=regions) == server_accepts(replicate_backups, regions=regions)


@settings(deadline=None)
@given(
    text=st.one_of(
        st.lists(st.sampled_from(["fra1", "mars1", "NYC 3", ",", "", "\n", *CHOICES])).map(" ".join), PRINTABLE
    )
)
def test_flow_and_server_agree_on_any_text_of_regions(text: str) -> None:
    assert flow_accepts(replicate_backups, regions=text) == server_accepts(replicate_backups, regions=text)


TAGS = st.one_of(st.none(), st.integers(), st.sampled_from(["dr", " env:prod\n", ""]), PRINTABLE)


@settings(deadline=None)
@given(tag=st.one_of(TAGS, st.lists(TAGS, max_size=2)))
def test_flow_and_server_agree_on_any_tag(tag: object) -> None:
    assert flow_accepts(replicate_backups, droplet_tag=tag) == server_accepts(replicate_backups, droplet_tag=tag)


IDS = st.one_of(
    st.integers(),
    st.none(),
    st.booleans(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["web", 1.5, 7.0, "7", "7, 8", "007", "\u0667"]),
    st.text(),
)


@settings(deadline=None)
@given(ids=st.one_of(IDS, st.lists(IDS, max_size=4)))
def test_flow_and_server_agree_on_any_image_ids(ids: object) -> None:
    for flow in (replicate_backups, transfer_images):
        assert flow_accepts(flow, image_ids=ids) == server_accepts(flow, image_ids=ids)


@settings(deadline=None)
@given(
    number=st.one_of(st.integers(-1, 101), st.integers(), st.none(), st.booleans(), st.sampled_from([1.5, 7.0, "7"]))
)
def test_flow_and_server_agree_on_any_number(number: object) -> None:
    for values in ({"newest": number}, {"timeout_minutes": number}):
        assert flow_accepts(replicate_backups, **values) == server_accepts(replicate_backups, **values)
    for values in ({"older_than_days": number}, {"keep_last": number}, {"max_deletions": number}):
        assert flow_accepts(prune_snapshots, **values) == server_accepts(prune_snapshots, **values)
    for values in ({"sample": number}, {"probe_port": number}):
        assert flow_accepts(drill_restore, **values) == server_accepts(drill_restore, **values)


# What `restore_droplets` takes

FINGERPRINT = "3b:16:e4:bf:8b:00:8b:b8:59:8c:a9:d3:f0:19:fa:45"
NOTHING: list[object] = [None, "", []]
VPC = "5a4981aa-9653-4bd1-bef5-d6bff52042e4"


def restore_reads(name: str, value: object) -> Any:
    assert server_accepts(restore_droplets, **{"region": "fra1", name: value})
    return restore_droplets.validate_parameters({"region": "fra1", name: value})[name]


def restore_refuses(name: str, value: object) -> bool:
    values = {"region": "fra1", name: value}
    return not flow_accepts(restore_droplets, **values) and not server_accepts(restore_droplets, **values)


@pytest.mark.parametrize(
    ("name", "value", "read_as"),
    [
        *[("region", each, "fra1") for each in ("fra1", " FRA1\n", "fra1 (Frankfurt 1)")],
        *[("droplet_ids", each, [7]) for each in (7, "7", [7], ["7"], " 7,", 7.0)],
        ("droplet_ids", "448000739, 448000740", [448000739, 448000740]),
        ("droplet_ids", None, None),
        *[("size", each, "s-1vcpu-1gb") for each in ("s-1vcpu-1gb", " s-1vcpu-1gb\n", ["s-1vcpu-1gb"])],
        *[("size", each, None) for each in [*NOTHING, " ", [""], [None]]],
        ("size", "m-2vcpu-16gb-1.5x", "m-2vcpu-16gb-1.5x"),
        *[("ssh_keys", each, ["512190"]) for each in (512190, "512190", [512190], ["512190"], 512190.0)],
        ("ssh_keys", f"512190, {FINGERPRINT}", ["512190", FINGERPRINT]),
        ("ssh_keys", [512190, f"{FINGERPRINT} 7"], ["512190", FINGERPRINT, "7"]),
        *[("ssh_keys", each, None) for each in (None, "", ",", [], ["", None])],
        *[("vpc_uuid", each, VPC) for each in (VPC, f" {VPC}", [VPC])],
        *[("vpc_uuid", each, None) for each in NOTHING],
        ("vpc_uuid", VPC.upper(), VPC.upper()),
        *[
            ("tags", each, ["dr", "env:prod"])
            for each in ("dr env:prod", "dr,env:prod", ["dr", "env:prod"], ["dr env:prod"])
        ],
        *[("tags", each, None) for each in NOTHING],
        *[("name_suffix", each, "-restored") for each in ("-restored", " -restored\n")],
        *[("name_suffix", each, each) for each in ("", ".dr", "-" * 100)],
    ],
)
def test_a_rebuild_takes_its_parameters_as_shells_forms_and_events_send_them(
    name: str, value: object, read_as: object
) -> None:
    assert restore_reads(name, value) == read_as


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("region", each) for each in (None, "", "fra1 nyc3", "fra1,nyc3", [], ["fra1", "nyc3"], 7, "fra_1")],
        *[("droplet_ids", each) for each in (0, "web", "", [0], True, 1.5, LARGEST_ID + 1)],
        *[
            ("size", each)
            for each in ("S-1VCPU", "s-1vcpu s-2vcpu", ["a", "b"], ["", "a"], "s_1", True, 1.5, {"a": 1}, ".a")
        ],
        *[
            ("ssh_keys", each)
            for each in ("sammy@laptop", FINGERPRINT[:-1], FINGERPRINT + ":00", 0, -1, True, [[7]], "0")
        ],
        *[("vpc_uuid", each) for each in ("default", VPC[:-1], f"{VPC} {VPC}", [VPC, VPC], VPC + "0", 7)],
        *[("tags", each) for each in ("no.tag", "x" * 256, ["dr", "env.prod"], True, [["dr"]])],
        *[("name_suffix", each) for each in (None, "_restored", "-" * 101, "a b", 7, ["-restored"], "-r\u00e9")],
    ],
)
def test_a_rebuild_refuses_what_is_not_valid(name: str, value: object) -> None:
    assert restore_refuses(name, value)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"region": "fra_1"}, "region: 'fra_1' is not a region slug; expected a slug such as fra1"),
        (
            {"droplet_ids": "7, web"},
            "droplet_ids: 'web' is not a Droplet ID; expected positive integers such as 62137902,62137903",
        ),
        ({"size": "S 1"}, "size: 'S' is not the slug of a size, such as s-1vcpu-1gb"),
        ({"size": "a b"}, "size: expected one value, not 2"),
        ({"ssh_keys": "sammy"}, "ssh_keys: 'sammy' is not the ID or MD5 fingerprint of an SSH key"),
        ({"vpc_uuid": "default"}, "vpc_uuid: 'default' is not the UUID of a VPC"),
        ({"tags": "dr env.prod"}, "tags: 'env.prod' is not a valid tag"),
        (
            {"name_suffix": "_dr"},
            "name_suffix: '_dr' is not a valid suffix; expected at most 100 letters, digits, dots and dashes",
        ),
    ],
)
def test_errors_of_a_rebuild_say_what_is_expected(values: dict[str, Any], sentence: str) -> None:
    refusal = refusal_of(restore_droplets, **{"region": "fra1", **values})
    assert refusal == f"Flow run received invalid parameters:\n - {sentence}"


WORDS = st.one_of(
    st.sampled_from(
        ["s-1vcpu-1gb", "512190", FINGERPRINT, VPC, "dr", "env:prod", "-restored", "", ",", "a b", "a,b\n"]
    ),
    IDS,
    PRINTABLE,
)
WORD_PARAMETERS = ["region", "droplet_ids", "size", "ssh_keys", "vpc_uuid", "tags", "name_suffix"]


@settings(deadline=None)
@given(name=st.sampled_from(WORD_PARAMETERS), value=st.one_of(WORDS, st.lists(WORDS, max_size=3)))
@example(name="size", value=["", "s-1vcpu-1gb"])
@example(name="name_suffix", value="-restored\n")
@example(name="ssh_keys", value=f"{FINGERPRINT},\n512190 ")
def test_flow_and_server_agree_on_any_parameter_of_a_rebuild(name: str, value: object) -> None:
    values = {"region": "fra1", name: value}
    assert flow_accepts(restore_droplets, **values) == server_accepts(restore_droplets, **values)


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.name)
def test_every_parameter_has_a_help_text(flow: Flow[Any, Any]) -> None:
    properties = schema_of(flow)["properties"]
    assert properties
    for name, described in properties.items():
        assert described.get("description", "").strip(), name


ON_ONE_ACCOUNT = [flow for flow in FLOWS if flow is not report_coverage]
TOKEN = "dop_v1_" + "5ec7e7" * 8


@pytest.mark.parametrize(
    ("credentials", "read_as"),
    [("prod", "prod"), (" prod-2 ", "prod-2"), (["prod"], "prod"), (None, None), ("", None), ([], None)],
)
def test_credentials_are_the_name_of_a_block(credentials: object, read_as: str | None) -> None:
    for flow in ON_ONE_ACCOUNT:
        assert read_with_ids(flow, credentials) == read_as
        assert server_accepts(flow, **needed(flow), credentials=credentials)


@pytest.mark.parametrize("bad", ["Prod", "prod_2", "prod/2", "prod shop", ["prod", "shop"], 7, True, TOKEN, "0a" * 32])
def test_other_credentials_are_rejected_by_flow_and_server_and_never_quoted(bad: object) -> None:
    for flow in ON_ONE_ACCOUNT:
        assert not server_accepts(flow, **needed(flow), credentials=bad)
        refusal = refusal_of(flow, **needed(flow), credentials=bad)
        assert "credentials: expected" in refusal
        assert TOKEN not in refusal
        assert "0a" * 32 not in refusal


def test_code_passes_the_block_itself() -> None:
    block = DigitalOceanCredentials(token=SecretStr(TOKEN))
    for flow in ON_ONE_ACCOUNT:
        assert read_with_ids(flow, block) is block
    sent = {"token": "********", "_block_document_name": "prod", "_is_anonymous": False}
    for flow in ON_ONE_ACCOUNT:
        assert read_with_ids(flow, sent) == "prod"
        assert server_accepts(flow, **needed(flow), credentials=sent)
    assert read(report_coverage, credentials=[block, "prod"]) == {"credentials": [block, "prod"]}


@pytest.mark.parametrize("given", ["prod, shop", "prod shop", ["prod", "shop"], ["prod,shop"]])
def test_a_coverage_report_takes_several_accounts(given: object) -> None:
    assert read(report_coverage, credentials=given) == {"credentials": ["prod", "shop"]}
    assert server_accepts(report_coverage, credentials=given)


NAMES = st.one_of(st.none(), st.integers(), st.sampled_from(["prod", "prod, shop", " a\n", "", TOKEN]), PRINTABLE)


@settings(deadline=None)
@given(credentials=st.one_of(NAMES, st.lists(NAMES, max_size=2)))
def test_flow_and_server_agree_on_any_credentials(credentials: object) -> None:
    for flow in (replicate_backups, report_coverage):
        assert flow_accepts(flow, credentials=credentials) == server_accepts(flow, credentials=credentials)


def needed(flow: Flow[Any, Any]) -> dict[str, Any]:
    """The parameters that a flow requires."""
    required = {"image_ids": [1], "region": "fra1"}
    return {name: required[name] for name in schema_of(flow).get("required", [])}


def read_with_ids(flow: Flow[Any, Any], credentials: object) -> object:
    return read(flow, **needed(flow), credentials=credentials)["credentials"]


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.name)
def test_forms_show_a_title_for_each_alternative(flow: Flow[Any, Any]) -> None:
    for parameter in flow.parameters.properties.values():
        assert all(alternative.get("title") for alternative in parameter.get("anyOf", [])), parameter
