"""Where the newest recovery points are, how old the copies are, and whether that is good enough."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest
from prefect import State

from deployments.sandbox import BackupPolicy, Droplet, Sandbox, Volume
from flows.replication.run import COVERAGE_KEY
from flows.report_coverage import report_coverage
from flows.reporting.coverage_report import CoverageReport, FindingKind
from tests.end_to_end.accounts import DAY, REGIONS, add_snapshots, backups_of, changes, newest_backups, report_of
from tests.end_to_end.conftest import RunHere
from tests.end_to_end.prefect_server import PrefectView
from tests.end_to_end.test_what_prefect_shows import table_in

# Days in separate months, and so in separate weeks: the default rule keeps these and nothing older.
SEVEN_MONTHS = [35.0 * number for number in range(1, 8)]


@pytest.fixture(autouse=True)
def _away_from_regions(sandbox: Sandbox) -> None:
    """No Droplet is in one of the regions asked for: what is there, a test has put there."""
    assert not {droplet.region for droplet in sandbox.account.droplets.values()} & set(REGIONS)


def coverage_of(state: State[CoverageReport]) -> CoverageReport:
    report = report_of(state)
    assert isinstance(report, CoverageReport)
    return report


def droplets_of(sandbox: Sandbox) -> list[Droplet]:
    return list(sandbox.account.droplets.values())


def remove_backups(sandbox: Sandbox, droplet: Droplet) -> None:
    for image in backups_of(sandbox, droplet):
        sandbox.account.delete_image(image)


def attach_volume(sandbox: Sandbox, droplet: Droplet) -> None:
    volume = Volume(f"volume-{droplet.id}", "pgdata", droplet.region, 100, time.time(), [droplet.id])
    sandbox.account.volumes[volume.id] = volume
    droplet.volume_ids.append(volume.id)


def days(report: CoverageReport, droplet: Droplet) -> dict[str, int | None]:
    """How old a Droplet's copies are, in whole days."""
    ages = {row.region or "": row.age_hours for row in report.rows if row.droplet_id == droplet.id}
    return {region: None if age is None else round(age / 24) for region, age in ages.items()}


def test_each_region_shows_the_age_of_its_newest_copy_even_if_it_is_an_older_one(
    sandbox: Sandbox, prefect_view: PrefectView
) -> None:
    copied, behind = droplets_of(sandbox)
    add_snapshots(sandbox, copied, 0)
    add_snapshots(sandbox, behind, 3, 4, regions=REGIONS[:1])
    add_snapshots(sandbox, behind, 8, regions=REGIONS[:2])
    # Manual snapshots are not recovery points of this project.
    add_snapshots(sandbox, behind, 1, tag=None)
    state = report_coverage(regions=REGIONS, return_state=True)
    assert state.is_completed()
    report = coverage_of(state)
    assert days(report, copied) == dict.fromkeys(REGIONS, 0)
    assert days(report, behind) == {REGIONS[0]: 3, REGIONS[1]: 8, REGIONS[2]: None}
    assert {row.outcome for row in report.rows if row.droplet_id == behind.id} == {"planned"}
    table = table_in(prefect_view.artifacts_of(prefect_view.run_of(state)), COVERAGE_KEY)
    (line,) = [each for each in table if str(behind.id) in each["Droplet"]]
    assert [line[region] for region in REGIONS] == ["○ 3 d", "○ 8 d", "○"]
    (line,) = [each for each in table if str(copied.id) in each["Droplet"]]
    assert {line[region] for region in REGIONS} == {"✓ 0 h"}


@pytest.mark.thorough
def test_the_backup_itself_counts_as_a_copy_in_its_own_region(sandbox: Sandbox) -> None:
    droplet, _ = droplets_of(sandbox)
    newest = backups_of(sandbox, droplet)[0]
    report = coverage_of(report_coverage(regions=[droplet.region], return_state=True))
    (row,) = [each for each in report.rows if each.droplet_id == droplet.id]
    assert row.age_hours == pytest.approx((time.time() - newest.created_at) / 3600, abs=0.1)


