"""The coverage reports of several accounts as one."""

from __future__ import annotations

from flows.audit.accounts import merge_reports
from flows.reporting.coverage_report import CoverageReport, DropletAudit, Finding, FindingKind
from flows.reporting.report import Outcome, Row
from flows.reporting.tables import artifact_description, artifact_table
from flows.reporting.terminal import text_of

UNPROVEN = Finding(kind=FindingKind.UNPROVEN, what="no restore proven")
WITHOUT = Finding(kind=FindingKind.NO_BACKUPS, what="no backups")


def report(account: str, *, regions: tuple[str, ...] = ("fra1",), protected: bool = True) -> CoverageReport:
    """The report on an account with one Droplet, which has the same name and ID in all of them."""
    return CoverageReport(
        account=account,
        droplets=(
            DropletAudit(
                droplet="web-01 (7)",
                droplet_id=7,
                plan="daily",
                meets_objective=protected,
                problems=(UNPROVEN,) if protected else (WITHOUT,),
                snapshots=1,
                snapshots_gb=2.5,
            ),
        ),
        rows=tuple(
            Row(source="web-01 (7)", droplet_id=7, image_id=8, region=each, outcome=Outcome.ALREADY_THERE)
            for each in regions
        ),
        regions=regions,
        without_backups=() if protected else ("web-01 (7)",),
        added_gb=1.5,
        price_per_gb_month=0.06,
        proven={"web-01 (7)": None},
        unread=("Volumes are counted, but not named.",),
    )


def test_droplets_are_named_after_their_account_and_the_most_urgent_come_first() -> None:
    merged = merge_reports([report("prod"), report("shop", protected=False)], {})
    assert [each.droplet for each in merged.droplets] == ["shop: web-01 (7)", "prod: web-01 (7)"]
    assert [each.account for each in merged.droplets] == ["shop", "prod"]
    assert merged.headline == "1 of 2 Droplets (prod 1 of 1, shop 0 of 1) has a copy in fra1 and no overdue backup"
    assert merged.problem_lines == ("No backups: shop: web-01 (7)", "No restore proven: prod: web-01 (7)")
    assert merged.without_backups == ("shop: web-01 (7)",)
    assert merged.proven == {"prod: web-01 (7)": None, "shop: web-01 (7)": None}
    assert "prod: Volumes are counted, but not named." in merged.notes


def test_sizes_add_up_and_regions_are_those_of_any_account() -> None:
    merged = merge_reports([report("prod"), report("shop", regions=("nyc3", "fra1"))], {})
    assert merged.regions == ("fra1", "nyc3")
    assert merged.added_gb == 3
    assert merged.totals_text.startswith("2 snapshots made by this project: 5 GB, $0.30 a month")
    lines = artifact_table(merged)
    assert [line["Droplet"] for line in lines] == [
        f"{account}: web\\-01 ([7](https://cloud.digitalocean.com/droplets/7))" for account in ("prod", "shop")
    ]


def test_each_row_shows_the_copies_of_its_own_account() -> None:
    shop = report("shop")
    failed = shop.rows[0].model_copy(update={"outcome": Outcome.PLANNED})
    merged = merge_reports([report("prod"), shop.model_copy(update={"rows": (failed,)})], {})
    assert {line["Droplet"][:4]: line["fra1"] for line in artifact_table(merged)} == {"prod": "✓", "shop": "○"}


def test_an_account_that_cannot_be_read_is_named_and_fails_the_run() -> None:
    merged = merge_reports([report("prod")], {"shop": "the token is not valid"})
    assert merged.failure == "account shop is not in this report: the token is not valid"
    assert merged.problem_lines[0] == "Account shop is not in this report: the token is not valid"
    assert "Account shop" in artifact_description(merged)
    assert "Account shop" in text_of(merged, 80)
