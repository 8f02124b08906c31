"""Asks a person whether to carry out a plan, in Prefect's UI.

The run is Paused meanwhile. Its process stays and sends heartbeats, and it locks nothing.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast
from uuid import UUID, uuid4

import httpx
from prefect import State, get_run_logger
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext
from prefect.exceptions import ObjectNotFound
from prefect.input import RunInput, keyset_from_paused_state
from prefect.input.actions import acreate_flow_run_input, ensure_flow_run_id
from prefect.input.run_input import Keyset
from prefect.settings import PREFECT_API_URL
from prefect.states import Paused
from prefect.utilities.urls import url_for
from pydantic import Field

from flows.parameters import ContradictoryParameters
from flows.recovery.plan_changes import plan_changes
from flows.recovery.preflight import RestorePlan
from flows.recovery.rows import planned_rows
from flows.reporting.report import count
from flows.reporting.tables import plan_markdown
from tasks.api_task import run_blocking
from tasks.prefect_client import PREFECT_ERRORS, client_without_retries

SECONDS_BETWEEN_POLLS = 5
LONGEST_POLL_SECONDS = 20.0
# When the pause expires, Prefect's server sets the run to Failed with a message of its own. So it expires after the run
# has ended itself, even if the server is away at that moment.
EXPIRES_LATER = timedelta(hours=1)
MOST_CHANGES_NAMED = 3


class Approval(RunInput):
    """The form that Prefect's UI shows when the run is resumed."""

    # Required, because Prefect fails a run that is resumed with an empty form.
    create: bool = Field(
        title="Create these Droplets",
        description="Turn it on to approve. If off, the run ends and creates nothing.",
    )
    reason: str = Field("", title="Reason", description="Why you reject the plan. The run's result shows it.")

    @classmethod
    async def asave(cls, keyset: Keyset, flow_run_id: UUID | None = None) -> None:
        """Save the form, except for what an earlier request whose response was lost has saved.

        The schema comes last: without it, nobody can answer, so nobody answers before the plan is there.
        """
        for key, value in ((keyset["description"], cls._description), (keyset["schema"], cls.model_json_schema())):
            try:
                await acreate_flow_run_input(key=key, value=value, flow_run_id=flow_run_id)
            except httpx.HTTPStatusError as error:
                if error.response.status_code != httpx.codes.CONFLICT:
                    raise


class NoLongerPaused(Exception):
    """A run was cancelled, or ended in another way, while it waited for an answer."""


@dataclass(frozen=True)
class Decision:
    """Whether a plan is carried out.

    Attributes:
        why_not: Why it is not carried out; empty if it is.
        rejected: Whether a person has decided against it.
        interrupted: Whether that was Ctrl-C.
    """

    why_not: str = ""
    rejected: bool = False
    interrupted: bool = False


def check_can_be_asked(*, dry_run: bool) -> None:
    """Make sure that somebody can approve a plan, and that it would then be carried out.

    Raises:
        ContradictoryParameters: Nobody can, or it would not.
    """
    if dry_run:
        raise ContradictoryParameters(
            "approve asks before it creates Droplets, and a dry run creates none: turn off either dry_run or approve"
        )
    if not PREFECT_API_URL.value():
        raise ContradictoryParameters(
            "approve needs a Prefect server in whose UI a person can answer: set PREFECT_API_URL, or turn off approve"
        )


def ask_for_approval(plan: RestorePlan, timeout_hours: int) -> Decision:
    """Pause the flow run until a person approves or rejects a plan in Prefect's UI.

    Args:
        plan: What would be created.
        timeout_hours: How long to wait.
    """
    hours = count(timeout_hours, "hour")
    context = FlowRunContext.get()
    link = url_for(context.flow_run) if context and context.flow_run else None
    get_run_logger().info("Waiting up to %s for approval: press Resume at %s", hours, link)
    try:
        answer = run_blocking(_answer(plan, timeout_hours * 3600))
    except NoLongerPaused as error:
        return Decision(str(error), rejected=True)
    except KeyboardInterrupt:
        return Decision("the run was interrupted before the plan was approved", rejected=True, interrupted=True)
    if answer is None:
        return Decision(f"nobody approved the plan within {hours} (approval_timeout_hours)")
    if not answer.create:
        reason = f": {answer.reason.strip()}" if answer.reason.strip() else ""
        return Decision(f"the plan was not approved{reason}", rejected=True)
    return Decision()


def decide_again(approved: RestorePlan, now: RestorePlan) -> Decision:
    """Decide whether an approval covers the plan that was computed again after it."""
    changes = plan_changes(approved, now)
    if not changes:
        return Decision()
    more = len(changes) - MOST_CHANGES_NAMED
    named = [*changes[:MOST_CHANGES_NAMED], *([f"and {more} more"] if more > 0 else [])]
    return Decision(
        f"the plan has changed since it was approved ({'; '.join(named)}): start another run to see the new one"
    )


async def _answer(plan: RestorePlan, timeout_seconds: float) -> Approval | None:
    """Pause the flow run until there is an answer; None if there is none in time."""
    form = Approval.with_initial_data(description=plan_markdown(planned_rows(plan)))
    try:
        async with asyncio.timeout(timeout_seconds):
            keyset = await _pause(timedelta(seconds=timeout_seconds) + EXPIRES_LATER)
            await form.asave(keyset)
            return await _answer_to_pause(form, keyset)
    except TimeoutError:
        return None


async def _pause(longest: timedelta) -> Keyset:
    """Set the flow run to Paused, and return the keys of its form."""
    # A key of its own, because Prefect pauses a run only once for each key, and a run that is retried asks again.
    paused: State[Any] = Paused(timeout_seconds=int(longest.total_seconds()), pause_key=str(uuid4()))
    keyset = keyset_from_paused_state(paused)
    paused.state_details.run_input_keyset = cast(dict[str, str], keyset)
    async with get_client() as client:
        # If the response is lost, the repeated request is refused, because the run is Paused already.
        result = await client.set_flow_run_state(ensure_flow_run_id(), paused)
    if not (result.state and result.state.is_paused()):
        raise RuntimeError(f"the run could not be paused for approval: {result.details}")
    return keyset


async def _answer_to_pause(form: type[Approval], keyset: Keyset) -> Approval:
    """Wait for the answer, however long Prefect's server is away meanwhile.

    `prefect.flow_runs.apause_flow_run` waits as well, but with the retries of Prefect's client: it would not see the
    answer for minutes after an outage, and would fail if the outage was longer than all retries.

    Raises:
        NoLongerPaused: The run was cancelled or has ended. After an outage of half a minute, Prefect's worker no longer
            ends the processes of cancelled runs ("Flow run cancellation disabled").
        ObjectNotFound: The run was deleted, so no answer can arrive.
    """
    while True:
        try:
            async with client_without_retries(LONGEST_POLL_SECONDS) as client:
                state = (await client.read_flow_run(ensure_flow_run_id())).state
                if state and state.is_running():
                    return await form.aload(keyset)
                if state and (state.is_cancelling() or state.is_final()):
                    how = "cancelled" if state.is_cancelling() else f"set to {state.name}"
                    raise NoLongerPaused(f"the run was {how} before the plan was approved")
        except ObjectNotFound:
            raise
        except PREFECT_ERRORS as error:
            get_run_logger().debug("Prefect's server does not answer: %s", str(error) or type(error).__name__)
        await asyncio.sleep(SECONDS_BETWEEN_POLLS)
