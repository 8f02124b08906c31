"""The sandbox from the command line: `python -m deployments.sandbox`."""

from __future__ import annotations

import errno
import shlex
import signal
import sys
import threading
from contextlib import suppress

from cyclopts import App

from deployments.sandbox.server import Sandbox

app = App(name="python -m deployments.sandbox", version_flags=[], help="A fake of the DigitalOcean API on localhost.")


@app.default
def serve(
    *,
    port: int = 8080,
    speed: float = 60.0,
    droplets: int = 6,
    backups_per_droplet: int = 2,
    seed: int = 1,
    token: str | None = None,
    requests_per_minute: int = 250,
    requests_per_hour: int = 5000,
) -> None:
    """Serve a generated account until Ctrl-C.

    Args:
        port: The port on 127.0.0.1; 0 picks a free one.
        speed: Divides all durations, including those of the rate limits.
        droplets: Number of Droplets.
        backups_per_droplet: Number of backups per Droplet.
        seed: Seed of the random account; the same seed generates the same account.
        token: The token to accept; by default generated from the seed.
        requests_per_minute: The burst limit.
        requests_per_hour: The hourly limit.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    with suppress(KeyboardInterrupt):
        try:
            sandbox = Sandbox(
                port=port,
                speed=speed,
                droplets=droplets,
                backups_per_droplet=backups_per_droplet,
                seed=seed,
                token=token,
                requests_per_minute=requests_per_minute,
                requests_per_hour=requests_per_hour,
            )
            with sandbox:
                print(_greeting(sandbox), flush=True)  # noqa: T201
                threading.Event().wait()
        except ValueError as error:
            sys.exit(str(error))
        except OSError as error:
            sys.exit(_advice(error, port))


def _greeting(sandbox: Sandbox) -> str:
    exports = [f"export {name}={shlex.quote(value)}" for name, value in sandbox.environment().items()]
    return "\n".join(
        [
            f"The sandbox is at {sandbox.url} and accepts the token {sandbox.token}.",
            "To use it, paste this into another shell. To stop it, press Ctrl-C here.",
            "",
            *exports,
        ]
    )


def _advice(error: OSError, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} is in use. Choose another with --port, or let --port 0 find a free one."
    return f"Cannot listen on port {port}: {error.strerror}."


if __name__ == "__main__":
    app()
