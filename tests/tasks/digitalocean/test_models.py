"""The API's objects: its own examples, what it may add, and what must not be missing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from tasks.digitalocean import (
    Action,
    ConvertImage,
    Droplet,
    Image,
    ImageActionRequest,
    MalformedResponse,
    Region,
    Snapshot,
    TransferImage,
)
from tasks.digitalocean.models import Resource
from tasks.digitalocean.pagination import Paging
from tasks.digitalocean.responses import ResponseBody
from tests.tasks.digitalocean.api_examples import (
    COMPLETED_ACTION,
    DROPLET,
    LISTED_SNAPSHOT,
    NEW_YORK_2,
    RUNNING_ACTION,
    SNAPSHOT,
)

# Each model with an example and all that the project cannot do without.
NEEDED: list[tuple[type[Resource], dict[str, Any], tuple[str, ...]]] = [
    (Action, RUNNING_ACTION, ("id", "status", "type", "started_at")),
    (Image, SNAPSHOT, ("id", "type", "regions", "created_at")),
    (
        Snapshot,
        LISTED_SNAPSHOT,
        ("id", "name", "created_at", "regions", "size_gigabytes", "resource_id"),
    ),
    (Region, NEW_YORK_2, ("slug", "name", "available", "features")),
    (Droplet, DROPLET, ("id", "name", "backup_ids", "snapshot_ids")),
]
EVERY_NEEDED_FIELD = [(model, example, name) for model, example, names in NEEDED for name in names]


@pytest.mark.parametrize(
    ("status", "available"),
    [({}, True), ({"status": None}, True), ({"status": "available"}, True)]
    + [({"status": status}, False) for status in ("NEW", "pending", "deleted", "retired", "something new", "")],
)
def test_an_image_counts_as_a_copy_only_while_it_is_available(status: dict[str, Any], available: bool) -> None:
    example = {name: value for name, value in SNAPSHOT.items() if name != "status"}
    assert Image.model_validate({**example, **status}).available is available


@pytest.mark.parametrize(
    ("volumes", "read"),
    [({}, 0), ({"volume_ids": None}, 0), ({"volume_ids": "?"}, 0), ({"volume_ids": ["a", 7]}, 2)],
)
def test_only_the_readable_volumes_of_a_droplet_are_counted(volumes: dict[str, Any], read: int) -> None:
    example = {name: value for name, value in DROPLET.items() if name != "volume_ids"}
    assert len(Droplet.model_validate({**example, **volumes}).volume_ids) == read


def test_a_running_action_is_read() -> None:
    action = Action.model_validate(RUNNING_ACTION)
    assert (action.id, action.type, action.resource_id, action.region_slug) == (36805527, "transfer", 7938269, "nyc3")
    assert action.started_at == datetime(2014, 11, 14, 16, 42, 45, tzinfo=UTC)
    assert action.completed_at is None
    assert (action.in_progress, action.completed, action.errored) == (True, False, False)


def test_a_completed_action_is_read() -> None:
    action = Action.model_validate(COMPLETED_ACTION)
    assert action.completed_at == datetime(2014, 7, 25, 15, 10, 20, tzinfo=UTC)
    assert (action.in_progress, action.completed, action.errored) == (False, True, False)


def test_an_errored_action_is_not_in_progress() -> None:
    action = Action.model_validate({**COMPLETED_ACTION, "status": "errored"})
    assert (action.in_progress, action.completed, action.errored) == (False, False, True)


def test_an_unknown_status_counts_as_in_progress() -> None:
    assert Action.model_validate({**RUNNING_ACTION, "status": "queued"}).in_progress


@pytest.mark.parametrize("slug", [None, "", ...])
def test_the_region_slug_is_taken_from_the_region_object_if_it_is_missing(slug: object) -> None:
    data = {**RUNNING_ACTION, "region_slug": slug}
    if slug is ...:
        del data["region_slug"]
    assert Action.model_validate(data).region_slug == "nyc3"
    assert not Action.model_validate({**data, "region": None}).region_slug


def test_an_image_a_region_and_a_droplet_are_read() -> None:
    image = Image.model_validate(SNAPSHOT)
    assert (image.id, image.type, image.regions) == (6376601, "snapshot", ("nyc1", "nyc3"))
    assert (image.size_gigabytes, image.tags, image.public) == (2.34, ("web", "prefect:replicated"), False)
    region = Region.model_validate(NEW_YORK_2)
    assert (region.slug, region.available, region.takes_images) == ("nyc2", True, True)
    droplet = Droplet.model_validate(DROPLET)
    assert (droplet.backup_ids, droplet.snapshot_ids, droplet.tags) == ((53893572,), (67512819,), ("web", "env:prod"))


def test_the_ids_of_a_listed_snapshot_are_read_as_numbers() -> None:
    snapshot = Snapshot.model_validate(LISTED_SNAPSHOT)
    assert (snapshot.id, snapshot.resource_id, snapshot.name) == (6372321, 200776916, "web-01-1595954862243")
    assert (snapshot.regions, snapshot.size_gigabytes) == (("nyc3", "sfo3"), 2.34)
    assert snapshot.created_at == datetime(2020, 7, 28, 16, 47, 44, tzinfo=UTC)
    assert snapshot.tags == ("web", "env:prod")


@pytest.mark.parametrize("tags", [None, ...])
def test_a_snapshot_whose_tags_the_token_may_not_read_has_no_tags(tags: object) -> None:
    data = {**LISTED_SNAPSHOT, "tags": tags}
    if tags is ...:
        del data["tags"]
    assert Snapshot.model_validate(data).tags == ()


@pytest.mark.parametrize(("model", "example", "_"), NEEDED)
def test_unknown_fields_are_ignored(model: type[Resource], example: dict[str, Any], _: object) -> None:
    added = {**example, "colour": "green", "nested": {"id": "no number"}}
    assert model.model_validate(added) == model.model_validate(example)


@pytest.mark.parametrize("slug", ["atl1", "mars-1"])
def test_an_undocumented_region_is_accepted(slug: str) -> None:
    assert Action.model_validate({**RUNNING_ACTION, "region_slug": slug}).region_slug == slug
    assert Image.model_validate({**SNAPSHOT, "regions": [slug]}).regions == (slug,)
    assert TransferImage(region=slug).region == slug


@pytest.mark.parametrize(
    ("model", "example", "name"),
    [
        (Image, SNAPSHOT, "regions"),
        (Image, SNAPSHOT, "tags"),
        (Image, SNAPSHOT, "name"),
        (Snapshot, LISTED_SNAPSHOT, "regions"),
        (Snapshot, LISTED_SNAPSHOT, "name"),
        (Region, NEW_YORK_2, "features"),
        (Droplet, DROPLET, "backup_ids"),
        (Droplet, DROPLET, "snapshot_ids"),
        (Droplet, DROPLET, "tags"),
        (Action, RUNNING_ACTION, "resource_type"),
    ],
)
def test_null_is_read_as_an_empty_list_or_string(model: type[Resource], example: dict[str, Any], name: str) -> None:
    assert len(getattr(model.model_validate({**example, name: None}), name)) == 0


def test_a_region_takes_images_only_if_it_is_available_and_lists_the_feature() -> None:
    closed = {**NEW_YORK_2, "available": False}
    without = {**NEW_YORK_2, "features": ["backups"]}
    assert not Region.model_validate(closed).takes_images
    assert not Region.model_validate(without).takes_images


@pytest.mark.parametrize(("model", "example", "name"), EVERY_NEEDED_FIELD)
def test_missing_required_fields_are_named(model: type[Resource], example: dict[str, Any], name: str) -> None:
    lacking = {field: value for field, value in example.items() if field != name}
    answer = ResponseBody("GET", "/v2/things", {"thing": lacking, "things": [example, lacking]})
    with pytest.raises(MalformedResponse, match=rf"GET /v2/things: .*thing\.{name}: "):
        answer.one(model, "thing")
    with pytest.raises(MalformedResponse, match=rf"GET /v2/things: .*things\.1\.{name}: "):
        Paging(model, "things").read(answer, 1)


@pytest.mark.parametrize("body", [{}, {"things": None}, {"things": {}}, {"things": "none"}, {"things": [None]}])
def test_a_field_that_should_be_a_list_is_named(body: dict[str, Any]) -> None:
    with pytest.raises(MalformedResponse, match="things"):
        Paging(Action, "things").read(ResponseBody("GET", "/v2/things", body), 1)


@pytest.mark.parametrize("thing", [None, [], "text", 7])
def test_a_field_that_should_be_an_object_is_named(thing: object) -> None:
    with pytest.raises(MalformedResponse, match="thing"):
        ResponseBody("GET", "/v2/things", {"thing": thing}).one(Action, "thing")


def test_errors_in_a_response_are_described_without_its_contents() -> None:
    answer = ResponseBody("GET", "/v2/things", {"thing": {**RUNNING_ACTION, "id": "private words"}})
    with pytest.raises(MalformedResponse) as caught:
        answer.one(Action, "thing")
    assert "thing.id" in str(caught.value)
    assert "private words" not in str(caught.value)


def test_times_without_a_zone_and_in_other_zones_are_converted_to_utc() -> None:
    expected = datetime(2014, 11, 14, 16, 42, 45, tzinfo=UTC)
    for text in ("2014-11-14T16:42:45", "2014-11-14T16:42:45Z", "2014-11-14T18:42:45+02:00"):
        assert Action.model_validate({**RUNNING_ACTION, "started_at": text}).started_at == expected


def test_requests_are_serialized_as_the_api_expects() -> None:
    assert ConvertImage().model_dump() == {"type": "convert"}
    assert TransferImage(region="nyc3").model_dump() == {"type": "transfer", "region": "nyc3"}


def test_requests_are_distinguished_by_their_type() -> None:
    adapter: TypeAdapter[ImageActionRequest] = TypeAdapter(ImageActionRequest)
    assert adapter.validate_python({"type": "convert"}) == ConvertImage()
    assert adapter.validate_python({"type": "transfer", "region": "nyc3"}) == TransferImage(region="nyc3")


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"type": "destroy"},
        {"type": "transfer"},
        {"type": "transfer", "region": ""},
        {"type": "transfer", "region": "New York"},
        {"type": "transfer", "region": "nyc3\n"},
        {"type": "transfer", "region": "../actions"},
        {"type": "convert", "region": "nyc3"},
    ],
)
def test_requests_that_the_api_would_always_refuse_cannot_be_created(data: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(ImageActionRequest).validate_python(data)


def test_a_request_matches_the_actions_that_fulfill_it() -> None:
    action = Action.model_validate(RUNNING_ACTION)
    converting = Action.model_validate({**RUNNING_ACTION, "type": "convert"})
    assert TransferImage(region="nyc3").matches(action)
    assert not TransferImage(region="nyc2").matches(action)
    assert not TransferImage(region="nyc3").matches(converting)
    assert ConvertImage().matches(converting)
    assert not ConvertImage().matches(action)


def test_a_request_recognizes_images_that_no_longer_need_it() -> None:
    image = Image.model_validate(SNAPSHOT)
    assert TransferImage(region="nyc3").shown_by(image)
    assert not TransferImage(region="ams3").shown_by(image)
    assert ConvertImage().shown_by(image)
    assert not ConvertImage().shown_by(image.model_copy(update={"type": "backup"}))
