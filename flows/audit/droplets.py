"""What protects each Droplet, and what does not: pure functions on what was read from the API."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from math import fsum

from flows.audit.schedule import overdue_since, schedule_of
from flows.replication.recovery_points import Selection, choose_recovery_points, is_tagged, name_of
from flows.reporting.coverage_report import DropletAudit, Finding, FindingKind, UncoveredVolume
from flows.reporting.report import FEW_REGIONS, count
from tasks.digitalocean import BackupPolicy, Droplet, Image, Snapshot, Volume

NO_PLAN, OWN_SNAPSHOTS, UNKNOWN = "none", "own snapshots", "unknown"


@dataclass(frozen=True)
class Account:
    """What is known of an account.

    Attributes:
        droplets: The Droplets to audit.
        images: The account's private images.
        managed_tag: The tag on snapshots that this project made.
        converted: IDs of images that were converted from backups, tagged or not.
        unread: Why some backups cannot be read, by image ID.
        policies: When Droplets are backed up, by Droplet ID; None if unknown.
        volumes: The volumes by ID; None if unknown.
        proven: When restores were last proven, by Droplet ID; None if unknown.
    """

    droplets: Sequence[Droplet]
    images: Sequence[Image]
    managed_tag: str
    converted: Collection[int | None] = ()
    unread: Mapping[int, str] = field(default_factory=dict)
    policies: Mapping[int, BackupPolicy] | None = None
    volumes: Mapping[str, Volume] | None = None
    proven: Mapping[int, datetime] | None = None


@dataclass(frozen=True)
class Objective:
    """What is asked of each Droplet.

    Attributes:
        regions: Slugs of the regions that need a copy.
        max_age_hours: Maximum age of the newest copy in a region; None for no limit.
        max_days_unproven: Maximum age of the last proof that it can be restored; None for no limit.
    """

    regions: Sequence[str]
    max_age_hours: int | None = None
    max_days_unproven: int | None = None


def audit_droplets(
    account: Account, objective: Objective, now: datetime, price_per_gb_month: float = 0.0
) -> tuple[DropletAudit, ...]:
    """Audit each Droplet, the most urgent problems first.

    Args:
        account: What is known.
        objective: What is asked of each Droplet.
        now: The time.
        price_per_gb_month: Monthly price of a GB of snapshots in US dollars; 0 to leave costs out.
    """
    points: dict[int, list[Image]] = {}
    for candidate in newest_points(account, len(account.images)).candidates:
        if candidate.droplet_id is not None:
            points.setdefault(candidate.droplet_id, []).append(candidate.image)
    images = {image.id: image for image in account.images}
    audits = [
        _audit(droplet, points.get(droplet.id, ()), _own_snapshots(droplet, images, account), account, objective, now)
        for droplet in {droplet.id: droplet for droplet in account.droplets}.values()
    ]
    priced = [each.model_copy(update={"snapshots_price": each.snapshots_gb * price_per_gb_month}) for each in audits]
    return tuple(sorted(priced, key=lambda each: (each.urgency, each.droplet)))


def newest_points(account: Account, newest: int = 1) -> Selection:
    """Choose the newest recovery points of each Droplet."""
    selection = choose_recovery_points(
        account.droplets,
        account.images,
        managed_tag=account.managed_tag,
        newest=newest,
        converted=account.converted,
    )
    return replace(selection, missing=account.unread)


def snapshots_of_deleted(account: Account, snapshots: Iterable[Snapshot]) -> list[Snapshot]:
    """List the snapshots that this project made of Droplets that no longer exist, each once."""
    existing = {droplet.id for droplet in account.droplets}
    own = {each.id: each for each in snapshots if is_tagged(each, account.managed_tag)}
    return [each for each in own.values() if each.resource_id not in existing]


def ages_by_region(points: Iterable[Image], regions: Iterable[str], now: datetime) -> dict[str, float | None]:
    """Tell the age of the newest copy in each region, in hours; None if there is none."""
    newest: dict[str, datetime] = {}
    for image in points:
        for region in image.regions:
            newest[region] = max(newest.get(region, image.created_at), image.created_at)
    return {each: (now - newest[each]) / timedelta(hours=1) if each in newest else None for each in regions}


def _audit(
    droplet: Droplet,
    points: Sequence[Image],
    snapshots: Sequence[Image],
    account: Account,
    objective: Objective,
    now: datetime,
) -> DropletAudit:
    policy = account.policies.get(droplet.id) if account.policies is not None else None
    newest = max((image.created_at for image in points), default=None)
    proven_at = account.proven.get(droplet.id) if account.proven is not None else None
    plan, schedule = _plan(policy, droplet, has_snapshots=bool(snapshots))
    following = (policy.next_window if policy else None) or droplet.next_backup_window
    audit = DropletAudit(
        droplet=name_of(droplet),
        droplet_id=droplet.id,
        plan=plan,
        schedule=schedule,
        next_window_start=following.start if following else None,
        newest_at=newest,
        newest_age_hours=(now - newest) / timedelta(hours=1) if newest else None,
        overdue_since=overdue_since(policy, now, newest=newest, created_at=droplet.created_at) if policy else None,
        ages=ages_by_region(points, objective.regions, now),
        proven_at=proven_at,
        volumes=_volumes(droplet, account.volumes),
        snapshots=len(snapshots),
        snapshots_gb=fsum(image.size_gigabytes or 0.0 for image in snapshots),
    )
    unread = any(each in account.unread for each in droplet.backup_ids)
    problems = (
        *_problems_of_copies(audit, objective, droplet.region, has_points=bool(points), unread=unread),
        *_problem_of_proof(audit, objective, now),
        *([Finding(kind=FindingKind.VOLUMES, what=f"no copy of {audit.volumes_text}")] if audit.volumes else []),
    )
    meets = not any(_is_against_objective(each, objective) for each in problems)
    return audit.model_copy(update={"problems": problems, "meets_objective": meets})


def _own_snapshots(droplet: Droplet, images: Mapping[int, Image], account: Account) -> list[Image]:
    """List a Droplet's snapshots that this project made, each once, available or not."""
    own = (images[each] for each in {*droplet.backup_ids, *droplet.snapshot_ids} if each in images)
    return [
        image
        for image in own
        if image.type != "backup" and (image.id in account.converted or is_tagged(image, account.managed_tag))
    ]


