"""A server that an earlier version has set up is brought up to date while a run of that version is in flight."""

from __future__ import annotations

import subprocess
from pathlib import Path

from flows.prefect_settings import DEAD_AFTER
from tests.soak.account import backups, stretch
from tests.soak.checks import check_account, check_lived, ended, running
from tests.soak.plan import SEEN_WITHIN, SOON, Plan
from tests.soak.stack import CODE, NIGHTLY, ROOT, Stack
from tests.soak.watch import Watch

# The last commit whose runs have a `concurrency_limit`, claims, and an alarm after three minutes of silence.
EARLIER_VERSION = "9ed3a81"


def write_version(commit: str, folder: Path) -> None:
    """Write the code of a commit into a folder.

    Args:
        commit: The commit.
        folder: The folder, which is made.

    Raises:
        subprocess.CalledProcessError: The repository does not hold that commit.
    """
    folder.mkdir(parents=True)
    archive = folder / "code.tar"
    # git and tar are wherever a developer has them.
    subprocess.run(["git", "archive", "--output", archive, commit, *CODE], cwd=ROOT, check=True)  # noqa: S607
    subprocess.run(["tar", "--extract", "--file", archive, "--directory", folder], check=True)  # noqa: S607
    archive.unlink()


def upgrade(watch: Watch, stack: Stack, plan: Plan) -> None:
    """The server lost a Pending nightly run in a reboot, so that the old limit's slot is stuck; then the upgrade."""
    api, sandbox = stack.api, stack.sandbox
    images = [newest for newest, *_ in backups(sandbox)]
    for image in images:
        # A run of the earlier version is killed after 3:45, so what is in flight must be shorter.
        stretch(sandbox, image, plan.shortened(2.5))
    stuck = api.begin(NIGHTLY, image_ids=[images[0].id])
    watch.until("a nightly run is Pending", lambda: stack.freeze_pending(stuck), SOON)
    stack.reboot()
    in_flight = api.begin("replicate-backups/manual", image_ids=[images[0].id])
    running(watch, api, "the run in flight", in_flight, SOON)
    watch.until("it has started a transfer", lambda: _transfers(stack), SOON)

    stack.upgrade()
    missing = stack.command("deployments.setup", "--check", status=1)
    watch.say(f"setup --check: {' '.join(missing.split())}")
    stack.deploy()
    stack.command("deployments.setup", "--check")
    watch.check(True, "setup corrects what the earlier version has made, and then finds nothing to correct")
    nightly = api.begin(NIGHTLY)
    running(watch, api, "the next nightly run", nightly, SOON)
    ended(watch, api, "the run in flight", in_flight, SOON + SEEN_WITHIN)
    ended(watch, api, "the next nightly run", nightly, DEAD_AFTER + SEEN_WITHIN)
    check_lived(watch, api, "the run in flight", in_flight)
    check_lived(watch, api, "the next nightly run", nightly)
    check_account(watch, stack, images)
    alarmed = {alarm.run_id for alarm in api.alarms()} - {stuck}
    watch.check(not alarmed, "no automation was triggered falsely", alarmed)


def _transfers(stack: Stack) -> bool:
    return any(action.type == "transfer" for action in stack.sandbox.record.actions)
