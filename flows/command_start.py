"""What a command does before Prefect is imported: `python -m flows.<name>`, `python -m deployments.setup`.

Prefect reads its settings when it is imported, which takes a second, or several on a small machine. What is wrong with
the settings is said here, in a sentence, and what can be begun meanwhile is begun. Imports little, because Ctrl-C is
answered in a sentence only once this module is there.
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
# It needs no settings of its user.
DEMO = "deployments.demo"

_loading: list[AbstractContextManager[None]] = []
_companions: list[Popen[bytes]] = []


def begin_command() -> None:
    """Begin the command that `python -m` is about to run, if it is one of this project's."""
    module = module_to_run()
    is_flow = module.startswith("flows.")
    is_command = is_flow or module in COMMANDS
    # A shell has the commands that it runs in the background ignore it.
    if (is_command or module == DEMO) and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end_at_once)
    if is_command:
        asks_for_help = bool({"--help", "-h"} & set(sys.argv))
        _load(may_need_server=is_flow and not asks_for_help, in_silence=asks_for_help)


def module_to_run() -> str:
    """Name the module that `python -m` is about to run.

    Returns:
        Its name; empty where another program has imported this package, or once the module runs.
    """
    # While the module is being found, `-m` stands in place of its file.
    if sys.argv[:1] != ["-m"]:
        return ""
    options = sys.orig_argv[1:]
    for option, following in zip(options, [*options[1:], ""], strict=True):
        if option.startswith("-m"):
            return option.removeprefix("-m") or following
    return ""


def _load(*, may_need_server: bool, in_silence: bool) -> None:
    """Say what is wrong with the environment, or import Prefect, and have a server import it as well."""
    from flows import temporary_server  # noqa: PLC0415
    from flows.messages import say, waiting_messages  # noqa: PLC0415

    if not in_silence:
        _loading.append(waiting_messages("Loading Prefect"))
        _loading[0].__enter__()
    if may_need_server:
        temporary_server.prepare()
    from flows.environment import environment_problem  # noqa: PLC0415

    if problem := environment_problem():
        say(problem)
        sys.exit(COULD_NOT_START)


def loaded() -> None:
    """Note that everything is imported, and the command itself begins."""
    while _loading:
        _loading.pop().__exit__(None, None, None)


def end_with_command(process: Popen[bytes]) -> None:
    """Have a process end when the command does, however that ends."""
    _companions.append(process)
    atexit.register(process.kill)


def raise_when_interrupted() -> None:
    """From now on, have Ctrl-C raise KeyboardInterrupt, as Python has it by default."""
    if signal.getsignal(signal.SIGINT) is _end_at_once:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end_at_once(_signal: int, _frame: FrameType | None) -> NoReturn:
    """Answer Ctrl-C during the imports, of which a traceback would show nothing else."""
    # No exception: what is being imported may catch it, and the standard error may be redirected.
    os.write(2, b"Interrupted before anything was started.\n")
    for process in _companions:
        process.kill()
    os._exit(INTERRUPTED)