@pytest.mark.thorough
def test_a_copy_that_is_not_available_does_not_count(sandbox: Sandbox) -> None:
    droplet, other = droplets_of(sandbox)
    pending, older = add_snapshots(sandbox, droplet, 0, 3)
    add_snapshots(sandbox, other, 0)
    pending.status = "pending"
    report = coverage_of(report_coverage(regions=REGIONS, return_state=True))
    newest_backup = backups_of(sandbox, droplet)[0]
    assert {row.image_id for row in report.rows if row.droplet_id == droplet.id} == {newest_backup.id}
    assert days(report, droplet) == dict.fromkeys(REGIONS, 3)
    state = report_coverage(regions=REGIONS, max_age_hours=24, return_state=True)
    assert "the newest copy here is 72 h old" in str(state.message)
    older.status = "retired"
    assert days(coverage_of(report_coverage(regions=REGIONS, return_state=True)), droplet) == dict.fromkeys(REGIONS)


@pytest.mark.thorough
def test_a_met_objective_succeeds_even_if_copies_are_not_the_newest(sandbox: Sandbox) -> None:
    for droplet in droplets_of(sandbox):
        add_snapshots(sandbox, droplet, 3)
    state = report_coverage(regions=REGIONS, max_age_hours=80, return_state=True)
    assert state.is_completed()
    assert {row.outcome for row in coverage_of(state).rows} == {"planned"}


def test_a_missed_objective_fails_and_says_where_and_by_how_much(sandbox: Sandbox, prefect_view: PrefectView) -> None:
    good, bad = droplets_of(sandbox)
    add_snapshots(sandbox, good, 0)
    add_snapshots(sandbox, bad, 3, regions=REGIONS[:1])
    assert report_coverage(regions=REGIONS, return_state=True).is_completed()
    state = report_coverage(regions=REGIONS, max_age_hours=24, return_state=True)
    assert state.is_failed()
    first = f"{bad.name} ({bad.id}) in {REGIONS[0]}: the newest copy here is 72 h old; the objective is 24 h"
    assert state.message == f"3 of 6 copies are missing or too old (first: {first})"
    report = coverage_of(state)
    assert {row.region: row.error for row in report.bad_rows} == {
        REGIONS[0]: "the newest copy here is 72 h old; the objective is 24 h",
        REGIONS[1]: "no copy here; the objective is 24 h",
        REGIONS[2]: "no copy here; the objective is 24 h",
    }
    assert {row.droplet_id for row in report.bad_rows} == {bad.id}
    log = prefect_view.log_text_of(prefect_view.run_of(state))
    assert "no copy here; the objective is 24 h" in log
    assert "Traceback" not in log
    assert changes(sandbox) == []


@pytest.mark.thorough
def test_droplets_without_backups_fail_the_run_only_if_there_is_an_objective(sandbox: Sandbox) -> None:
    protected, bare = droplets_of(sandbox)
    add_snapshots(sandbox, protected, 0)
    remove_backups(sandbox, bare)
    without = report_coverage(regions=REGIONS, return_state=True)
    assert without.is_completed()
    assert coverage_of(without).without_backups == (f"{bare.name} ({bare.id})",)
    state = report_coverage(regions=REGIONS, max_age_hours=24, return_state=True)
    assert state.is_failed()
    assert state.message == f"no backups of {bare.name} ({bare.id})"
    assert coverage_of(state).bad_rows == ()


def test_all_missed_objectives_are_reported_at_once(sandbox: Sandbox) -> None:
    _, bare = droplets_of(sandbox)
    remove_backups(sandbox, bare)
    state = report_coverage(regions=REGIONS[:1], max_age_hours=24, return_state=True)
    assert str(state.message).startswith("1 of 1 copies are missing or too old (first: ")
    assert str(state.message).endswith(f"; no backups of {bare.name} ({bare.id})")


def test_snapshots_that_the_default_rule_does_not_keep_are_counted_if_they_may_be_deleted(
    sandbox: Sandbox, prefect_view: PrefectView
) -> None:
    safe, unsafe = droplets_of(sandbox)
    add_snapshots(sandbox, safe, 0, *SEVEN_MONTHS, 300)
    # Here the newest backup is nowhere else: nothing may go.
    add_snapshots(sandbox, unsafe, 2, *SEVEN_MONTHS, 300)
    state = report_coverage(regions=REGIONS, return_state=True)
    assert state.is_completed()
    report = coverage_of(state)
    assert (report.unkept, report.unkept_gb) == (2, 5.0)
    assert "2 snapshots (5 GB) that no rule keeps; " in str(state.message)
    description = str(prefect_view.artifacts_of(prefect_view.run_of(state))[COVERAGE_KEY].description)
    assert r"2 snapshots \(5 GB\) that no rule keeps" in description
    assert f"; {report.usage.requests} API requests, 0 answered with 429" in str(state.message)
    assert changes(sandbox) == []


