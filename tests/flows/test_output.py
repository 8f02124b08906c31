"""A run whose output nothing reads any more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Logs as a run does, in the connection's event loop, while the parent closes the other end of its output.
PROGRAM = """
import asyncio, sys
from prefect.logging.configuration import setup_logging
setup_logging()
from prefect.logging import get_logger
from flows.output import outlive_readers
from tasks.api_task import run_blocking
logger = get_logger("flow_runs")
logger.addFilter(lambda record: setattr(record, "flow_run_name", "a run") or True)
if "outlive" in sys.argv:
    outlive_readers()

async def work():
    for number in range(5):
        logger.info("line %s", number, extra={"send_to_api": False})
        if number == 0:
            await asyncio.to_thread(sys.stdin.read)
    open(sys.argv[1], "w").write("done")

run_blocking(work())
"""


def run_whose_reader_goes(result: Path, *arguments: str) -> int:
    command = [sys.executable, "-c", PROGRAM, str(result), *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT) as process:
        assert process.stdin
        assert process.stdout
        assert b"line 0" in process.stdout.readline()
        process.stdout.close()
        process.stdin.close()
        return process.wait(60)


def test_a_run_goes_on_when_its_worker_was_killed(tmp_path: Path) -> None:
    run_whose_reader_goes(tmp_path / "result", "outlive")
    assert (tmp_path / "result").read_text() == "done"


def test_an_exit_within_the_event_loop_leaves_nothing_waiting_forever(tmp_path: Path) -> None:
    """Without the handlers' change, the program ends: it must not hang with heartbeats."""
    assert run_whose_reader_goes(tmp_path / "result") != 0
    assert not (tmp_path / "result").exists()
