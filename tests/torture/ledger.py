"""What came of every run with faults, and the table of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from deployments.sandbox import FaultKind, Sandbox
from deployments.sandbox.faults import IMAGE_FAULTS


@dataclass
class Verdict:
    """What came of one account's runs.

    Attributes:
        fault: What went wrong in it, as the table calls it.
        name: Which flow and seed.
        faults: How often each kind of fault happened, by the sandbox's record.
        changes_hit: How many of the faults befell a request that was to start an action or to delete an image.
        starts_hit: The kinds of fault that befell the start of a snapshot.
        requests: Requests that came.
        actions: Actions that were started.
        deletions: Images that were deleted.
        runs: Runs that it took until all was there.
        failed_runs: How many of these ended Failed.
        lost: What was not as it should be in the end.
        too_much: What was started that need not have been, or deleted that should not.
        silent: What a run did not say.
        told: Where the token was to be seen.
        broken: Why there is no verdict.
    """

    fault: str
    name: str
    faults: Counter[FaultKind] = field(default_factory=Counter)
    changes_hit: int = 0
    starts_hit: set[FaultKind] = field(default_factory=set)
    requests: int = 0
    actions: int = 0
    deletions: int = 0
    runs: int = 0
    failed_runs: int = 0
    lost: list[str] = field(default_factory=list)
    too_much: list[str] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def count(self, sandbox: Sandbox) -> None:
        """Take the figures from the sandbox's record."""
        self.faults = Counter(seen.fault for seen in sandbox.record.requests if seen.fault)
        self.changes_hit = sum(
            1
            for seen in sandbox.record.requests
            if seen.fault and (seen.method == "DELETE" or (seen.method == "POST" and seen.path.endswith("/actions")))
        )
        self.requests = len(sandbox.record.requests)
        self.actions = len(sandbox.record.actions)
        self.deletions = len(sandbox.record.deleted)

    @property
    def problems(self) -> dict[str, list[str]]:
        """Everything that should not be, by what it is."""
        found = {
            "lost": self.lost,
            "too much": self.too_much,
            "silent": self.silent,
            "told": self.told,
            "broken": self.broken,
        }
        return {name: what for name, what in found.items() if what}


class Ledger:
    """All verdicts.

    Attributes:
        verdicts: The verdicts, in the order of time.
        tokens: Tokens that must not appear anywhere.
        files_scanned: Files of Prefect that were searched for them.
        told: Those in which one was found.
        remarks: What else to say, in Markdown.
    """

    def __init__(self) -> None:
        self.verdicts: list[Verdict] = []
        self.tokens: set[str] = set()
        self.files_scanned = 0
        self.told: list[str] = []
        self.remarks: list[str] = []

    @contextmanager
    def verdict(self, fault: str, name: str) -> Iterator[Verdict]:
        """Note what comes of the block, also if it is an exception."""
        verdict = Verdict(fault, name)
        self.verdicts.append(verdict)
        try:
            yield verdict
        except BaseException as error:
            verdict.broken.append(f"{type(error).__name__}: {error}")
            raise

    def text(self, conditions: str) -> str:
        """The section of the page.

        Args:
            conditions: How often what went wrong, and how it was judged, in Markdown.
        """
        problems = [
            f"- {each.fault}, {each.name}: {what}: {'; '.join(several)}"
            for each in self.verdicts
            for what, several in each.problems.items()
        ] + [f"- the token stood in {path}" for path in self.told]
        accounts, faults = len(self.verdicts), sum(each.faults.total() for each in self.verdicts)
        runs, failed = sum(each.runs for each in self.verdicts), sum(each.failed_runs for each in self.verdicts)
        requests = sum(each.requests for each in self.verdicts)
        secrecy = (
            f"{len(self.tokens)} tokens were searched for in {self.files_scanned} files of Prefect (database, its "
            f"write-ahead log, server log, results), and in all log lines, states and reports; found in "
            f"{len(self.told) + sum(len(each.told) for each in self.verdicts)} of them."
        )
        failures = "**Failures:**\n\n" + "\n".join(problems) if problems else "No assertion failed."
        figures = (
            f"{accounts} accounts, {runs:,} runs, {requests:,} requests, {faults:,} of them hit by a fault. "
            f"{failed} runs ended Failed; a later one finished what they had not."
        )
        return "\n\n".join([figures, conditions, self.table(), self.kinds_line(), secrecy, failures, *self.remarks])

    def table(self) -> str:
        """A line for each kind of fault."""
        lines = ["| " + " | ".join(COLUMNS) + " |", "|" + " --- |" + " ---: |" * (len(COLUMNS) - 1)]
        by_fault: dict[str, list[Verdict]] = {}
        for each in self.verdicts:
            by_fault.setdefault(each.fault, []).append(each)
        lines += [_line(name, verdicts) for name, verdicts in by_fault.items()]
        lines.append(_line("**all**", self.verdicts))
        return "\n".join(lines)

    def kinds_line(self) -> str:
        """How often each kind happened, alone and with others."""
        total: Counter[FaultKind] = Counter()
        for each in self.verdicts:
            total.update(each.faults)
        never = [kind.value for kind in IMAGE_FAULTS if not total[kind]]
        counts = ", ".join(f"{kind.value} {total[kind]}" for kind in FaultKind if total[kind])
        return f"Each kind, alone and among others: {counts}." + (f" Never: {', '.join(never)}." if never else "")


def _line(name: str, verdicts: Sequence[Verdict]) -> str:
    cells = [
        len(verdicts),
        sum(each.runs for each in verdicts),
        sum(each.failed_runs for each in verdicts),
        sum(each.requests for each in verdicts),
        sum(each.faults.total() for each in verdicts),
        sum(each.changes_hit for each in verdicts),
        sum(each.actions for each in verdicts),
        sum(each.deletions for each in verdicts),
        sum(len(each.lost) for each in verdicts),
        sum(len(each.too_much) for each in verdicts),
        sum(len(each.silent) + len(each.broken) for each in verdicts),
        sum(len(each.told) for each in verdicts),
    ]
    return f"| {name} | " + " | ".join(f"{cell:,}" for cell in cells) + " |"


COLUMNS = (
    "fault",
    "accounts",
    "runs",
    "ended Failed",
    "requests",
    "faults",
    "of them on a start or deletion",
    "actions started",
    "images deleted",
    "lost",
    "too much",
    "silent",
    "token told",
)
