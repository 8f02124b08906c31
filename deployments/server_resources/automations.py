"""The automations: they notify when a run has failed, died or waits for approval, or if no nightly run completes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ActionTypes, ChangeFlowRunState, DoNothing, SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture, TriggerTypes
from prefect.events.schemas.events import ResourceSpecification

from deployments.server_resources.server_resource import MISSING, SetupError, if_exists
from flows.names import FLOWS
from flows.ping import NIGHTLY
from flows.prefect_settings import DEAD_AFTER
from tasks.accounts import DEFAULT_ACCOUNT, RUNS_OF_ACCOUNTS, for_account, prefix_of_runs

# A day, plus two hours for a run that takes longer than the one before.
LONGEST_SILENCE = timedelta(hours=26)
RUNS = ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"})
OF_THESE_FLOWS = ResourceSpecification({"prefect.resource.role": "flow", "prefect.resource.name": list(FLOWS)})
HEARTBEAT = "prefect.flow-run.heartbeat"
# As prefect.yaml names the trigger of replicate-backups/after-backup.
EVENT_TRIGGER = "Copy backups as soon as they are complete"
ENDS = {f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Crashed", "Cancelled", "TimedOut")}


@dataclass(frozen=True)
class AutomationResource:
    """An automation.

    Attributes:
        automation: Its name.
        action: What it does; None to notify through `block`.
        block: The block that notifies, as `type/name`; None to keep the action of an existing automation.
        body: Body of the notification; a Jinja template.
    """

    automation: str
    description: str
    trigger: TriggerTypes
    action: ActionTypes | None = None
    block: str | None = None
    subject: str = ""
    body: str = ""

    @property
    def name(self) -> str:
        """Its name in messages."""
        return f"automation {self.automation!r}"

    async def diff(self, client: PrefectClient) -> str:
        """Say what differs on the server; empty if nothing does."""
        found = await client.read_automations_by_name(self.automation)
        if not found:
            return MISSING
        wanted = await self._wanted(client)
        if not found[0].enabled:
            return "switched off"
        if found[0].trigger.model_dump(exclude={"id"}) != wanted.trigger.model_dump(exclude={"id"}):
            return "trigger differs"
        return "" if found[0].actions == wanted.actions or not (self.block or self.action) else "action differs"

    async def apply(self, client: PrefectClient) -> None:
        """Create or update the automation."""
        wanted = await self._wanted(client)
        found = await client.read_automations_by_name(self.automation)
        if not found:
            await client.create_automation(wanted)
            return
        if not (self.block or self.action):
            wanted = wanted.model_copy(update={"actions": found[0].actions})
        await client.update_automation(found[0].id, wanted)

    async def _wanted(self, client: PrefectClient) -> AutomationCore:
        return AutomationCore(
            name=self.automation,
            description=self.description,
            # The default, stated because an update changes only what is stated.
            enabled=True,
            trigger=self.trigger,
            actions=[self.action or await self._notification(client)],
        )

    async def _notification(self, client: PrefectClient) -> ActionTypes:
        if not self.block:
            return DoNothing()
        kind, _, name = self.block.partition("/")
        block = await if_exists(client.read_block_document_by_name(name, kind))
        if not name or block is None or block.id is None:
            raise SetupError(
                f"notification block {self.block!r} does not exist: create one in Prefect's UI, under Blocks"
            )
        return SendNotification(block_document_id=block.id, subject=self.subject, body=self.body)


def automations(
    block: str | None,
    account: str = DEFAULT_ACCOUNT,
    *,
    nightly: bool = True,
    silence: timedelta = LONGEST_SILENCE,
    dead_after: timedelta = DEAD_AFTER,
) -> list[AutomationResource]:
    """List the automations for the runs of an account. One is for all accounts: it ends dead runs.

    Args:
        block: The block that notifies, as `type/name`; None to notify no one.
        account: The account.
        nightly: Whether the account has a nightly deployment.
        silence: How long no nightly run may complete before a notification is sent.
        dead_after: How long a run may send no heartbeat before it is set to Crashed.
    """
    only_default = [_no_run(block)] if account == DEFAULT_ACCOUNT else []
    return [
        _failed(account, block),
        *only_default,
        _waiting(account, block),
        *([_silent(account, block, silence)] if nightly else []),
        _died(dead_after),
    ]


def _named(name: str, account: str) -> str:
    return name if account == DEFAULT_ACCOUNT else f"{name} ({account})"


def _runs_of(account: str) -> ResourceSpecification:
    """Match the runs of an account by their names; the default account's are all whose names are of no other."""
    names = f"!{RUNS_OF_ACCOUNTS}*" if account == DEFAULT_ACCOUNT else f"{prefix_of_runs(account)}*"
    return ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*", "prefect.resource.name": names})


