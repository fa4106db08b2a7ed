"""What the further detectors of a scan say beside the main one: how often they agree, and where they differ."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlmodel import Session

from producers.scans import find_scan
from worker.database import Database, transaction
from worker.tables import Scan, Verdict

# Not from the view, which looks up the name of a detector for each image.
_COUNTED = """
SELECT f.verdict, (o ->> 'detector_id')::bigint AS detector_id, o ->> 'verdict' AS further_verdict, count(*) AS images
FROM findings f CROSS JOIN LATERAL jsonb_array_elements(f.opinions) o
WHERE f.partition = :partition AND f.scan_id = :scan_id AND f.verdict IS NOT NULL
GROUP BY 1, 2, 3
"""
_WITH_VERDICT = """
SELECT count(*) FROM findings WHERE partition = :partition AND scan_id = :scan_id AND verdict IS NOT NULL
"""
_DIFFERING = """
SELECT count(*) FILTER (WHERE detectors_differ(verdict, opinions)) AS disagreements,
       coalesce(sum(:further - coalesce(jsonb_array_length(opinions), 0)), 0) AS missing_opinions
FROM findings WHERE partition = :partition AND scan_id = :scan_id AND verdict IS NOT NULL
"""
_NAMES = "SELECT id, name FROM detectors"


@dataclass(frozen=True)
class Agreement:
    """How a further detector agrees with the main one.

    `images` counts images by the main verdict and the further one. `missing` counts those without a second opinion.
    """

    further: str
    images: Mapping[tuple[str, str], int]
    missing: int

    @property
    def both(self) -> int:
        """How many images both judged."""
        return sum(self.images.values())

    @property
    def differ(self) -> int:
        """How many images one calls fake and the other one real."""
        pairs = ((Verdict.FAKE, Verdict.REAL), (Verdict.REAL, Verdict.FAKE))
        return sum(self.images.get(pair, 0) for pair in pairs)

    @property
    def apart(self) -> int:
        """How many images have different verdicts. An uncertain one counts here, too."""
        return sum(count for (main, further), count in self.images.items() if main != further)

    @property
    def kappa(self) -> float | None:
        """Cohen's kappa (1960) of the three verdicts: 1 is full agreement, and 0 is that of chance.

        None if it has no meaning: one of the two said the same of all images and so did the other one.
        """
        if not self.both:
            return None
        same = sum(self.images.get((one, one), 0) for one in Verdict) / self.both
        chance = sum(
            sum(count for (main, _), count in self.images.items() if main == one)
            * sum(count for (_, further), count in self.images.items() if further == one)
            for one in Verdict
        ) / self.both**2  # fmt: skip
        return None if chance == 1 else (same - chance) / (1 - chance)


def agreement_of(database: Database, scan_id: UUID) -> list[Agreement]:
    """Returns the agreement with each further detector that the scan asks for, in its order. Raises NoSuchScanError."""
    with transaction(database) as session:
        scan = find_scan(session, scan_id)
        names: Sequence[str] = scan.policy.get("also", ())
        if not names:
            return []
        given = {"partition": scan.partition, "scan_id": scan.id}
        counted = session.execute(text(_COUNTED), given).all()
        judged = int(session.execute(text(_WITH_VERDICT), given).scalar_one())
        known = {row.id: row.name for row in session.execute(text(_NAMES))}
    images: dict[str, Counter[tuple[str, str]]] = {name: Counter() for name in names}
    for row in counted:
        if (name := known.get(row.detector_id)) in images:
            images[name][row.verdict, row.further_verdict] += row.images
    return [Agreement(name, found, judged - found.total()) for name, found in images.items()]


def differing(session: Session, scan: Scan) -> dict[str, int]:
    """Returns `disagreements` and `missing_opinions` of a scan, or nothing if it asks for no second opinions."""
    further = len(scan.policy.get("also", ()))
    if not further:
        return {}
    given = {"partition": scan.partition, "scan_id": scan.id, "further": further}
    counted = session.execute(text(_DIFFERING), given).one()
    missing = int(counted.missing_opinions) + scan.unchanged_missing_opinions
    return {"disagreements": int(counted.disagreements), "missing_opinions": missing}


class Opinions:
    """Adds second opinions to the lines of a scan that asks for them."""

    def __init__(self, session: Session, scan: Scan) -> None:
        self._asked: Sequence[str] = scan.policy.get("also", ())
        self._names = {row.id: row.name for row in session.execute(text(_NAMES))} if self._asked else {}

    def of(self, verdict: str | None, opinions: Sequence[Mapping[str, Any]] | None) -> dict[str, Any]:
        """Returns the fields of a line; none for a scan that asks for none. An image that failed has no opinions."""
        if not self._asked:
            return {}
        if verdict is None:
            return {"second_opinions": [], "detectors_differ": False}
        given = {self._names.get(one["detector_id"]): one for one in opinions or ()}
        told: list[dict[str, Any]] = [
            {"detector": name, "verdict": None, "score": None, "missing": True}
            if (one := given.get(name)) is None
            else {"detector": name, "verdict": one["verdict"], "score": one["score"], "missing": False}
            for name in self._asked
        ]
        return {"second_opinions": told, "detectors_differ": differ({verdict, *(one["verdict"] for one in told)})}


def differ(verdicts: set[str | None]) -> bool:
    """Whether one of these calls the image fake and another one real. It is what detectors_differ() says in SQL."""
    return {str(Verdict.FAKE), str(Verdict.REAL)} <= verdicts
