"""Telling Prefect that backups are complete: `python -m deployments.notify`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from random import randint

import pytest
from prefect.events import Event

from tests.end_to_end.prefect_server import SHOWS_WITHIN_SECONDS, PrefectView, until

ROOT = Path(__file__).resolve().parents[2]


def notify(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deployments.notify", *options],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def arrived(view: PrefectView, resource: str) -> list[Event]:
    """The events about a resource, as soon as there is one."""

    def look() -> list[Event]:
        criteria = {"event": {"name": ["backup.completed"]}, "resource": {"id": [resource]}}
        answer = view.client.request("POST", "/events/filter", json={"filter": criteria})
        return [Event.model_validate(event) for event in answer.json()["events"]]

    return until(look, SHOWS_WITHIN_SECONDS)


def test_the_event_arrives_with_the_droplet_the_images_and_the_tag(prefect_view: PrefectView) -> None:
    # Of a Droplet that no other test speaks of.
    droplet = randint(10**8, 10**9)  # noqa: S311
    options = ["--image-ids", "62137902", "62137903", "--droplet-tag", "dr", "--droplet-id", str(droplet)]
    whole = notify(*options)
    assert whole.returncode == 0, whole.stderr
    assert f"backup.completed of digitalocean.droplet.{droplet} sent" in whole.stdout
    bare = notify()
    assert bare.returncode == 0, bare.stderr
    assert "backup.completed of digitalocean.account sent: {}" in bare.stdout

    (event,) = arrived(prefect_view, f"digitalocean.droplet.{droplet}")
    assert event.payload == {"image_ids": [62137902, 62137903], "droplet_tag": "dr"}
    # Other tests may have sent events about the account as well.
    account = "digitalocean.account"
    until(lambda: {} in [event.payload for event in arrived(prefect_view, account)], SHOWS_WITHIN_SECONDS)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--image-ids", "web"], "image-ids"),
        (["--image-ids", "0"], "greater than or equal to 1"),
        (["--droplet-tag", "no tag!"], "droplet-tag"),
        (["--droplet", "7"], "--droplet"),
    ],
)
def test_invalid_options_are_explained_with_an_exit_status(options: list[str], sentence: str) -> None:
    done = notify(*options)
    assert done.returncode == 2, done.stdout + done.stderr
    # In a box, lines are broken anywhere.
    said = " ".join((done.stdout + done.stderr).replace("│", " ").split())
    assert sentence.lower() in said.lower()
    assert "Traceback" not in said
    assert "sent" not in done.stdout
