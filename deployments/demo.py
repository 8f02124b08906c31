"""`make demo`: copy backups on a sandbox account, lose a region, and rebuild its Droplets in another.

Also `digitalocean-backups demo`.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx

from deployments.prefect_server import clean_environment, prefect_server
from deployments.sandbox import Sandbox
from flows.command_start import COULD_NOT_START, DONE, INTERRUPTED, raise_when_interrupted
from flows.messages import waiting_messages
from flows.reporting.report import count
from flows.temporary_server import ServerDidNotStart

ROOT = Path(__file__).resolve().parent.parent
IS_CHECKOUT = (ROOT / "Makefile").exists()
# A package's directory is not for the files of its user.
FOLDER = ROOT / ".demo" if IS_CHECKOUT else Path.home() / ".cache" / "digitalocean-backups" / "demo"
DROPLETS = 6
# An hour of copying takes half a minute.
SPEED = 120
ENDED = f"The demo has ended and stopped its server; its files are in {FOLDER}"


def main() -> int:
    """Run the demo.

    Returns:
        Exit status: 0 if everything arrived, 1 if not, 3 if Prefect's server did not start, 130 after Ctrl-C.
    """
    # Stop the server on SIGTERM too, as on Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        raise_when_interrupted()
        return show()
    except ServerDidNotStart as error:
        say(str(error))
        return COULD_NOT_START
    except KeyboardInterrupt:
        say(ENDED)
        return INTERRUPTED


def show() -> int:
    """Copy the backups of a sandbox account, and rebuild Droplets from them; returns an exit status."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    say(f"Starting a sandbox of the API with {DROPLETS} Droplets, sped up {SPEED} times, and a Prefect server")
    with Sandbox(droplets=DROPLETS, speed=SPEED) as sandbox, ExitStack() as running:
        with waiting_messages("Waiting for Prefect's server to start", say):
            ui = running.enter_context(prefect_server(FOLDER))
        say(f"Prefect's UI is at {ui}; copying the newest backup of every Droplet to every region")
        status = run_flow(sandbox.environment(), ui, "replicate_backups")
        counts = sandbox.record.requests_by_status()
        say(f"The sandbox received {sum(counts.values())} requests and answered {counts.get(429, 0)} with a 429")
        say("Everything arrived" if status == DONE else "Not everything arrived")
        if status == DONE:
            status = show_disaster(sandbox, ui)
        if sys.stdout.isatty():
            say(f"View the run: {address_of_last_run(ui)}  (Ctrl-C ends the demo)")
            with suppress(KeyboardInterrupt):
                signal.pause()
    if sys.stdout.isatty():
        say(ENDED)
    return status


def say(sentence: str) -> None:
    """Print a line of the demo."""
    print(f"\n--- {sentence}", flush=True)  # noqa: T201


def show_disaster(sandbox: Sandbox, ui: str) -> int:
    """Lose the region with most backups, and rebuild them in another; returns the exit status of the run."""
    with_backups = [droplet for droplet in sandbox.account.droplets.values() if droplet.backup_hour is not None]
    regions = [droplet.region for droplet in with_backups]
    lost = max(sorted(set(regions)), key=regions.count)
    sandbox.account.lose_region(lost)
    other = next(each for each in ("fra1", "sfo3") if each != lost)
    droplet_ids = [str(droplet.id) for droplet in with_backups if droplet.region == lost]
    rebuilt = count(len(droplet_ids), "Droplet")
    say(f"Disaster: {lost} is gone. Rebuilding its {rebuilt} with backups in {other}, from the copies there")
    began = time.monotonic()
    options = ["--region", other, "--droplet-ids", ",".join(droplet_ids), "--no-dry-run"]
    status = run_flow(sandbox.environment(), ui, "restore_droplets", *options)
    took = f"{time.monotonic() - began:.0f} s here, with DigitalOcean's part sped up {SPEED} times"
    say(f"{rebuilt} rebuilt in {took}" if status == DONE else "Not every Droplet was rebuilt")
    return status


def run_flow(sandbox: Mapping[str, str], ui: str, name: str, *options: str) -> int:
    """Run a flow as from a shell; returns its exit status."""
    environment = {**clean_environment(FOLDER), **sandbox, "PREFECT_API_URL": f"{ui}/api"}
    command = [sys.executable, "-m", f"flows.{name}", *options]
    # In its own process group, so that Ctrl-C reaches only the demo.
    run = subprocess.run(command, env=environment, cwd=ROOT, start_new_session=True, check=False)  # noqa: S603
    return run.returncode


def address_of_last_run(ui: str) -> str:
    """Find the URL of the newest flow run in the UI."""
    newest = {"sort": "START_TIME_DESC", "limit": 1}
    runs = httpx.post(f"{ui}/api/flow_runs/filter", json=newest, trust_env=False).json()
    return f"{ui}/runs/flow-run/{runs[0]['id']}" if runs else ui


if __name__ == "__main__":
    sys.exit(main())
