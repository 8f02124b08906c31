"""Rebuilds Droplets in another region from their copies there."""

from contextlib import AbstractContextManager, nullcontext

from prefect import flow

from flows.command_line import run_from_command_line
from flows.hooks import announce_abnormal_end
from flows.image_locks import locked
from flows.names import restore_run_name
from flows.parameters import (
    ApprovalHours,
    DropletTag,
    HowMany,
    NameSuffix,
    OptionalCredentials,
    OptionalDropletIds,
    OptionalImageIds,
    OptionalRegion,
    Region,
    SizeSlug,
    SshKeys,
    Tags,
    TimeoutMinutes,
    VpcUuid,
)
from flows.recovery.approval import Decision, ask_for_approval, check_can_be_asked, decide_again
from flows.recovery.creation import Creation
from flows.recovery.markers import RESTORE
from flows.recovery.preflight import RestorePlan, Wish, plan_restore
from flows.recovery.reading import read_holdings, read_surroundings
from flows.recovery.rows import created_rows, planned_rows
from flows.recovery.sources import choose_sources
from flows.reporting.events import announce_restored
from flows.reporting.restore_report import RestoreReport
from flows.results import explains_result, finish
from tasks.connection import connect
from tasks.digitalocean import InvalidArgument, deadline, track_usage

RESTORE_KEY = "restored-droplets"


@flow(
    name="restore-droplets",
    flow_run_name=restore_run_name,
    on_cancellation=[announce_abnormal_end],
    on_crashed=[announce_abnormal_end],
)
@explains_result
def restore_droplets(
    region: Region,
    from_region: OptionalRegion = None,
    droplet_tag: DropletTag = None,
    droplet_ids: OptionalDropletIds = None,
    image_ids: OptionalImageIds = None,
    size: SizeSlug = None,
    ssh_keys: SshKeys = None,
    vpc_uuid: VpcUuid = None,
    name_suffix: NameSuffix = "-restored",
    copy_tags: bool = True,
    tags: Tags = None,
    max_droplets: HowMany = 25,
    wait: bool = True,
    timeout_minutes: TimeoutMinutes = 60,
    dry_run: bool = True,
    approve: bool = False,
    approval_timeout_hours: ApprovalHours = 12,
    credentials: OptionalCredentials = None,
) -> RestoreReport:
    """Rebuild Droplets in another region, from their newest copies there.

    Also rebuilds Droplets that no longer exist, if a snapshot is left. Changes no existing Droplet. A second run
    creates only what is missing, so it also finishes an interrupted run.

    Args:
        region: The region to rebuild them in, such as fra1.
        from_region: Rebuild only Droplets of this region, such as the one that is down. If not given, of all other
            regions.
        droplet_tag: Only Droplets with this tag; all if not given, except those that are in the region already.
        droplet_ids: Only the Droplets with these IDs, separated by commas or spaces, even if they are in the region
            already.
        image_ids: From these images, one Droplet each, instead of the newest copies. IDs are separated by commas or
            spaces.
        size: The size of all new Droplets, such as s-1vcpu-1gb. If not given, the original's or the cheapest that fits.
        ssh_keys: IDs or fingerprints of SSH keys to add, separated by commas or spaces. Keys that are in the copy stay.
        vpc_uuid: The private network to put them in; the region's default network if not given.
        name_suffix: Appended to the original's name.
        copy_tags: Whether to give them the original's tags. Firewalls and load balancers follow tags.
        tags: Further tags, separated by commas or spaces.
        max_droplets: If more than this would be created, create nothing and fail.
        wait: Whether to wait until the Droplets are active.
        timeout_minutes: Time limit of the whole run, in minutes, at most a week; it starts again after an approval.
            Droplets that are being created by then continue, and the next run finds them.
        dry_run: Only check everything and report what would be created. Turn it off to create Droplets.
        approve: Whether to show the plan in Prefect's UI and create Droplets only once a person has approved it there.
            Needs dry_run off.
        approval_timeout_hours: How many hours to wait for approval, at most a week. Then the run fails.
        credentials: The account: the name of its block of the type DigitalOcean Credentials. If not given, the one
            whose token is in the environment.

    Returns:
        The report, with one row per Droplet.

    Raises:
        Incomplete: Some Droplets were not rebuilt, more than `max_droplets` would be created, or the plan was not
            approved; see its `report`.
        DigitalOceanError: The run could not start: a setting, a parameter or the token is wrong.
    """
    if approve:
        check_can_be_asked(dry_run=dry_run)
    wish = Wish(
        RESTORE, size, tuple(ssh_keys or ()), vpc_uuid, name_suffix, copy_tags=copy_tags, tags=tuple(tags or ())
    )
    connection = connect(credentials)

    def read_plan() -> RestorePlan:
        holdings = read_holdings(connection)
        sources = choose_sources(
            holdings,
            region,
            from_region=from_region,
            droplet_tag=droplet_tag,
            droplet_ids=droplet_ids,
            image_ids=image_ids,
        )
        if not sources:
            raise InvalidArgument(_nothing_found(from_region, droplet_tag))
        return plan_restore(sources, wish, read_surroundings(wish, holdings, connection))

    decision, approved, creation = Decision(), None, None
    with track_usage() as counter:
        if approve:
            with deadline(timeout_minutes * 60):
                plan = approved = read_plan()
            if 0 < len(plan.to_create) <= max_droplets:
                decision = ask_for_approval(plan, approval_timeout_hours)
        if not decision.why_not:
            with (
                deadline(timeout_minutes * 60) as limit,
                nullcontext() if dry_run else _one_run_at_a_time(region, connection.account),
            ):
                plan = read_plan()
                decision = decide_again(approved, plan) if approved else decision
                if not (dry_run or decision.why_not or len(plan.to_create) > max_droplets):
                    limit.lift()
                    creation = Creation(plan, connection, RESTORE, wait=wait)
                    creation.run_to_end(limit.seconds_left)
    rows = created_rows(plan, creation.created, waited=wait) if creation else planned_rows(plan)
    for row in rows:
        announce_restored(row)
    report = RestoreReport(
        rows=rows,
        region=region,
        dry_run=dry_run,
        max_droplets=max_droplets,
        account=connection.account,
        usage=counter.usage,
        why_not_carried_out=decision.why_not,
        rejected=decision.rejected,
        interrupted=creation.interrupted if creation else decision.interrupted,
    )
    return finish(report, RESTORE_KEY)


def _one_run_at_a_time(region: str, account: str) -> AbstractContextManager[None]:
    """Keep other runs from creating the same Droplets during the block."""
    return locked(lambda: None, lambda _: [f"{RESTORE.tag}:{region}"], account)


def _nothing_found(from_region: str | None, droplet_tag: str | None) -> str:
    chosen = [f"was in {from_region}"] if from_region else []
    chosen += [f"had the tag {droplet_tag!r}"] if droplet_tag else []
    if not chosen:
        return "the account has neither Droplets nor snapshots of Droplets"
    return f"nothing to rebuild: no Droplet {' and '.join(chosen)} when it was last recorded"


if __name__ == "__main__":
    run_from_command_line(restore_droplets)
