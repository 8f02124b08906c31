from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.sandbox import Behavior, Sandbox
from deployments.sandbox.pages import Page


def follow(http: httpx.Client, path: str, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    url: str | None = path
    while url:
        body = http.get(url).json()
        found += body[name]
        url = body["links"].get("pages", {}).get("next")
    return found


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v2/images?private=true", "images"),
        ("/v2/actions", "actions"),
        ("/v2/regions", "regions"),
        ("/v2/droplets", "droplets"),
        ("/v2/droplets?tag_name=dr", "droplets"),
        ("/v2/snapshots", "snapshots"),
        ("/v2/tags", "tags"),
    ],
)
def test_following_the_links_finds_everything_once(http: httpx.Client, path: str, name: str) -> None:
    separator = "&" if "?" in path else "?"
    whole = http.get(f"{path}{separator}per_page=200").json()
    assert whole["links"] == {}
    assert whole["meta"]["total"] == len(whole[name])
    assert follow(http, f"{path}{separator}per_page=2", name) == whole[name]


def test_the_actions_of_an_image_are_paged(sandbox: Sandbox, http: httpx.Client) -> None:
    image = next(each for each in sandbox.account.images.values() if each.type == "snapshot" and not each.public)
    for region in sandbox.account.regions.values():
        http.post(f"/v2/images/{image.id}/actions", json={"type": "transfer", "region": region.slug})
    path = f"/v2/images/{image.id}/actions"
    assert len(http.get(path, params={"per_page": 3}).json()["actions"]) == 3
    assert len(follow(http, f"{path}?per_page=3", "actions")) == len(image.actions) == 11


def test_links_are_absolute_and_keep_the_rest_of_the_query(sandbox: Sandbox, http: httpx.Client) -> None:
    pages = http.get("/v2/images?private=true&per_page=2&page=2").json()["links"]["pages"]
    assert set(pages) == {"first", "prev", "next", "last"}
    assert pages["next"] == f"{sandbox.url}/v2/images?private=true&per_page=2&page=3"
    assert set(http.get("/v2/images?per_page=2").json()["links"]["pages"]) == {"next", "last"}
    beyond = http.get("/v2/images?per_page=2&page=99").json()
    assert beyond["images"] == []
    assert set(beyond["links"]["pages"]) == {"first", "prev"}


@pytest.mark.parametrize("query", ["page=0", "page=x", "per_page=0", "per_page=-1", "per_page="])
def test_invalid_page_numbers_are_refused(http: httpx.Client, query: str) -> None:
    assert http.get(f"/v2/images?{query}").status_code == 422


def test_the_page_size_is_twenty_by_default_and_two_hundred_at_most(
    start: Callable[..., Sandbox], connect: Callable[[Sandbox], httpx.Client]
) -> None:
    http = connect(start(droplets=210, backups_per_droplet=0))
    assert len(http.get("/v2/droplets").json()["droplets"]) == 20
    assert len(http.get("/v2/droplets?per_page=500").json()["droplets"]) == 200


def test_a_server_may_have_shorter_pages(
    start: Callable[..., Sandbox], connect: Callable[[Sandbox], httpx.Client]
) -> None:
    http = connect(start(behavior=Behavior(max_per_page=2)))
    assert len(http.get("/v2/droplets?per_page=200").json()["droplets"]) == 2
    assert len(follow(http, "/v2/droplets?per_page=200", "droplets")) == 6


@given(total=st.integers(0, 300), size=st.integers(1, 60))
def test_pages_cover_a_list_without_gap_or_overlap(total: int, size: int) -> None:
    items, found, number = list(range(total)), list[int](), 1
    while True:
        page = Page(number, size)
        found += page.of(items)
        pages: Any = page.links(total, "http://here", {}).get("pages", {})
        if "next" not in pages:
            break
        number += 1
    assert found == items
