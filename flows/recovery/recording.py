"""Records Droplets, so that they can be rebuilt after they are destroyed."""

from __future__ import annotations

from collections.abc import Collection

from prefect import get_run_logger

from flows.recovery.proofs import Proof
from flows.recovery.records import missing_records, read_records, tags_for
from flows.reporting.report import count
from flows.waiting import waiting_for
from tasks.digitalocean import APIError, Connection, Droplet
from tasks.tags import create_tag, list_tags


def record_droplets(droplets: Collection[Droplet], connection: Connection) -> None:
    """Record what has changed since the last run: one request if nothing has.

    If it fails, the run goes on: copies matter more.

    Args:
        droplets: The Droplets to record.
        connection: The API.
    """
    with waiting_for("Recording Droplets", connection):
        try:
            missing = missing_records(droplets, read_records(list_tags(credentials=connection)))
            for tag in tags_for(missing, connection.client.server_clock.now()):
                create_tag(tag, credentials=connection)
        except APIError as error:
            get_run_logger().warning(
                "Names, sizes and tags of %s are not recorded for a rebuild: %s", count(len(droplets), "Droplet"), error
            )


def record_proofs(proofs: Collection[Proof], connection: Connection) -> str:
    """Record what a drill has proven.

    Returns:
        Why it cannot be recorded, so that the next drill would prove the same Droplets again; empty if it is recorded.
    """
    with waiting_for("Recording the result", connection):
        try:
            for proof in proofs:
                create_tag(proof.tag, credentials=connection)
        except APIError as error:
            return str(error)
    return ""
