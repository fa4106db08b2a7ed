"""The account of messages and findings, like that of Jepsen's total-queue.

https://github.com/jepsen-io/jepsen/blob/main/jepsen/src/jepsen/checker.clj: A confirmed message must come out of the
queue; otherwise it is lost. A message that comes out must have been attempted; otherwise it is unexpected. A message
that comes out twice is duplicated. A message that comes out without a confirmation is recovered.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Account:
    """The account: the first four fields name what is wrong and must be empty. The others are counts.

    `doubled`: images that were decided more than once. `wrong`: images with an outcome that they may not have.
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
        """Returns all fields as numbers."""
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
    """The outcomes that an image may have: this verdict (None: it cannot get one), or a failure with these reasons.

    `note` is written after its name if it is lost.
    """

    verdict: str | None
    reasons: frozenset[str] = field(default_factory=frozenset)
    note: str = ""

    def allows(self, row: Row) -> bool:
        """Whether the image may have this finding."""
        if row.outcome == "failed":
            return row.reason in self.reasons
        return row.verdict is not None and row.verdict == self.verdict


def account_of_messages(
    journal: Iterable[tuple[str, str]], decided: Collection[str], delivered: Mapping[str, int]
) -> Account:
    """Returns the account of messages.

    `journal`: pairs of a step ("attempted" or "confirmed") and a message id. `decided`: the ids of messages with an
    outcome. `delivered`: how often each message was delivered, by its id.
    """
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
    """Returns the account of a scan's images. `expected`: all images that the scan listed, by uri."""
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
    """Returns the counters of a scan that differ from its findings, by name: (counter, number of findings)."""
    rows = list(rows)
    there = Counter(row.outcome for row in rows) + Counter(row.verdict for row in rows if row.verdict)
    there["listed"] = len(rows)
    names = ("listed", "judged", "reused", "failed", "fake", "real", "uncertain")
    return {name: (scan[name], there[name]) for name in names if scan[name] != there[name]}


def write(journal: Path, step: str, message_id: str, uri: str) -> None:
    """Adds a line to the journal, in one write, so that a killed process leaves only whole lines."""
    with journal.open("ab", buffering=0) as file:
        file.write(f"{step} {message_id} {uri}\n".encode())


def lines(journal: Path) -> list[tuple[str, str, str]]:
    """Returns (step, message id, uri) for each line of the journal."""
    if not journal.exists():
        return []
    rows = (line.split(" ") for line in journal.read_text().splitlines())
    return [(row[0], row[1], row[2]) for row in rows if len(row) == 3]


def attempts(journal: Path) -> list[str]:
    """Returns the uris that were attempted, each once."""
    return list(dict.fromkeys(uri for step, _, uri in lines(journal) if step == "attempted"))


def deliveries(file: Path) -> Counter[str]:
    """Returns how often each message was delivered, by its id."""
    return Counter(line.split(" ")[0] for line in file.read_text().splitlines()) if file.exists() else Counter()
