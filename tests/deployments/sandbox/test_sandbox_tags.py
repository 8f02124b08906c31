from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from azure.core.exceptions import HttpResponseError

from deployments.sandbox import Behavior, Sandbox


def backup_id(sandbox: Sandbox) -> int:
    return next(image.id for image in sandbox.account.images.values() if image.type == "backup")


def naming(*image_ids: int) -> dict[str, object]:
    return {"resources": [{"resource_id": str(one), "resource_type": "image"} for one in image_ids]}


def test_a_tag_is_made_once_whatever_its_case(client: Any) -> None:
    tag = client.tags.create({"name": "prefect:Replicated"})["tag"]
    assert tag == {
        "name": "prefect:Replicated",
        "resources": {
            "count": 0,
            **{kind: {"count": 0} for kind in ("droplets", "images", "volumes", "volume_snapshots", "databases")},
        },
    }
    assert client.tags.create({"name": "PREFECT:replicated"})["tag"]["name"] == "prefect:Replicated"
    names = [one["name"] for one in client.tags.list()["tags"]]
    assert names.count("prefect:Replicated") == 1


@pytest.mark.parametrize("name", ["здорово", "two words", "", "x" * 256, None])
def test_invalid_tag_names_are_refused_with_root_causes(http: httpx.Client, name: str | None) -> None:
    response = http.post("/v2/tags", json={"name": name})
    assert response.status_code == 400
    assert {"error", "messages", "root_causes", "request_id"} == set(response.json())


def test_images_can_be_tagged_found_and_untagged(sandbox: Sandbox, client: Any) -> None:
    image_id = backup_id(sandbox)
    client.tags.create({"name": "kept"})
    client.tags.assign_resources("kept", naming(image_id))
    assert client.images.get(image_id)["image"]["tags"] == ["kept"]
    assert [image["id"] for image in client.images.list(tag_name="kept")["images"]] == [image_id]
    resources = client.tags.get("kept")["tag"]["resources"]
    assert resources["images"] == {"count": 1, "last_tagged_uri": f"{sandbox.url}/v2/images/{image_id}"}

    client.tags.unassign_resources("kept", naming(image_id))
    assert client.images.get(image_id)["image"]["tags"] == []
    assert client.images.list(tag_name="kept")["images"] == []


def test_droplets_are_tagged_too(client: Any) -> None:
    droplet_id = client.droplets.list()["droplets"][0]["id"]
    named = {"resources": [{"resource_id": str(droplet_id), "resource_type": "droplet"}]}
    client.tags.create({"name": "new"})
    client.tags.assign_resources("new", named)
    assert [droplet["id"] for droplet in client.droplets.list(tag_name="new")["droplets"]] == [droplet_id]


def test_unknown_tags_and_resources_are_not_found(sandbox: Sandbox, http: httpx.Client) -> None:
    assert http.post("/v2/tags/none/resources", json=naming(backup_id(sandbox))).status_code == 404
    assert http.post("/v2/tags/dr/resources", json=naming(backup_id(sandbox), 1)).status_code == 404
    assert http.get("/v2/images?tag_name=dr").json()["images"] == []


def test_resource_ids_must_be_strings(sandbox: Sandbox, http: httpx.Client) -> None:
    named = {"resources": [{"resource_id": backup_id(sandbox), "resource_type": "image"}]}
    assert http.post("/v2/tags/dr/resources", json=named).status_code == 422


def test_backups_cannot_be_tagged_if_the_api_is_strict(
    start: Callable[..., Sandbox], connect_pydo: Callable[[Sandbox], Any]
) -> None:
    sandbox = start(behavior=Behavior(taggable_backups=False))
    with pytest.raises(HttpResponseError) as refused:
        connect_pydo(sandbox).tags.assign_resources("dr", naming(backup_id(sandbox)))
    assert refused.value.status_code == 422
