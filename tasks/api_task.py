"""Prefect tasks that send requests to the API: how they are called, and when they are tried again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from datetime import datetime
from traceback import walk_tb
from typing import Any, ParamSpec, TypeVar, cast

from prefect import Task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas import TaskRun
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext, get_run_context
from prefect.exceptions import MissingContextError
from prefect.tasks import exponential_backoff

from tasks.connection import connect
from tasks.digitalocean import APIError, Connection, Forbidden, run_blocking
from tasks.digitalocean.errors import MOST_REFUSALS
from tasks.digitalocean.settings import MOST_RETRIES

# Longer than a request takes as a rule; who has pressed Ctrl-C waits no longer.
LONGEST_ENDING_SECONDS = 10.0

P = ParamSpec("P")
R = TypeVar("R")
logger = logging.getLogger(__name__)


class ApiTask(Task[P, R]):
    """A task whose function is async, and which can be called from everywhere.

    From a sync flow a call gives the result, from an async flow something to await; `.submit()` and `.map()` work in
    both. `.aio()` always gives something to await.
    """

    repeats = True
    idempotent = False
    find_done: Callable[..., Awaitable[Any]] | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task: to its end from sync code, as an awaitable from async code."""
        run = self.aio(*args, **kwargs)
        return run if _called_from_async_code() else run_blocking(run)

    def aio(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Run the task from async code."""
        return cast(Coroutine[Any, Any, R], super().__call__(*args, **kwargs))

    async def run(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the task to its end, whatever happens to Prefect or to the caller.

        A run with transfers in flight does not end because Prefect's server is under strain: where Prefect fails, or
        outside of a flow run, the API is called without it. And what has begun ends before the caller is cancelled, as
        when a run's time is over: a start that was broken off may be carried out all the same.

        Raises:
            Exception: What the task's own function raises.
        """
        if FlowRunContext.get() is None:
            return await self.directly(*args, **kwargs)
        since = _connection_of(kwargs).client.server_clock.now()
        under_way = asyncio.ensure_future(self.aio(*args, **kwargs))
        try:
            return await asyncio.shield(under_way)
        except asyncio.CancelledError:
            done, _ = await asyncio.wait([under_way], timeout=LONGEST_ENDING_SECONDS)
            caller = asyncio.current_task()
            if not done or not caller:
                under_way.cancel()
                raise
            # The caller records the result, and is cancelled where it waits next.
            caller.cancel()
            return under_way.result()
        except Exception as error:
            if _was_raised_in(self.fn, error):
                raise
            logger.warning(
                "Prefect could not run the task; calling the API directly: %s: %s", type(error).__name__, error
            )
            done_already = await self._find_done(since, *args, **kwargs)
            return await self.directly(*args, **kwargs) if done_already is None else done_already

    async def directly(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Do what the task does without Prefect; repeats what the task would."""

        async def call() -> R:
            return await cast(Awaitable[R], self.fn(*args, **kwargs))

        if not self.repeats:
            return await call()
        client = _connection_of(kwargs).client
        return await client.repeating(call, when=lambda error: is_repeated(error, idempotent=self.idempotent))

    def with_options(self, **options: Any) -> ApiTask[P, R]:
        """Make a copy with other options of Prefect's."""
        copy = cast(ApiTask[P, R], super().with_options(**options))
        copy.repeats, copy.idempotent, copy.find_done = self.repeats, self.idempotent, self.find_done
        return copy

    async def _find_done(self, since: datetime, *args: Any, **kwargs: Any) -> R | None:
        """Find the result of a request that was sent before Prefect failed."""
        return cast(R | None, await self.find_done(since, *args, **kwargs)) if self.find_done else None


def _connection_of(arguments: Mapping[str, Any]) -> Connection:
    return arguments.get("connection") or connect()


def _was_raised_in(function: Callable[..., Any], error: BaseException) -> bool:
    """Whether an error comes out of a function, and not out of what has called it."""
    return any(frame.f_code is function.__code__ for frame, _ in walk_tb(error.__traceback__))


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
    """Decide whether a task that failed is tried again: if its request may be sent twice.

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


def _is_tried_again(task: Task[Any, Any], task_run: TaskRun, state: State[Any]) -> bool:
    """The pause before the next attempt is Prefect's; after a 429 the rate limiter adds what is missing."""
    error = getattr(state.data, "result", state.data)
    if not isinstance(task, ApiTask) or not task.repeats or not is_repeated(error, idempotent=task.idempotent):
        return False
    if isinstance(error, Forbidden) and error.method != "GET" and task_run.run_count >= MOST_REFUSALS:
        return False
    return task_run.run_count <= connect().settings.http_retry_max


def api_task(
    *,
    task_run_name: str | Callable[[], str],
    repeats: bool = True,
    idempotent: bool = False,
    find_done: Callable[..., Awaitable[Any]] | None = None,
) -> Callable[[Callable[P, Coroutine[Any, Any, R]]], ApiTask[P, R]]:
    """Make a task of an async function that sends requests.

    Its runs have no tags: for each tag, Prefect asks its server for a concurrency limit before a run begins, one run
    after another, and while the server does not answer that would hold a run's transfers up for minutes.

    Args:
        task_run_name: What the UI shows for a run.
        repeats: Whether the task as a whole is tried again. Not where it reads lists: there the client repeats the
            page that failed.
        idempotent: Whether doing it twice is the same as doing it once, also where the API is changed by it.
        find_done: Finds the result where Prefect has failed, perhaps after the request was sent: called with the
            time before that and the task's arguments; returns None where nothing was done. None for tasks that may be
            repeated.

    Returns:
        A decorator.
    """

    def decorate(function: Callable[P, Coroutine[Any, Any, R]]) -> ApiTask[P, R]:
        task = ApiTask[P, R](
            function,  # type: ignore[arg-type]  # R is what awaiting it returns
            task_run_name=task_run_name,
            # How often is up to the condition. Prefect logs a traceback where it has counted to the end itself, and
            # these errors explain themselves.
            retries=MOST_RETRIES + 1,
            retry_delay_seconds=exponential_backoff(1),
            retry_jitter_factor=0.5,
            retry_condition_fn=_is_tried_again,
            # The API's state changes by itself: an earlier response is out of date.
            cache_policy=NO_CACHE,
        )
        task.repeats, task.idempotent, task.find_done = repeats, idempotent, find_done
        return task

    return decorate
