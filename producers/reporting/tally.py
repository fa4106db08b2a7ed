"""What a report counts while the results of a scan pass by, and which of them it shows."""

import heapq
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from worker.tables import Verdict

Row = Mapping[str, Any]
"""A line of `fakesweep results`."""

BINS = 20
"""Of the scores from 0 to 1, all of the same width."""


@dataclass
class Failure:
    """How many images failed for one reason, and the first of them."""

    example: Row
    images: int = 0


@dataclass
class ReportTally:
    """What is counted while the rows pass. `bins` has BINS counts for each verdict, `failures` is by reason code."""

    rows: int = 0
    flagged: int = 0
    undecided: int = 0
    contradicting: int = 0
    bins: dict[str, list[int]] = field(default_factory=lambda: {str(verdict): [0] * BINS for verdict in Verdict})
    failures: dict[str, Failure] = field(default_factory=dict)

    def take(self, rows: Iterable[Row], gallery: int) -> list[Row]:
        """Counts every row; returns the `gallery` flagged ones with the highest scores, equal scores by uri."""
        flagged = self._flagged(rows)
        first = heapq.nsmallest(gallery, flagged, key=lambda row: (-(row["score"] or 0.0), row["uri"]))
        deque(flagged, maxlen=0)  # with a gallery of 0 nothing was read yet
        return first

    def _flagged(self, rows: Iterable[Row]) -> Iterator[Row]:
        for row in rows:
            self._count(row)
            if row["verdict"] == Verdict.FAKE:
                self.flagged += 1
                yield row

    def _count(self, row: Row) -> None:
        self.rows += 1
        self.contradicting += bool(row["contradicts"])
        if row["verdict"] is None:
            self.failures.setdefault(row["reason"], Failure(row)).images += 1
        elif row["score"] is None:
            self.undecided += 1
        else:
            self.bins[row["verdict"]][min(int(row["score"] * BINS), BINS - 1)] += 1
