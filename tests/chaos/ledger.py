"""The account of messages and findings, in the manner of Jepsen's total-queue.

https://github.com/jepsen-io/jepsen/blob/main/jepsen/src/jepsen/checker.clj: what was confirmed must come out (else it
is lost), what comes out must have been attempted (else it is unexpected). What came out twice is duplicated; what came
out although nobody had confirmed it is recovered.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Account:
    """Names of what is wrong, and counts of what is not. The first four must be empty.

    `doubled`: decided more than once. `wrong`: decided, but not as this image must be.
    """

    lost: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    doubled: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()
    attempted: int = 0
    confirmed: int = 0
    decided: int = 0
    duplicated: int = 0
    recovered: int = 0

    @property
    def balanced(self) -> bool:
        """Whether nothing is lost, unexpected, doubled or wrong."""
        return not (self.lost or self.unexpected or self.doubled or self.wrong)

    def counts(self) -> dict[str, int]:
        """All as numbers."""
        return {name: value if isinstance(value, int) else len(value) for name, value in asdict(self).items()}


@dataclass(frozen=True)
class Row:
    """A row of `findings`."""

    scan_id: str
    uri: str
    outcome: str
    verdict: str | None
    reason: str | None


@dataclass(frozen=True)
class Expected:
    """What may become of an image: a verdict (None: it cannot get one), or failures with these reasons.

    `note` is said beside its name when it is lost.
    """

    verdict: str | None
    reasons: frozenset[str] = field(default_factory=frozenset)
    note: str = ""

    def allows(self, row: Row) -> bool:
        """Whether this finding may be."""
        if row.outcome == "failed":
            return row.reason in self.reasons
        return row.verdict is not None and row.verdict == self.verdict


def account_of_messages(
    journal: Iterable[tuple[str, str]], decided: Collection[str], delivered: Mapping[str, int]
) -> Account:
    """The account of messages. `journal`: (attempted or confirmed, message id); `delivered`: how often, by id."""
    steps = list(journal)
    attempted = {message for step, message in steps if step == "attempted"}
    confirmed = {message for step, message in steps if step == "confirmed"}
    out = set(decided)
    return Account(
        lost=tuple(sorted(confirmed - out)),
        unexpected=tuple(sorted(out - attempted)),
        attempted=len(attempted),
        confirmed=len(confirmed),
        decided=len(out),
        duplicated=sum(delivered.get(message, 0) > 1 for message in attempted),
        recovered=len((attempted - confirmed) & out),
    )


def account_of_findings(expected: Mapping[str, Expected], rows: Iterable[Row]) -> Account:
    """The account of a scan's images. `expected` by uri: all that the scan listed."""
    rows = list(rows)
    times = Counter(row.uri for row in rows)
    wrong = {f"{row.uri}: {row.outcome} {row.verdict or row.reason}" for row in rows
             if row.uri in expected and not expected[row.uri].allows(row)}  # fmt: skip
    return Account(
        lost=tuple(uri + expected[uri].note for uri in sorted(expected.keys() - times.keys())),
        unexpected=tuple(sorted(times.keys() - expected.keys())),
        doubled=tuple(sorted(uri for uri, count in times.items() if count > 1)),
        wrong=tuple(sorted(wrong)),
        attempted=len(expected),
        confirmed=len(expected),
        decided=len(times),
    )


def counters_that_differ(scan: Mapping[str, Any], rows: Iterable[Row]) -> dict[str, tuple[int, int]]:
    """What a row of `scans` counts and `findings` does not: (counted, there), by name."""
    rows = list(rows)
    there = Counter(row.outcome for row in rows) + Counter(row.verdict for row in rows if row.verdict)
    there["listed"] = len(rows)
    names = ("listed", "judged", "reused", "failed", "fake", "real", "uncertain")
    return {name: (scan[name], there[name]) for name in names if scan[name] != there[name]}


def write(journal: Path, step: str, message_id: str, uri: str) -> None:
    """Adds a line in one write, so that a process that is killed leaves whole lines."""
    with journal.open("ab", buffering=0) as file:
        file.write(f"{step} {message_id} {uri}\n".encode())


def lines(journal: Path) -> list[tuple[str, str, str]]:
    """(step, message id, uri) of each line."""
    if not journal.exists():
        return []
    rows = (line.split(" ") for line in journal.read_text().splitlines())
    return [(row[0], row[1], row[2]) for row in rows if len(row) == 3]


def attempts(journal: Path) -> list[str]:
    """The uris that were attempted, each once."""
    return list(dict.fromkeys(uri for step, _, uri in lines(journal) if step == "attempted"))


def deliveries(file: Path) -> Counter[str]:
    """How often each message was delivered, by its id."""
    return Counter(line.split(" ")[0] for line in file.read_text().splitlines()) if file.exists() else Counter()
