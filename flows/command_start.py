"""What a command does before it imports Prefect: `digitalocean-backups <name>`, `python -m flows.<name>`.

Importing Prefect takes a second, or several on a small machine, and fails with a traceback if a setting is wrong. So
settings are checked first, and the temporary server starts in parallel. This module imports little, because Ctrl-C ends
in a traceback until it is loaded.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from subprocess import Popen
    from types import FrameType
    from typing import NoReturn

DONE, PARTLY_FAILED, USAGE, COULD_NOT_START, INTERRUPTED = 0, 1, 2, 3, 130
EXIT_STATUSES = "Exit status: 0 done, 1 something failed, 2 wrong options, 3 could not start, 130 interrupted."
COMMANDS = ("deployments.setup", "deployments.notify")
# Needs no settings.
DEMO = "deployments.demo"

_loading: list[AbstractContextManager[None]] = []
_child_processes: list[Popen[bytes]] = []


def begin_command() -> None:
    """Prepare for the command that `python -m` is about to run, if it is one of this project's."""
    prepare_to_run(module_to_run())


def prepare_to_run(module: str) -> None:
    """Prepare for a command whose options are in `sys.argv`.

    Args:
        module: Its module, such as `flows.replicate_backups`; nothing is done for modules that are no commands.
    """
    is_flow = module.startswith("flows.")
    is_command = is_flow or module in COMMANDS
    if is_command or module == DEMO:
        exit_when_interrupted()
    if is_command:
        asks_for_help = bool({"--help", "-h"} & set(sys.argv))
        _load(may_need_server=is_flow and not asks_for_help, quiet=asks_for_help)


def module_to_run() -> str:
    """Name the module that `python -m` is about to run; empty otherwise, and once it runs."""
    # While Python looks for the module, argv[0] is `-m`: https://docs.python.org/3/using/cmdline.html#cmdoption-m
    if sys.argv[:1] != ["-m"]:
        return ""
    options = sys.orig_argv[1:]
    for option, following in zip(options, [*options[1:], ""], strict=True):
        if option.startswith("-m"):
            return option.removeprefix("-m") or following
    return ""


def _load(*, may_need_server: bool, quiet: bool) -> None:
    """Import Prefect, or exit if the environment is wrong; a temporary server imports it at the same time."""
    from flows import temporary_server  # noqa: PLC0415
    from flows.messages import say, waiting_messages  # noqa: PLC0415

    if not quiet:
        _loading.append(waiting_messages("Loading Prefect"))
        _loading[0].__enter__()
    if may_need_server:
        temporary_server.prepare()
    from flows.environment import environment_problem  # noqa: PLC0415

    if problem := environment_problem():
        say(problem)
        sys.exit(COULD_NOT_START)


def loaded() -> None:
    """Note that all imports are done."""
    while _loading:
        _loading.pop().__exit__(None, None, None)


def end_with_command(process: Popen[bytes]) -> None:
    """Kill a process when the command ends."""
    _child_processes.append(process)
    atexit.register(process.kill)


def exit_when_interrupted() -> None:
    """From now on, let Ctrl-C end the process with a sentence."""
    # Shells make background commands ignore SIGINT: keep that.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _exit_on_interrupt)


def raise_when_interrupted() -> None:
    """From now on, let Ctrl-C raise KeyboardInterrupt, as is Python's default."""
    if signal.getsignal(signal.SIGINT) is _exit_on_interrupt:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _exit_on_interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    """Exit on Ctrl-C during the imports, without a traceback."""
    # Neither raise nor print: the modules being imported may catch exceptions or redirect standard error.
    os.write(2, b"Interrupted before anything was started.\n")
    for process in _child_processes:
        process.kill()
    os._exit(INTERRUPTED)
