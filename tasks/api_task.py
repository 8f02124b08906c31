"""Prefect tasks that send requests to the API: how they are called, and when they are tried again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar, cast

from prefect import Task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas import TaskRun
from prefect.client.schemas.objects import State
from prefect.context import get_run_context
from prefect.exceptions import MissingContextError
from prefect.tasks import exponential_backoff

from tasks.digitalocean import APIError, Forbidden, load_settings, run_blocking
from tasks.digitalocean.errors import MOST_REFUSALS
from tasks.digitalocean.settings import MOST_RETRIES

P = ParamSpec("P")
R = TypeVar("R")


class ApiTask(Task[P, R]):
    """A task whose function is async, and which can be called from everywhere.

    From a sync flow a call gives the result, from an async flow something to await; `.submit()` and `.map()` work in
    both. `.aio()` always gives something to await.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task: to its end from sync code, as an awaitable from async code."""
        run = self.aio(*args, **kwargs)
        return run if _called_from_async_code() else run_blocking(run)

    def aio(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Run the task from async code."""
        return cast(Coroutine[Any, Any, R], super().__call__(*args, **kwargs))


def _called_from_async_code() -> bool:
    """Tell by the kind of the flow or task that calls; outside of runs, by whether an event loop is running."""
    try:
        context = get_run_context()
    except MissingContextError:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return False
        return True
    caller = getattr(context, "task", None) or getattr(context, "flow", None)
    return bool(getattr(caller, "isasync", True))


def is_repeated(error: object, *, idempotent: bool = False) -> bool:
    """Decide whether a task that ended with an error is tried again: if its request may be sent twice.

    A start that was refused with a 403 is left to the caller, who may have other images to try.

    Args:
        error: The error, if it is one.
        idempotent: Whether doing it twice is the same as doing it once.
    """
    if not isinstance(error, APIError):
        return False
    if idempotent:
        return error.transient
    return error.repeatable and not (isinstance(error, Forbidden) and error.method == "POST")


def _if_safe(_task: Task[Any, Any], task_run: TaskRun, state: State[Any]) -> bool:
    """The pause before the next attempt is Prefect's; after a 429 the rate budget adds what is missing."""
    error = getattr(state.data, "result", state.data)
    return is_repeated(error) and _attempts_left(task_run, error)


def _if_it_may_help(_task: Task[Any, Any], task_run: TaskRun, state: State[Any]) -> bool:
    """The same for tasks that may be carried out twice without harm."""
    error = getattr(state.data, "result", state.data)
    return is_repeated(error, idempotent=True) and _attempts_left(task_run, error)


def _never(_task: Task[Any, Any], _task_run: TaskRun, _state: State[Any]) -> bool:
    """For tasks whose client repeats by itself what may be repeated."""
    return False


def _attempts_left(task_run: TaskRun, error: object) -> bool:
    if isinstance(error, Forbidden) and error.method != "GET" and task_run.run_count >= MOST_REFUSALS:
        return False
    return task_run.run_count <= load_settings().http_retry_max


def api_task(
    *,
    task_run_name: str | Callable[[], str],
    repeats: bool = True,
    idempotent: bool = False,
) -> Callable[[Callable[P, Coroutine[Any, Any, R]]], ApiTask[P, R]]:
    """Make a task of an async function that sends requests.

    Its runs bear no tags: for each tag, Prefect asks its server for a concurrency limit before a run begins, one run
    after another, and while the server does not answer that would hold a run's transfers up for minutes.

    Args:
        task_run_name: What the UI shows for a run.
        repeats: Whether the task as a whole is tried again. Not where it reads lists: there the client repeats the
            page that failed.
        idempotent: Whether doing it twice is the same as doing it once, also where the API is changed by it.

    Returns:
        A decorator.
    """
    condition = _never if not repeats else _if_it_may_help if idempotent else _if_safe

    def decorate(function: Callable[P, Coroutine[Any, Any, R]]) -> ApiTask[P, R]:
        return ApiTask(
            function,  # type: ignore[arg-type]  # R is what comes of awaiting it
            task_run_name=task_run_name,
            # How often is up to the condition. Prefect logs a traceback where it has counted to the end itself, and
            # these errors explain themselves.
            retries=MOST_RETRIES + 1,
            retry_delay_seconds=exponential_backoff(1),
            retry_jitter_factor=0.5,
            retry_condition_fn=condition,
            # The API's state changes by itself: an answer from earlier is no answer.
            cache_policy=NO_CACHE,
        )

    return decorate
