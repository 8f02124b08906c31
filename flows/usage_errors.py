"""The options of a flow's command: read as text, checked by the flow's own rules, refused with a sentence each."""

from __future__ import annotations

import difflib
import inspect
import re
import sys
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import cyclopts
from cyclopts.exceptions import (
    CoercionError,
    CycloptsError,
    MissingArgumentError,
    RepeatArgumentError,
    UnknownOptionError,
    UnusedCliTokensError,
)
from prefect import Flow
from pydantic import TypeAdapter, ValidationError

from flows.command_start import USAGE
from flows.messages import say

WHOLE_NUMBER = re.compile(r"[+-]?[0-9]+")
# Beyond that no option's number goes, and Python reads no text of more than a few thousand digits.
MOST_DIGITS = 18
SEE_HELP = "--help lists the options"


class UsageError(Exception):
    """Options that cannot be understood; the message has a line for each."""


def signature_for_text(flow: Flow[Any, Any]) -> inspect.Signature:
    """Describe a flow's parameters as options whose values are text, so that only the flow's own checks apply.

    Args:
        flow: The flow.

    Returns:
        The signature of its command. Switches stay switches, and lists take several values.
    """
    types = typing.get_type_hints(flow.fn)
    return inspect.Signature(
        [
            parameter.replace(
                kind=inspect.Parameter.KEYWORD_ONLY,
                annotation=_kind_as_text(types[name]),
                default=_default_as_text(parameter.default),
            )
            for name, parameter in inspect.signature(flow.fn).parameters.items()
        ],
        return_annotation=int,
    )


def _default_as_text(value: Any) -> Any:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return str(value) if is_number else value


def _kind_as_text(kind: Any) -> Any:
    if kind is bool:
        return bool
    item = "INT" if int in _members(kind) else "STR"
    if _is_list(kind):
        return Annotated[list[str] | None, cyclopts.Parameter(metavar=f"{item}...")]
    return Annotated[str | None, cyclopts.Parameter(metavar=item)]


def read_options(flow: Flow[Any, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Turn the values of options into a flow's parameters.

    Args:
        flow: The flow.
        given: The values that were given, by the parameters' names.

    Returns:
        The parameters.

    Raises:
        UsageError: Some cannot be understood.
    """
    types, annotations = typing.get_type_hints(flow.fn), typing.get_type_hints(flow.fn, include_extras=True)
    parameters: dict[str, Any] = {}
    problems: list[str] = []
    for name, value in given.items():
        try:
            parameters[name] = TypeAdapter(annotations[name]).validate_python(_from_text(value, types[name]))
        except ValidationError as error:
            problems.append(f"{_option(name)}: {_sentence(error)}")
        except ValueError as error:
            problems.append(f"{_option(name)}: {error}")
    if problems:
        raise UsageError("\n".join(problems))
    return parameters


def run_command(app: cyclopts.App) -> int:
    """Run a command; answer options that cannot be understood with a sentence each.

    Args:
        app: The command. What it returns is its exit status.

    Returns:
        The exit status: 2 if the options cannot be understood.
    """
    try:
        status = app(sys.argv[1:], print_error=False, exit_on_error=False, result_action="return_value")
    except (CycloptsError, UsageError) as error:
        say(explain(error) if isinstance(error, CycloptsError) else str(error))
        return USAGE
    # Nothing is returned where only help was asked for.
    return int(status or 0)


def explain(error: CycloptsError) -> str:
    """Say what is wrong with a command line whose options could not even be told apart.

    Args:
        error: What cyclopts found.

    Returns:
        A sentence that names the option and says what is expected.
    """
    for kind, sentence in EXPLANATIONS.items():
        if isinstance(error, kind):
            return sentence(error)
    return str(error)


def _unknown_option(error: Any) -> str:
    option = str(error.token.keyword or error.token.value).partition("=")[0]
    known = [name for argument in error.argument_collection for name in argument.names]
    close = difflib.get_close_matches(option, known, n=1)
    return f"{option}: no such option; {f'did you mean {close[0]}?' if close else SEE_HELP}"


def _value_without_option(error: Any) -> str:
    return f"{error.unused_tokens[0]!r} does not belong to any option; {SEE_HELP}"


def _no_value(error: Any) -> str:
    given = error.keyword or next((token.keyword for token in error.argument.tokens if token.keyword), None)
    return f"{given}: expected a value" if given else f"{error.argument.name}: this option is required"


def _twice(error: Any) -> str:
    return f"{error.token.keyword}: given more than once"


def _switch_with_value(error: Any) -> str:
    name = error.argument.name
    return f"{name}: takes no value; it is either {name} or {name.replace('--', '--no-', 1)}"


EXPLANATIONS: Mapping[type[CycloptsError], Callable[[Any], str]] = {
    UnknownOptionError: _unknown_option,
    UnusedCliTokensError: _value_without_option,
    MissingArgumentError: _no_value,
    RepeatArgumentError: _twice,
    # Text needs no coercion, so what is wrong is the value of a switch.
    CoercionError: _switch_with_value,
}


def _from_text(value: Any, kind: Any) -> Any:
    """Make of an option's text what a program would give for it."""
    if isinstance(value, list):
        if not value:
            raise ValueError("expected at least one value")
        return " ".join(value)
    if value == "":
        raise ValueError("expected a value, not an empty text; leave the option out for its default")
    if isinstance(value, str) and int in _members(kind) and WHOLE_NUMBER.fullmatch(value.strip()):
        digits = value.strip()
        return int(digits) if len(digits) <= MOST_DIGITS else int(digits[0] + "9" * MOST_DIGITS)
    return value


def _sentence(error: ValidationError) -> str:
    return str(error.errors(include_url=False)[0]["msg"])


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _is_list(kind: Any) -> bool:
    return any(typing.get_origin(member) is list for member in (kind, *typing.get_args(kind)))


def _members(kind: Any) -> list[Any]:
    """The types that a type is made of, such as int and None of `list[int] | None`."""
    inner = typing.get_args(kind)
    return [each for member in inner for each in _members(member)] if inner else [kind]