def _failed(account: str, block: str | None) -> AutomationResource:
    return AutomationResource(
        _named("A copy of backups has failed", account),
        "A run that copies, converts or reports has failed, crashed or timed out. See the run for what to do.",
        EventTrigger(
            expect={f"prefect.flow-run.{state}" for state in ("Failed", "Crashed", "TimedOut")},
            match=_runs_of(account),
            match_related=OF_THESE_FLOWS,
            posture=Posture.Reactive,
        ),
        block=block,
        subject="Backups: {{ flow_run.name }} {{ flow_run.state.name }}",
        body="{{ flow_run.state.message }}\n\n{{ flow_run | ui_url }}",
    )


def _no_run(block: str | None) -> AutomationResource:
    return AutomationResource(
        "An event has started no run",
        "The payload of `backup.completed` is not valid, or a run could not be created.",
        EventTrigger(
            expect={"prefect.automation.action.failed"},
            match=ResourceSpecification({"prefect.resource.name": EVENT_TRIGGER}),
            posture=Posture.Reactive,
        ),
        block=block,
        subject="Backups: an event has started no run",
        body="{{ event.payload.reason }}\n\n"
        "The payload of backup.completed may contain image_ids, droplet_tag and credentials.",
    )


def _waiting(account: str, block: str | None) -> AutomationResource:
    return AutomationResource(
        _named("A rebuild waits for approval", account),
        "A run with `approve` has paused: it creates Droplets once a person has approved its plan.",
        EventTrigger(
            expect={"prefect.flow-run.Paused"},
            match=_runs_of(account),
            match_related=OF_THESE_FLOWS,
            posture=Posture.Reactive,
        ),
        block=block,
        subject="Backups: {{ flow_run.name }} waits for approval",
        body="To see its plan, press Resume at {{ flow_run | ui_url }}",
    )


def _silent(account: str, block: str | None, silence: timedelta) -> AutomationResource:
    hours = silence / timedelta(hours=1)
    nightly = for_account(NIGHTLY, account)
    return AutomationResource(
        _named("No copy of backups for a day", account),
        f"No run of a deployment named {nightly} has completed within {hours:g} hours: the "
        "schedule is paused, no worker is running, or every run fails.",
        EventTrigger(
            expect={"prefect.flow-run.Completed"},
            match=RUNS,
            match_related=ResourceSpecification(
                {"prefect.resource.role": "deployment", "prefect.resource.name": nightly}
            ),
            posture=Posture.Proactive,
            within=silence,
        ),
        block=block,
        subject=_named("Backups: no nightly copy has completed", account),
        body=f"No nightly run has completed within {hours:g} hours. Is a worker running? Is the schedule on?",
    )


def _died(dead_after: timedelta) -> AutomationResource:
    return AutomationResource(
        "A copy of backups has died",
        "A run whose process has died sends no heartbeats; without this automation it would be shown as running.",
        EventTrigger(
            after={HEARTBEAT},
            expect={HEARTBEAT, *ENDS},
            match=RUNS,
            match_related=OF_THESE_FLOWS,
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            within=dead_after,
        ),
        action=ChangeFlowRunState(
            state=StateType.CRASHED,
            message=f"Its process is gone: no heartbeat for {dead_after.total_seconds() / 60:g} minutes. "
            "The next run copies what is still missing.",
        ),
    )