def test_each_list_is_read_once(sandbox: Sandbox) -> None:
    report_coverage(regions=REGIONS, return_state=True)
    paths = [seen.path for seen in sandbox.record.requests]
    assert len(paths) == len(set(paths))


def test_without_permission_to_list_snapshots_the_ages_of_copies_are_known_from_the_images(
    start_with_behavior: Callable[..., Sandbox], prefect_view: PrefectView
) -> None:
    sandbox = start_with_behavior(out_of_scope=frozenset({"/v2/snapshots"}))
    copied, behind = droplets_of(sandbox)
    add_snapshots(sandbox, copied, 0, *SEVEN_MONTHS, 300)
    add_snapshots(sandbox, behind, 3)
    state = report_coverage(regions=REGIONS, return_state=True)
    assert state.is_completed()
    report = coverage_of(state)
    assert days(report, copied) == dict.fromkeys(REGIONS, 0)
    assert days(report, behind) == dict.fromkeys(REGIONS, 3)
    assert report.unkept == 0
    log = prefect_view.log_text_of(prefect_view.run_of(state))
    assert "Snapshots of deleted Droplets, and those that no rule keeps, are not counted: GET /v2/snapshots: 403" in log


@pytest.mark.thorough
def test_a_tag_filters_the_entire_report(sandbox: Sandbox) -> None:
    wanted, other = droplets_of(sandbox)
    add_snapshots(sandbox, wanted, 0)
    add_snapshots(sandbox, other, 0, *SEVEN_MONTHS)
    sandbox.account.tag(sandbox.account.tags["dr"], "droplet", wanted)
    if "dr" in other.tags:
        sandbox.account.untag(sandbox.account.tags["dr"], "droplet", other)
    state = report_coverage("dr", REGIONS, max_age_hours=1, return_state=True)
    assert state.is_completed()
    report = coverage_of(state)
    assert {row.droplet_id for row in report.rows} == {wanted.id}
    assert report.unkept == 0


@pytest.mark.thorough
def test_a_report_changes_nothing(sandbox: Sandbox) -> None:
    newest = newest_backups(sandbox)
    add_snapshots(sandbox, droplets_of(sandbox)[0], 0, *SEVEN_MONTHS, 300)
    report = coverage_of(report_coverage(return_state=True))
    assert {image.type for image in newest} == {"backup"}
    assert {seen.method for seen in sandbox.record.requests} == {"GET"}
    assert report.usage.requests == len(sandbox.record.requests)


def test_an_account_without_any_backups_gets_a_report_with_problems(
    sandbox: Sandbox, prefect_view: PrefectView
) -> None:
    for droplet in droplets_of(sandbox):
        remove_backups(sandbox, droplet)
        droplet.backup_policy = None
    state = report_coverage(regions=REGIONS, return_state=True)
    assert state.is_completed()
    report = coverage_of(state)
    assert str(state.message).startswith("0 of 2 Droplets have a copy in all 3 regions and no overdue backup; ")
    assert {each.plan for each in report.droplets} == {"none"}
    assert {each.has(FindingKind.NO_BACKUPS) for each in report.droplets} == {True}
    (problem,) = report.problem_lines
    assert problem.startswith("No backups and no snapshots made by this project: ")
    table = table_in(prefect_view.artifacts_of(prefect_view.run_of(state)), COVERAGE_KEY)
    assert [line["Image"] for line in table] == ["no backups", "no backups"]
    assert report_coverage(regions=REGIONS, max_age_hours=24, return_state=True).is_failed()


@pytest.mark.thorough
def test_own_snapshots_protect_a_droplet_without_paid_backups(sandbox: Sandbox) -> None:
    paid, unpaid = droplets_of(sandbox)
    add_snapshots(sandbox, paid, 0)
    remove_backups(sandbox, unpaid)
    unpaid.backup_policy = None
    add_snapshots(sandbox, unpaid, 0)
    state = report_coverage(regions=REGIONS, max_age_hours=24, return_state=True)
    assert state.is_completed()
    assert {each.droplet_id: each.plan for each in coverage_of(state).droplets} == {
        paid.id: "daily",
        unpaid.id: "own snapshots",
    }


