"""A round: publish a scan and submissions -> cause faults while they are judged -> heal -> wait -> account.

A round is settled when every image has an outcome.
"""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.chaos import books, ledger
from tests.chaos.bucket import NAME, REASONS
from tests.chaos.faults import DEATH, STORAGE, Kind
from tests.chaos.ground import Ground
from tests.chaos.images import Picture
from tests.chaos.keeper import Kept
from tests.chaos.ledger import Account, Expected
from tests.chaos.progress import Progress
from tests.chaos.storm import Fault, Storm

CHUNK = 96
"""How many images the producer commits and publishes together. They are six messages."""

SHARED = 10
"""Every tenth image has the same content as another one, so that verdicts are reused."""

ALWAYS_BAD = ("503", "503", "403", "404", "short", "another_body", "changed")
"""The bad answers that some objects of each scan always get. Their images must end with the right reason."""


@dataclass(frozen=True)
class Sizes:
    """How large a round is.

    `storm_s`: how long faults are caused, at most. `settle_s`: how soon after that all images must have an outcome.
    """

    images: int = 400
    submissions: int = 60
    storm_s: float = 30
    settle_s: float = 90
    twice: str = "alternate"
    """Whether every message is published twice: `yes`, `no`, or `alternate` for every second round."""


@dataclass(frozen=True)
class Work:
    """What a round publishes. `expected`: the images of the scan, by uri. `live`: those of the submissions, by uri."""

    source: str
    live_prefix: str
    journal: Path
    expected: dict[str, Expected]
    live: dict[str, Expected]


@dataclass
class Outcome:
    """The result of a round.

    `recovered_s`: for each fault, its kind and the time from its healing to the next outcome. `settled_s`: the time
    from the last healing until all images had an outcome; None if that never happened.
    """

    faults: list[Fault]
    recovered_s: list[tuple[str, float]]
    settled_s: float | None
    images: Account
    messages: Account
    submissions: Account
    malformed: Account
    counters: dict[str, tuple[int, int]] = field(default_factory=dict)
    dead: list[str] = field(default_factory=list)
    """Dead letters other than the malformed messages of the suite."""
    unforeseen: list[str] = field(default_factory=list)
    """Unexpected errors in the workers' logs."""
    exits: list[int] = field(default_factory=list)
    """The exit codes of the producers."""
    ends: Counter[str] = field(default_factory=Counter)
    """How many images were judged or reused, and how many failed for each reason code."""

    @property
    def good(self) -> bool:
        """Whether nothing is wrong."""
        accounts = (self.images, self.messages, self.submissions, self.malformed)
        settled = self.settled_s is not None
        return settled and all(one.balanced for one in accounts) and not (self.counters or self.dead or self.unforeseen)


def run_round(ground: Ground, kinds: Sequence[Kind], number: int, chance: Random, sizes: Sizes) -> Outcome:
    """Runs a round and returns its result."""
    work = lay_out(ground, kinds, number, chance, sizes)
    twice = ("twice",) if sizes.twice == "yes" or (sizes.twice == "alternate" and number % 2) else ()
    producers = [
        ground.start_producer("scan", "scan", work.source, work.source, str(CHUNK), *twice),
        ground.start_producer("submit", "submit", str(work.journal), work.live_prefix, str(sizes.submissions), *twice),
    ]
    with Progress(ground.postgres.url) as progress:
        storm = Storm(ground, kinds, chance)
        started = time.monotonic()
        faults = storm.until(lambda: _over(ground, work, producers), sizes.storm_s)
        if twice:
            faults.append(Fault("every_message_twice", started, time.monotonic(), met=True))
        healed = time.monotonic()
        settled = _settle(ground, work, producers, healed + sizes.settle_s)
        recovered = [(one.kind, after) for one in faults if one.met if (after := progress.next_after(one.healed_at))]
    for producer in producers:
        producer.end(grace_s=2)
    ground.producers.clear()
    exits = [code for producer in producers for code in producer.exits.elements()]
    return _account(
        ground, work, Outcome(faults, recovered, settled - healed if settled else None, *_NONE, exits=exits)
    )


_NONE = (Account(), Account(), Account(), Account())


