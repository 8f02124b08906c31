"""Rebuilds some Droplets from their copies, away from home, to prove that it works, and destroys them again."""

from contextlib import nullcontext

from prefect import flow

from flows.command_line import run_from_command_line
from flows.hooks import announce_abnormal_end
from flows.image_locks import locked
from flows.names import drill_run_name
from flows.parameters import (
    DropletTag,
    HowMany,
    OptionalCredentials,
    OptionalPort,
    Regions,
    Sample,
    SizeSlug,
    TimeoutMinutes,
)
from flows.recovery.destruction import Destruction, destroy_drills, not_destroyed
from flows.recovery.drills import Choice, choose_drills
from flows.recovery.isolation import isolate_drills, isolation_tag
from flows.recovery.markers import DRILL
from flows.recovery.preflight import Wish, plan_restore
from flows.recovery.reading import read_holdings, read_surroundings
from flows.recovery.recording import record_proofs
from flows.recovery.trial import Trial, planned_rows
from flows.reporting.drill_report import DrillReport
from flows.results import explains_result, finish
from tasks.connection import connect
from tasks.digitalocean import InvalidArgument, deadline, track_usage

DRILL_KEY = "restore-drill"


@flow(
    name="drill-restore",
    flow_run_name=drill_run_name,
    on_cancellation=[announce_abnormal_end],
    on_crashed=[announce_abnormal_end],
)
@explains_result
def drill_restore(
    droplet_tag: DropletTag = None,
    regions: Regions = None,
    sample: Sample = 1,
    size: SizeSlug = None,
    probe_port: OptionalPort = None,
    timeout_minutes: TimeoutMinutes = 60,
    max_droplets: HowMany = 5,
    isolate: bool = True,
    dry_run: bool = False,
    credentials: OptionalCredentials = None,
) -> DrillReport:
    """Rebuild some Droplets from their copies in other regions, prove that they start, and destroy them again.

    A rebuilt Droplet is a copy of production, with its cron jobs, mail and credentials. By default, a cloud firewall
    isolates it: no outbound traffic, and inbound only on the probe port.

    Args:
        droplet_tag: Only Droplets with this tag; all if not given.
        regions: The regions to rebuild them in, separated by commas or spaces; any that holds a copy if not given.
        sample: How many Droplets, 1 to 100. Those that were proven longest ago come first.
        size: The size of the new Droplets, such as s-1vcpu-1gb. If not given, the original's or the cheapest that fits.
        probe_port: A TCP port that has to answer on the new Droplet's public address. If not given, it is enough that
            the Droplet becomes active.
        timeout_minutes: Time limit until the Droplets are active and answer, in minutes, at most a week.
        max_droplets: If more than this would be created, create nothing and fail.
        isolate: Whether a cloud firewall isolates the new Droplets.
        dry_run: Only report which Droplets would be rebuilt, and where; change nothing.
        credentials: The account: the name of its block of the type DigitalOcean Credentials. If not given, the one
            whose token is in the environment.

    Returns:
        The report, with one row per Droplet.

    Raises:
        Incomplete: A Droplet was not proven, or not destroyed; see its `report`.
        DigitalOceanError: The run could not start: a setting, a parameter or the token is wrong.
    """
    connection = connect(credentials)
    wish = Wish(DRILL, size, name_suffix="-drill", tags=(isolation_tag(probe_port),) if isolate else ())
    with (
        track_usage() as counter,
        deadline(timeout_minutes * 60) as limit,
        # One drill at a time: each begins by destroying what earlier ones have left.
        nullcontext() if dry_run else locked(lambda: None, lambda _: [DRILL.tag], connection.account),
    ):
        earlier = Destruction({}) if dry_run else destroy_drills(connection)
        holdings = read_holdings(connection)
        choice = choose_drills(holdings, droplet_tag=droplet_tag, regions=regions, sample=sample)
        if not choice.sources and not earlier.leftovers:
            raise InvalidArgument(_nothing_found(choice, droplet_tag))
        there = read_surroundings(wish, holdings, connection)
        plan = plan_restore(choice.sources, wish, there)
        trial, destruction, not_recorded = Trial(plan, probe_port, connection), earlier, ""
        if dry_run or earlier.leftovers or len(plan.to_create) > max_droplets:
            rows = planned_rows(plan)
        else:
            if isolate:
                isolate_drills(probe_port, connection)
            limit.lift()
            try:
                trial.run(limit)
            finally:
                destruction = destroy_drills(connection, trial.droplets)
            rows = trial.rows(destruction.destroyed_at)
            not_recorded = record_proofs(trial.proofs(connection.client.server_clock.now()), connection)
    report = DrillReport(
        rows=rows,
        not_destroyed=tuple(not_destroyed(each, there.sizes) for each in destruction.leftovers),
        not_recorded=not_recorded,
        cleaned_up=len(earlier.destroyed_at),
        unprotected=choice.unprotected,
        dry_run=dry_run,
        max_droplets=max_droplets,
        account=connection.account,
        usage=counter.usage,
        interrupted=trial.interrupted,
    )
    return finish(report, DRILL_KEY)


def _nothing_found(choice: Choice, droplet_tag: str | None) -> str:
    if choice.unprotected:
        return f"nothing to prove: none of {len(choice.unprotected)} Droplets has a copy outside its own region"
    return f"no Droplet has the tag {droplet_tag!r}" if droplet_tag else "the account has no Droplets"


if __name__ == "__main__":
    run_from_command_line(drill_restore)