def test_backup_plans_are_shown_with_their_windows_and_unknown_ones_as_they_are(sandbox: Sandbox) -> None:
    weekly, other = droplets_of(sandbox)
    weekly.backup_policy = BackupPolicy.weekly(20, "SUN")
    other.backup_policy = BackupPolicy.usage_based(6)
    schedules = {each.droplet_id: each.schedule for each in coverage_of(report_coverage(return_state=True)).droplets}
    assert schedules == {weekly.id: "weekly SUN 20:00", other.id: "intra_daily_6h"}


def test_a_backup_is_overdue_if_its_window_has_passed_without_one(sandbox: Sandbox) -> None:
    late, punctual = droplets_of(sandbox)
    for image in backups_of(sandbox, late):
        image.created_at -= 3 * DAY
    # A converted backup is no longer on the Droplet's list of backups.
    newest = backups_of(sandbox, punctual)[0]
    remove_backups(sandbox, punctual)
    add_snapshots(sandbox, punctual, (time.time() - newest.created_at) / DAY)
    report = coverage_of(report_coverage(return_state=True))
    assert {each.droplet_id: each.overdue_since is not None for each in report.droplets} == {
        late.id: True,
        punctual.id: False,
    }
    assert report.problem_lines[0].startswith("Backup overdue: none since the window that ended ")
    assert not next(each for each in report.droplets if each.droplet_id == late.id).meets_objective


@pytest.mark.parametrize("odd", ["/v2/droplets/backups/policies", "/v2/volumes", "/v2/tags"])
@pytest.mark.thorough(after=1)
def test_a_list_that_the_token_may_not_read_is_a_note(
    start_with_behavior: Callable[..., Sandbox], prefect_view: PrefectView, odd: str
) -> None:
    sandbox = start_with_behavior(out_of_scope=frozenset({odd}))
    for droplet in droplets_of(sandbox):
        add_snapshots(sandbox, droplet, 0)
        attach_volume(sandbox, droplet)
    state = report_coverage(regions=REGIONS, max_age_hours=24, return_state=True)
    assert state.is_completed()
    assert {each.volumes_text for each in coverage_of(state).droplets} == {
        "1 volume" if odd == "/v2/volumes" else "pgdata (100 GiB)"
    }
    assert [note for note in coverage_of(state).notes if f"GET {odd}: 403" in note]


@pytest.mark.thorough
def test_the_snapshots_of_deleted_droplets_are_in_the_costs(sandbox: Sandbox) -> None:
    kept, deleted = droplets_of(sandbox)
    add_snapshots(sandbox, kept, 0, 1)
    add_snapshots(sandbox, deleted, 0)
    del sandbox.account.droplets[deleted.id]
    report = coverage_of(report_coverage(regions=REGIONS, return_state=True))
    assert [(each.snapshots, each.snapshots_gb) for each in report.droplets] == [(2, 5.0)]
    assert report.droplets[0].snapshots_price == pytest.approx(0.3)
    assert (report.of_deleted, report.of_deleted_gb) == (1, 2.5)
    assert "3 snapshots made by this project: 7.5 GB, $0.45 a month (including 1 of deleted Droplets" in report.summary


def test_as_json_the_output_is_the_report_and_the_status_the_same(sandbox: Sandbox, run_here: RunHere) -> None:
    add_snapshots(sandbox, droplets_of(sandbox)[0], 0)
    done = run_here(report_coverage, "--json", "--regions", *REGIONS, "--max-age-hours", "24")
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert report["headline"] == "1 of 2 Droplets has a copy in all 3 regions that is at most 24 h old"
    assert len(report["droplets"]) == 2
    assert CoverageReport.model_validate(report).bad_rows
    assert "Failed: 3 of 6 copies are missing or too old" in done.stderr


@pytest.mark.thorough
def test_a_missed_objective_exits_with_1_and_prints_table_and_reason(sandbox: Sandbox, run_here: RunHere) -> None:
    add_snapshots(sandbox, droplets_of(sandbox)[0], 0)
    done = run_here(report_coverage, "--regions", *REGIONS, "--max-age-hours", "24")
    assert done.returncode == 1
    assert "✓ 0 h" in done.stdout
    assert "Failed: 3 of 6 copies are missing or too old" in done.stderr
    assert "Traceback" not in done.stderr
    assert run_here(report_coverage, "--max-age-hours", "0").returncode != 0
