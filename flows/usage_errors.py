"""Reads the options of a flow's command, with the flow's own checks and one message per wrong option."""

from __future__ import annotations

import difflib
import inspect
import re
import sys
import typing
from collections.abc import Mapping
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
# More than any option accepts. Python refuses to parse thousands of digits:
# https://docs.python.org/3/library/stdtypes.html#integer-string-conversion-length-limitation
MOST_DIGITS = 18
SEE_HELP = "--help lists the options"


class UsageError(Exception):
    """Some options are wrong; the message has a line for each."""


def signature_for_text(flow: Flow[Any, Any]) -> inspect.Signature:
    """Make the signature of a flow's command: options have text as values, so that only the flow's own checks apply."""
    types = typing.get_type_hints(flow.fn)
    return inspect.Signature(
        [
            parameter.replace(
                kind=inspect.Parameter.KEYWORD_ONLY,
                annotation=_kind_as_text(types[name]),
                # Numbers, but not switches.
                default=str(parameter.default) if type(parameter.default) is int else parameter.default,
            )
            for name, parameter in inspect.signature(flow.fn).parameters.items()
        ],
        return_annotation=int,
    )


def _kind_as_text(kind: Any) -> Any:
    if kind is bool:
        return bool
    item = "INT" if int in _members(kind) else "STR"
    if _is_list(kind):
        return Annotated[list[str] | None, cyclopts.Parameter(metavar=f"{item}...")]
    return Annotated[str | None, cyclopts.Parameter(metavar=item)]


def read_options(flow: Flow[Any, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the values of options, by parameter name, into a flow's parameters.

    Raises:
        UsageError: Some values are wrong.
    """
    types, annotations = typing.get_type_hints(flow.fn), typing.get_type_hints(flow.fn, include_extras=True)
    parameters: dict[str, Any] = {}
    problems: list[str] = []
    for name, value in given.items():
        try:
            parameters[name] = TypeAdapter(annotations[name]).validate_python(_from_text(value, types[name]))
        except ValidationError as error:
            problems.append(
                f"{_option(name)}: {error.errors(include_url=False)[0]['msg'].replace('Input should be', 'must be')}"
            )
        except ValueError as error:
            problems.append(f"{_option(name)}: {error}")
    if problems:
        raise UsageError("\n".join(problems))
    return parameters


def run_command(app: cyclopts.App) -> int:
    """Run a command and return its exit status; print a message and return 2 if options are wrong."""
    try:
        status = app(sys.argv[1:], print_error=False, exit_on_error=False, result_action="return_value")
    except (CycloptsError, UsageError) as error:
        say(explain(error) if isinstance(error, CycloptsError) else str(error))
        return USAGE
    # None after --help.
    return int(status or 0)


def explain(error: CycloptsError) -> str:
    """Explain what is wrong with a command line that cyclopts cannot parse, naming the option."""
    match error:
        case UnknownOptionError(token=token, argument_collection=arguments):
            option = str(token.keyword or token.value).partition("=")[0]
            close = difflib.get_close_matches(option, [name for each in arguments for name in each.names], n=1)
            return f"{option}: no such option; {f'did you mean {close[0]}?' if close else SEE_HELP}"
        case UnusedCliTokensError(unused_tokens=[first, *_]):
            return f"{first!r} does not belong to any option; {SEE_HELP}"
        case MissingArgumentError(keyword=keyword, argument=argument) if argument:
            given = keyword or next((token.keyword for token in argument.tokens if token.keyword), None)
            return f"{given}: expected a value" if given else f"{argument.name}: this option is required"
        case RepeatArgumentError(token=token):
            return f"{token.keyword}: given more than once"
        # All other values are text, which needs no coercion.
        case CoercionError(argument=argument) if argument:
            name = argument.name
            return f"{name}: takes no value; it is either {name} or {name.replace('--', '--no-', 1)}"
    return str(error)


def _from_text(value: Any, kind: Any) -> Any:
    """Convert an option's text to the value that Python code would pass."""
    if isinstance(value, list):
        if not value:
            raise ValueError("expected at least one value")
        return " ".join(value)
    if value == "":
        raise ValueError("expected a value, not an empty text; leave the option out to use its default")
    if isinstance(value, str) and int in _members(kind) and WHOLE_NUMBER.fullmatch(value.strip()):
        digits = value.strip()
        return int(digits) if len(digits) <= MOST_DIGITS else int(digits[0] + "9" * MOST_DIGITS)
    return value


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _is_list(kind: Any) -> bool:
    return any(typing.get_origin(member) is list for member in (kind, *typing.get_args(kind)))


def _members(kind: Any) -> list[Any]:
    """List the innermost types of a type, such as int and None for `list[int] | None`."""
    inner = typing.get_args(kind)
    return [each for member in inner for each in _members(member)] if inner else [kind]
