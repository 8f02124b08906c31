"""The token is nowhere: not in Prefect's database, not in its logs, not in what a run prints."""

from __future__ import annotations

import logging

import pytest

from deployments.sandbox import Fault, FaultKind, Sandbox
from flows.image_action_history import image_action_history
from flows.replicate_backups import replicate_backups
from tests.end_to_end.accounts import REGIONS, report_of, resize
from tests.end_to_end.prefect_server import PrefectView

WRONG_TOKEN = "dop_v1_0123456789abcdef"


def test_the_token_is_never_stored_logged_or_printed(
    sandbox: Sandbox,
    prefect_view: PrefectView,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    resize(sandbox, 2)
    caplog.set_level(logging.DEBUG)
    sandbox.faults.add(
        Fault(FaultKind.DROP_AFTER, "POST", "/actions"),
        Fault(FaultKind.HTML_OK, "POST", "/actions"),
        Fault(FaultKind.BURST_LIMIT, "GET"),
        Fault(FaultKind.ERROR_BEFORE, "GET"),
    )
    good = replicate_backups(regions=REGIONS[:1], return_state=True)
    assert good.is_completed()
    failed = image_action_history([4711], return_state=True)
    assert failed.is_failed()
    monkeypatch.setenv("DIGITALOCEAN_TOKEN", WRONG_TOKEN)
    refused = replicate_backups(return_state=True)
    assert refused.is_failed()
    for state in (good, failed, refused):
        prefect_view.logs_of(prefect_view.run_of(state))
    prefect_view.task_runs_of(prefect_view.run_of(good).id, at_least=9)

    files = [path for path in prefect_view.home.rglob("*") if path.is_file()]
    assert any(path.name.startswith("prefect.db") for path in files)
    stored = b"".join(path.read_bytes() for path in files)
    assert b"replicate-backups" in stored
    said = "".join([*capfd.readouterr(), caplog.text, repr(good), repr(report_of(good)), repr(refused)])
    for token in (sandbox.token, WRONG_TOKEN):
        assert token.encode() not in stored
        assert token not in said
