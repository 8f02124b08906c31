"""A heartbeat interrupts its own run once, and no other."""

from __future__ import annotations

import logging
import signal
from uuid import uuid4

import pytest

from flows import liveness
from flows.liveness import Heartbeat


def test_only_the_run_of_this_process_is_interrupted_and_only_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    monkeypatch.setattr(signal, "raise_signal", sent.append)
    monkeypatch.setattr(liveness, "get_run_logger", logging.getLogger)
    own = Heartbeat(uuid4())
    monkeypatch.delenv("PREFECT__FLOW_RUN_ID", raising=False)
    own._interrupt()
    monkeypatch.setenv("PREFECT__FLOW_RUN_ID", str(uuid4()))
    own._interrupt()
    assert sent == []
    monkeypatch.setenv("PREFECT__FLOW_RUN_ID", str(own.flow_run_id))
    own._interrupt()
    own._interrupt()
    assert sent == [signal.SIGINT]