def lay_out(ground: Ground, kinds: Sequence[Kind], number: int, chance: Random, sizes: Sizes) -> Work:
    """Puts the round's pictures into the bucket, and says which outcomes each may have."""
    ground.source = source = f"s3://{NAME}/round-{number:04d}/"
    live_prefix = f"s3://{NAME}/live-{number:04d}/"
    allowed = frozenset(reason for kind in kinds for reason in kind.reasons) | _from_deaths(kinds)
    work = Work(source, live_prefix, ground.folder / f"journal-{number:04d}", {}, {})
    base = number * (sizes.images + sizes.submissions)
    for place in range(sizes.images + sizes.submissions):
        live = place >= sizes.images
        name = f"{place - sizes.images if live else place:06d}.png"
        uri = (live_prefix if live else source) + name
        picture = Picture(base + place - (1 if place % SHARED == SHARED - 1 else 0))
        ground.bucket.pictures[uri.removeprefix(f"s3://{NAME}/")] = picture
        (work.live if live else work.expected)[uri] = Expected(picture.verdict, allowed)
    for uri, how in zip(chance.sample(sorted(work.expected), len(ALWAYS_BAD)), ALWAYS_BAD, strict=True):
        ground.bucket.bad[uri.removeprefix(f"s3://{NAME}/")] = how
        work.expected[uri] = Expected(None, allowed | {REASONS[how]}, f" (S3's answer is always {how})")
    return work


def _from_deaths(kinds: Sequence[Kind]) -> frozenset[str]:
    """Returns the reasons that may follow from any fault of a service: a worker without it ends or gives up."""
    return frozenset(DEATH + STORAGE) if kinds else frozenset()


def _over(ground: Ground, work: Work, producers: Sequence[Kept]) -> bool:
    """Whether the producers are done and everything is settled, so that a fault could not disturb anything."""
    return all(producer.done for producer in producers) and _settled(ground, work)


def _settle(ground: Ground, work: Work, producers: Sequence[Kept], until: float) -> float | None:
    """Waits until everything is settled. Returns the time of that moment, or None if `until` came first."""
    while time.monotonic() < until:
        if _over(ground, work, producers):
            return time.monotonic()
        time.sleep(0.2)
    return None


def _settled(ground: Ground, work: Work) -> bool:
    try:
        scan = books.books_of_scan(ground.postgres.url, work.source)
        submissions = books.books_of_submissions(ground.postgres.url, work.live_prefix)
    except Exception:  # a service is down, so the round is not settled
        return False
    confirmed = {message for step, message, _ in ledger.lines(work.journal) if step == "confirmed"}
    done = [one["status"] == "done" for one in scan.scans.values()]
    return bool(done) and all(done) and confirmed <= submissions.scans.keys() and _malformed(ground).lost == ()


def _malformed(ground: Ground) -> Account:
    """Returns the account of the malformed messages. Stores the dead letters, because reading removes them."""
    store = ground.folder / "dead"
    with store.open("a") as file:
        file.writelines(letter.replace("\n", " ") + "\n" for letter in books.dead_letters(ground.broker.url))
    letters = store.read_text()
    journal = [(step, message) for step, message, _ in ledger.lines(ground.malformed)]
    dead = [message for _, message in journal if message in letters]
    return ledger.account_of_messages(journal, dead, ledger.deliveries(ground.deliveries))


def _account(ground: Ground, work: Work, outcome: Outcome) -> Outcome:
    scan = books.books_of_scan(ground.postgres.url, work.source)
    live = books.books_of_submissions(ground.postgres.url, work.live_prefix)
    steps = ledger.lines(work.journal)
    delivered = ledger.deliveries(ground.deliveries)
    outcome.images = ledger.account_of_findings(work.expected, scan.rows)
    outcome.messages = ledger.account_of_messages([step[:2] for step in steps], live.scans, delivered)
    sent = {uri for step, message, uri in steps if step == "confirmed" or message in live.scans}
    outcome.submissions = ledger.account_of_findings({uri: work.live[uri] for uri in sent}, live.rows)
    outcome.malformed = _malformed(ground)
    outcome.ends = Counter(row.reason or row.outcome for row in (*scan.rows, *live.rows))
    for books_of in (scan, live):
        for scan_id, row in books_of.scans.items():
            outcome.counters |= ledger.counters_that_differ(row, books_of.of(scan_id))
    known = {message for _, message, _ in ledger.lines(ground.malformed)}
    letters = (ground.folder / "dead").read_text().splitlines()
    outcome.dead = [letter for letter in letters if not any(message in letter for message in known)]
    outcome.unforeseen = books.unforeseen(sorted(ground.folder.glob("worker-*.log")))
    return outcome
