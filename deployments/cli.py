"""The command `digitalocean-backups`: every flow, and what belongs to them, as a subcommand.

A subcommand is what `python -m` runs under the name of its module. Only that module is imported, so that the help and
the version come without Prefect, and a flow's temporary server starts as early as with `python -m`.
"""

from __future__ import annotations

import difflib
import os
import sys
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

from flows.command_start import DONE, EXIT_STATUSES, USAGE, exit_when_interrupted, prepare_to_run
from flows.messages import say

if TYPE_CHECKING:
    from cyclopts import App

PROGRAM = "digitalocean-backups"
# A constant, because not every checkout or image has the distribution's metadata.
VERSION = "0.3.0"
SEE_HELP = "--help lists the commands"


class Command(NamedTuple):
    """A subcommand.

    Attributes:
        module: What `python -m` runs.
        attribute: A flow, a cyclopts app or a function in it.
        summary: Its line in the list of commands.
    """

    module: str
    attribute: str
    summary: str


def _flow(name: str, summary: str) -> Command:
    return Command(f"flows.{name}", name, summary)


COMMANDS = {
    "replicate": _flow("replicate_backups", "Copy the newest backups, or new snapshots, to every region."),
    "coverage": _flow("report_coverage", "Report which Droplets are protected; changes nothing."),
    "snapshot": _flow("snapshot_droplets", "Take a snapshot of each Droplet."),
    "transfer": _flow("transfer_images", "Copy the images that you name to other regions."),
    "convert": _flow("convert_backups", "Convert the backups that you name to snapshots."),
    "restore": _flow("restore_droplets", "Rebuild Droplets in another region; by default, only check."),
    "drill": _flow("drill_restore", "Rebuild some Droplets, prove that they start, destroy them."),
    "prune": _flow("prune_snapshots", "Delete old snapshots by a rule; by default, only list them."),
    "history": _flow("image_action_history", "List every action ever run on some images."),
    "setup": Command("deployments.setup", "app", "Prepare a Prefect server for the deployments."),
    "notify": Command("deployments.notify", "app", "Tell a Prefect server that backups are complete."),
    "sandbox": Command("deployments.sandbox.__main__", "app", "Serve a fake of the DigitalOcean API on localhost."),
    "demo": Command("deployments.demo", "main", "Copy and rebuild on a sandbox account, with a server."),
}


def main() -> int:
    """Run the command line.

    Returns:
        Exit status, as listed by `--help`.
    """
    exit_when_interrupted()
    first = sys.argv[1] if len(sys.argv) > 1 else ""
    installed = {name: command for name, command in COMMANDS.items() if _is_installed(command.module)}
    if first in installed:
        return run(first, installed[first])
    if first in {"--help", "-h", "--version"}:
        overview(installed)(sys.argv[1:2])
        return DONE
    if not first:
        overview(installed).help_print()
    else:
        say(explain_unknown(first, installed))
    return USAGE


def run(name: str, command: Command) -> int:
    """Run a subcommand with the options that follow its name in `sys.argv`.

    Args:
        name: Its name on the command line.
        command: What to run.

    Returns:
        Exit status.
    """
    # Before anything slow is imported: a flow's temporary server starts here.
    prepare_to_run(command.module)
    # A mistyped option needs no link to pydantic's documentation.
    os.environ.setdefault("PYDANTIC_ERRORS_INCLUDE_URL", "0")
    from cyclopts import App  # noqa: PLC0415  # after the start of the server

    target: Any = getattr(import_module(command.module), command.attribute)
    if command.module.startswith("flows."):
        from flows.command_line import command_of  # noqa: PLC0415  # imports Prefect
        from flows.usage_errors import run_command  # noqa: PLC0415  # imports Prefect

        return run_command(_under(name, command_of(target)))
    app = target if isinstance(target, App) else App(default_command=target, version_flags=[])
    return int(_under(name, app)() or DONE)


def _under(name: str, command: App) -> App:
    """Make an app with one command, which has this name instead of its own."""
    from cyclopts import App  # noqa: PLC0415  # as above

    app = App(name=PROGRAM, version_flags=[], result_action="return_value")
    app.command(command, name=name)
    # As in the help of `python -m`; cyclopts hides it below another app.
    for flag in command.help_flags:
        command[flag].show = True
    return app


def overview(commands: dict[str, Command]) -> App:
    """Make the app that lists the commands; it imports none of them."""
    from cyclopts import App  # noqa: PLC0415  # only this needs it here

    app = App(
        name=PROGRAM,
        help="Disaster recovery for DigitalOcean Droplets: copies backups to other regions and rebuilds from them.",
        help_epilogue=f"`{PROGRAM} COMMAND --help` explains a command's options. {EXIT_STATUSES}",
        version=VERSION,
        usage=f"Usage: {PROGRAM} COMMAND [OPTIONS]",
    )
    for number, (name, command) in enumerate(commands.items()):
        app.command(f"{command.module}:{command.attribute}", name=name, help=command.summary, sort_key=number)
    return app


def explain_unknown(word: str, commands: dict[str, Command]) -> str:
    """Explain that a word is not a command, and suggest one with a similar name, or whose module has a similar name."""
    if word.startswith("-"):
        return f"{word}: expected a command before any option; {SEE_HELP}"
    modules = {command.module.rpartition(".")[2]: name for name, command in commands.items()}
    names = {**modules, **{name: name for name in commands}}
    close = difflib.get_close_matches(word.lower().replace("-", "_"), names, n=1)
    return f"{word}: no such command; {f'did you mean {names[close[0]]}?' if close else SEE_HELP}"


def _is_installed(module: str) -> bool:
    """Whether a module is there: the production image has neither sandbox nor demo."""
    # Of the package's __main__, only the package is looked for: finding a module imports the packages around it.
    return find_spec(module.removesuffix(".__main__")) is not None


if __name__ == "__main__":
    sys.exit(main())
