"""Counts the results of an export: records that were written, and what was left out."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from producers.export.copies import Entry
from producers.export.decisions import REAL
from worker.lab.datasets.splits import Split

SIDES = ("fake", "real")


@dataclass
class ExportTally:
    """Counts records by split, and contents, label lines and images that were left out by cause."""

    splits: dict[Split, Counter[str]] = field(default_factory=lambda: {split: Counter() for split in Split})
    decided_by: Counter[str] = field(default_factory=Counter)
    detectors: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)

    def take(self, split: Split, record: Entry, *, explained: bool) -> None:
        """Counts a record that was written."""
        self.splits[split]["real" if record["label"] == REAL else "fake"] += 1
        self.splits[split]["explained"] += explained
        self.decided_by[record["decided_by"]] += 1
        self.detectors[record["detector"]] += 1

    @property
    def records(self) -> int:
        """How many records were written."""
        return self.decided_by.total()

    @property
    def why(self) -> str:
        """Why there are no records, or not more of them."""
        return f"left out: {causes(self.left_out)}" if self.left_out else "nothing is reviewed or labelled"

    def counts(self) -> dict[str, Any]:
        """Returns the counts as export.json stores them."""
        return {
            "records": self.records,
            "explained": sum(counts["explained"] for counts in self.splits.values()),
            "decided_by": {source: self.decided_by[source] for source in ("review", "label")},
            "splits": {
                split: {name: counts[name] for name in (*SIDES, "explained")} for split, counts in self.splits.items()
            },
            "left_out": dict(sorted(self.left_out.items())),
        }


def causes(left_out: dict[str, int]) -> str:
    """Returns a text such as `cannot_tell 2, conflict 1`."""
    return ", ".join(f"{cause} {count}" for cause, count in sorted(left_out.items()))
