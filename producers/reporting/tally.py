"""Counts the results of a scan for its report while they stream past, and chooses those that it shows."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from producers.reporting.cards import Best, Card, Row, highest_score
from worker.tables import Verdict

BINS = 20
"""The number of bins for scores from 0 to 1. All have the same width."""

EXAMPLES = 3
"""How many failed images a report names for each reason."""


_TITLES = {"release": "Fakesweep"}


@dataclass
class Failure:
    """How many images failed for one reason, and the first EXAMPLES of them."""

    examples: list[Row] = field(default_factory=list)
    images: int = 0


@dataclass
class ReportTally:
    """The counts of a report. `bins` has BINS counts for each verdict, and `failures` is by reason code."""

    rows: int = 0
    flagged: int = 0
    uncertain: int = 0
    undecided: int = 0
    contradicting: int = 0
    differing: int = 0
    """Images that one detector calls fake and another one real."""
    bins: dict[str, list[int]] = field(default_factory=lambda: {str(verdict): [0] * BINS for verdict in Verdict})
    failures: dict[str, Failure] = field(default_factory=dict)
    makers: dict[str, int] = field(default_factory=dict)
    """How many verdicts each software and card made, by their names."""

    def take(
        self, rows: Iterable[Row], flagged: int, uncertain: int, differing: int = 0
    ) -> tuple[list[Card], list[Card], list[Card]]:
        """Counts every row. Returns this many flagged and this many uncertain contents, with the highest scores first,
        and this many on which detectors differ.
        """
        differ = Best(differing, highest_score)
        best = {Verdict.FAKE: Best(flagged), Verdict.UNCERTAIN: Best(uncertain)}
        for row in rows:
            self._count(row)
            if row.get("detectors_differ"):
                self.differing += 1
                differ.add(row)
            if row["verdict"] in best:
                best[row["verdict"]].add(row)
        return best[Verdict.FAKE].cards(), best[Verdict.UNCERTAIN].cards(), differ.cards()

    def _count(self, row: Row) -> None:
        self.rows += 1
        self.contradicting += bool(row["contradicts"])
        if row["verdict"] is None:
            self._count_failure(row)
            return
        if row["maker"]:
            name = maker_line(row["maker"])
            self.makers[name] = self.makers.get(name, 0) + 1
        self.flagged += row["verdict"] == Verdict.FAKE
        self.uncertain += row["verdict"] == Verdict.UNCERTAIN
        if row["score"] is None:
            self.undecided += 1
        else:
            self.bins[row["verdict"]][min(int(row["score"] * BINS), BINS - 1)] += 1

    def _count_failure(self, row: Row) -> None:
        failure = self.failures.setdefault(row["reason"], Failure())
        failure.images += 1
        if len(failure.examples) < EXAMPLES:
            failure.examples.append(row)


def maker_line(maker: Mapping[str, Any]) -> str:
    """Names what made a verdict, as in `Fakesweep 1.0, engine vllm, vllm 0.11.0, torch 2.8.0, card NVIDIA H100`."""
    return ", ".join(f"{_TITLES.get(name, name)} {value}" for name, value in maker.items() if value is not None)