def _plan(policy: BackupPolicy | None, droplet: Droplet, *, has_snapshots: bool) -> tuple[str, str]:
    """Name a Droplet's backup plan and its schedule.

    The `features` of a Droplet on a usage-based plan may lack `backups`, so they are not used:
    https://github.com/digitalocean/terraform-provider-digitalocean/issues/1525
    """
    if policy and policy.enabled:
        return policy.plan or UNKNOWN, schedule_of(policy)
    if not policy and (droplet.backup_ids or droplet.next_backup_window):
        return UNKNOWN, UNKNOWN
    name = OWN_SNAPSHOTS if has_snapshots else NO_PLAN if policy else UNKNOWN
    return name, name


def _volumes(droplet: Droplet, known: Mapping[str, Volume] | None) -> tuple[UncoveredVolume, ...]:
    volumes = []
    for each in droplet.volume_ids:
        volume = (known or {}).get(each)
        size = volume.size_gigabytes or None if volume else None
        volumes.append(UncoveredVolume(id=each, name=volume.name if volume else "", size_gib=size))
    return tuple(volumes)


def _problems_of_copies(
    audit: DropletAudit, objective: Objective, region: str, *, has_points: bool, unread: bool
) -> tuple[Finding, ...]:
    """Find out what is wrong with a Droplet's backups and copies."""
    if not has_points:
        return (Finding(kind=FindingKind.NO_BACKUPS, what=_why_no_backups(audit, unread=unread)),)
    found = []
    if audit.overdue_since:
        what = f"backup overdue: none since the window that ended {_shown(audit.overdue_since)}"
        found.append(Finding(kind=FindingKind.OVERDUE, what=what))
    there = [each for each, age in audit.ages.items() if age is not None]
    if missing := [each for each in audit.ages if each not in there]:
        what = f"no copy in {_where(missing, objective)}"
        if there == [region]:
            what = "no copy outside the Droplet's own region"
        elif there and len(missing) > max(FEW_REGIONS, len(there)):
            what = f"no copy in {len(missing)} of {len(audit.ages)} regions, only in {', '.join(there)}"
        found.append(Finding(kind=FindingKind.MISSING_COPY, what=what))
    limit = objective.max_age_hours
    if old := [each for each, age in audit.ages.items() if age is not None and limit is not None and age > limit]:
        where = _where(old, objective) if len(old) < len(there) or not missing else "every region that has one"
        found.append(Finding(kind=FindingKind.OLD_COPY, what=f"newest copy older than {limit} h in {where}"))
    return tuple(found)


def _why_no_backups(audit: DropletAudit, *, unread: bool) -> str:
    if unread:
        return "no backups that can be read"
    if audit.overdue_since:
        return f"no backups, although a {audit.plan} window ended {_shown(audit.overdue_since)}"
    if audit.next_window_start:
        return f"no backups yet; the next window begins {_shown(audit.next_window_start)}"
    return "no backups and no snapshots made by this project"


def _problem_of_proof(audit: DropletAudit, objective: Objective, now: datetime) -> tuple[Finding, ...]:
    days, proven_at = objective.max_days_unproven, audit.proven_at
    if days is None or (proven_at is not None and now - proven_at <= timedelta(days=days)):
        return ()
    return (Finding(kind=FindingKind.UNPROVEN, what=f"no restore proven within {count(days, 'day')}"),)


def _is_against_objective(problem: Finding, objective: Objective) -> bool:
    """Whether a problem means that the objective is missed; others are only reported."""
    ignored = {FindingKind.VOLUMES, FindingKind.OVERDUE if objective.max_age_hours is not None else None}
    return problem.kind not in ignored


def _where(regions: Sequence[str], objective: Objective) -> str:
    everywhere = len(regions) == len(objective.regions) > FEW_REGIONS
    return f"all {len(regions)} regions" if everywhere else ", ".join(regions)


def _shown(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"
