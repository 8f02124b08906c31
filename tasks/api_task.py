"""Prefect tasks that send requests to the API: how they are called, and when they are retried."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import wait
from traceback import walk_tb
from typing import Any, ParamSpec, TypeVar, cast

from prefect import Task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas import TaskRun
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext, get_run_context
from prefect.exceptions import MissingContextError
from prefect.tasks import exponential_backoff
from prefect.utilities.annotations import unmapped
from pydantic import SecretStr

from tasks.connection import aconnect
from tasks.credentials import DigitalOceanCredentials
from tasks.digitalocean import APIError, Connection, Forbidden, load_settings, start_in_background
from tasks.digitalocean.deadline import current_deadline
from tasks.digitalocean.errors import MOST_REFUSALS
from tasks.digitalocean.settings import MOST_RETRIES

# Longer than a request usually takes; also the longest wait after Ctrl-C.
LONGEST_ENDING_SECONDS = 10.0
SECONDS_BETWEEN_WAKINGS = 1.0

P = ParamSpec("P")
R = TypeVar("R")
logger = logging.getLogger(__name__)


def run_blocking(work: Coroutine[Any, Any, R]) -> R:
    """Run work in the connections' event loop and block this thread until it is done.

    Raises:
        DeadlineExceeded: The run's time limit was reached first.
    """
    limit = current_deadline()
    future = start_in_background(work)
    try:
        while not future.done():
            patience = limit.patience if limit else math.inf
            if limit and not patience:
                raise limit.exceeded()
            # In short waits, so that exceptions thrown into this thread are raised.
            wait([future], min(SECONDS_BETWEEN_WAKINGS, patience))
        return future.result()
    finally:
        # If this thread was interrupted, the work must stop too.
        future.cancel()


class ApiTask(Task[P, R]):
    """A task with an async function that can be called from sync and async code.

    In a sync flow a call returns the result, in an async flow an awaitable; `.submit()` and `.map()` work in both.
    """

    repeats = True
    idempotent = False
    find_done: Callable[..., Awaitable[Any]] | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task; returns the result in sync code, an awaitable in async code."""
        run = cast(Coroutine[Any, Any, R], super().__call__(*args, **kwargs))
        return run if _called_from_async_code() else run_blocking(run)

    async def run(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the task to its end, even if Prefect fails or the caller is cancelled.

        An overloaded Prefect server must not end a run with transfers in flight: if Prefect fails, or outside a flow
        run, the API is called directly. A request that has begun is finished before the caller is cancelled, because
        DigitalOcean may carry out an aborted one anyway.

        Raises:
            Exception: Any exception of the task's function.
        """
        if FlowRunContext.get() is None:
            return await self.directly(*args, **kwargs)
        # A block's name is looked up once, and the attempts below use the same connection.
        connection = kwargs["credentials"] = await _connection_of(kwargs)
        since = connection.client.server_clock.now()
        under_way = asyncio.ensure_future(cast(Awaitable[R], super().__call__(*args, **kwargs)))
        try:
            return await asyncio.shield(under_way)
        except asyncio.CancelledError:
            done, _ = await asyncio.wait([under_way], timeout=LONGEST_ENDING_SECONDS)
            caller = asyncio.current_task()
            if not done or not caller:
                under_way.cancel()
                raise
            # The caller gets the result, and is cancelled at its next await.
            caller.cancel()
            return under_way.result()
        except Exception as error:
            if _was_raised_in(self.fn, error):
                raise
            logger.warning(
                "Prefect could not run the task; calling the API directly: %s: %s", type(error).__name__, error
            )
            # The request may have been sent before Prefect failed.
            done_already = await self.find_done(since, *args, **kwargs) if self.find_done else None
            return await self.directly(*args, **kwargs) if done_already is None else cast(R, done_already)

    async def directly(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the task's function without Prefect, with the same retries."""

        async def call() -> R:
            return await cast(Awaitable[R], self.fn(*args, **kwargs))

        if not self.repeats:
            return await call()
        client = (await _connection_of(kwargs)).client
        return await client.repeating(call, when=lambda error: is_repeated(error, idempotent=self.idempotent))

    def map(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task for each element of its arguments, all with the same credentials."""
        # A block is a pydantic model, which Prefect would take for a list.
        if isinstance(kwargs.get("credentials"), DigitalOceanCredentials):
            kwargs["credentials"] = unmapped(kwargs["credentials"])
        return super().map(*args, **kwargs)

    def with_options(self, **options: Any) -> ApiTask[P, R]:
        """Make a copy with other Prefect options."""
        copy = cast(ApiTask[P, R], super().with_options(**options))
        copy.repeats, copy.idempotent, copy.find_done = self.repeats, self.idempotent, self.find_done
        return copy


async def _connection_of(arguments: Mapping[str, Any]) -> Connection:
    return await aconnect(arguments.get("credentials"))


def _was_raised_in(function: Callable[..., Any], error: BaseException) -> bool:
    """Whether an error was raised in a function, and not by its caller."""
    return any(frame.f_code is function.__code__ for frame, _ in walk_tb(error.__traceback__))


def _called_from_async_code() -> bool:
    """Whether the calling flow or task is async; outside of runs, whether an event loop is running."""
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
    """Decide whether a failed task is retried: only if its request may be sent twice.

    A POST refused with a 403 is not retried: the caller may try other images first.

    Args:
        error: The task's exception; anything else is not retried.
        idempotent: Whether sending it twice has the same effect as sending it once.
    """
    if not isinstance(error, APIError):
        return False
    if idempotent:
        return error.transient
    return error.repeatable and not (isinstance(error, Forbidden) and error.method == "POST")


def _is_retried(task: Task[Any, Any], task_run: TaskRun, state: State[Any]) -> bool:
    """Decide for Prefect, which pauses before the retry; after a 429, the rate limiter pauses longer if needed."""
    error = getattr(state.data, "result", state.data)
    if not isinstance(task, ApiTask) or not task.repeats or not is_repeated(error, idempotent=task.idempotent):
        return False
    if isinstance(error, Forbidden) and error.method != "GET" and task_run.run_count >= MOST_REFUSALS:
        return False
    # The token does not matter: it may come from a block.
    return task_run.run_count <= load_settings(token=SecretStr("unused")).http_retry_max


def api_task(
    *,
    task_run_name: str | Callable[[], str],
    repeats: bool = True,
    idempotent: bool = False,
    find_done: Callable[..., Awaitable[Any]] | None = None,
) -> Callable[[Callable[P, Coroutine[Any, Any, R]]], ApiTask[P, R]]:
    """Make a task of an async function that sends requests.

    Its runs have no tags: for each tag, Prefect asks its server for a concurrency limit before a run begins, one run
    after another. While the server does not respond, that would delay a run's transfers by minutes.

    Args:
        task_run_name: The run's name in the UI.
        repeats: Whether the task as a whole is retried. False for lists, where the client retries the failed page.
        idempotent: Whether sending the request twice has the same effect as sending it once.
        find_done: Called if Prefect failed, perhaps after the request was sent, with the time before the request and
            the task's arguments; returns the result, or None if nothing was done. None for tasks that may be repeated.

    Returns:
        A decorator.
    """

    def decorate(function: Callable[P, Coroutine[Any, Any, R]]) -> ApiTask[P, R]:
        task = ApiTask[P, R](
            function,  # type: ignore[arg-type]  # R is what awaiting it returns
            task_run_name=task_run_name,
            # The condition limits the retries. If Prefect reached this limit itself, it would log a traceback.
            retries=MOST_RETRIES + 1,
            retry_delay_seconds=exponential_backoff(1),
            retry_jitter_factor=0.5,
            retry_condition_fn=_is_retried,
            # The API's state changes, so an earlier response is stale.
            cache_policy=NO_CACHE,
        )
        task.repeats, task.idempotent, task.find_done = repeats, idempotent, find_done
        return task

    return decorate
