"""When a Droplet should have been backed up: pure functions on its backup policy."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from tasks.digitalocean import BackupPolicy, BackupWindow

# Within the window a backup begins: https://docs.digitalocean.com/reference/api/digitalocean/#operation/droplets_get.
# How long one takes is not documented; copies of an image take one to two minutes per GB.
BACKUP_TAKES = timedelta(hours=4)
USUAL_WINDOW = timedelta(hours=4)
WEEKDAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
DAY, WEEK = timedelta(days=1), timedelta(weeks=1)
A_MONDAY = datetime(1970, 1, 5, tzinfo=UTC)
# Usage-based plans are not documented; this is a name that the API accepts: https://github.com/digitalocean/godo/pull/997
INTRA_DAILY = re.compile(r"intra_daily_(4|6|12)h")


def overdue_since(
    policy: BackupPolicy, now: datetime, *, newest: datetime | None, created_at: datetime | None = None
) -> datetime | None:
    """Tell since when a backup is overdue.

    Args:
        policy: The Droplet's backup policy.
        now: The time.
        newest: When its newest backup was made, even if that was converted to a snapshot since; None if it has none.
        created_at: When the Droplet was created; None if unknown.

    Returns:
        The end of the last window, if that has passed without a backup; None if the backup is not overdue, or if the
        plan does not tell.
    """
    window = last_window(policy, now - BACKUP_TAKES) if policy.enabled else None
    if window is None or (newest and newest >= window.start) or (created_at and created_at > window.start):
        return None
    return window.end


def last_window(policy: BackupPolicy, at: datetime) -> BackupWindow | None:
    """Find the last window that had ended at a time; None if the plan does not tell."""
    following, interval = policy.next_window, _interval(policy)
    if interval is None:
        return following if following and following.end <= at else None
    begins = following.start if following else _a_beginning(policy)
    if begins is None:
        return None
    length = _length(policy)
    begins += (at - length - begins) // interval * interval
    return BackupWindow(start=begins, end=begins + length)


def schedule_of(policy: BackupPolicy) -> str:
    """Such as `daily 20:00` or `weekly SUN 20:00`; the name of any other plan."""
    if policy.plan not in ("daily", "weekly"):
        return policy.plan or "unknown"
    hour = "" if policy.hour is None else f"{policy.hour:02}:00"
    return " ".join(each for each in (policy.plan, policy.weekday, hour) if each)


def _interval(policy: BackupPolicy) -> timedelta | None:
    """The time between two windows; None if unknown."""
    if found := INTRA_DAILY.fullmatch(policy.plan):
        return timedelta(hours=int(found[1]))
    return {"daily": DAY, "weekly": WEEK}.get(policy.plan)


def _a_beginning(policy: BackupPolicy) -> datetime | None:
    """The beginning of any of its windows; None if the policy does not tell."""
    if policy.hour is None or (policy.plan == "weekly" and policy.weekday not in WEEKDAYS):
        return None
    days = WEEKDAYS.index(policy.weekday) if policy.plan == "weekly" else 0
    return A_MONDAY + timedelta(days=days, hours=policy.hour)


def _length(policy: BackupPolicy) -> timedelta:
    following = policy.next_window
    if following and following.end > following.start:
        return following.end - following.start
    return timedelta(hours=policy.window_length_hours) if policy.window_length_hours else USUAL_WINDOW
