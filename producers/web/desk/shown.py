"""What a page shows of a content, as plain data: what `item` returns."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from producers.reporting.stages import STAGES
from producers.web.desk.claims import Held
from worker.tables import ReviewKind, Stage, Statement, Verdict


@dataclass(frozen=True)
class DetectorShown:
    """The detector of a verdict. `calibrated`: of 100 images with a score of 0.8, about 80 are fake.

    If it gives no reasons to any image, it has no prompt either.
    """

    id: int
    name: str
    model: str
    revision: str
    prompt_revision: str | None
    gives_reasons: bool
    prompt: str | None
    fingerprint: str
    notice: str | None
    calibrated: bool
    calibration: str | None
    """The method, such as `platt`, and the images that it was fitted on, in words."""


@dataclass(frozen=True)
class ScanShown:
    """The scan of a finding. The thresholds are None if the scan has judged nothing."""

    id: UUID
    name: str | None
    fake_from: float | None
    real_to: float | None


@dataclass(frozen=True)
class VerdictShown:
    """One answer of a detector about the content. `verdict` is by the thresholds of the item's scan."""

    id: int
    detector_id: int
    detector_name: str
    verdict: Verdict | None
    answer: str
    score: float | None
    uri: str
    created_at: datetime


@dataclass(frozen=True)
class OpinionShown:
    """What a further detector of the scan says, by its own thresholds. If `missing`, it has said nothing."""

    detector_name: str
    verdict: Verdict | None
    score: float | None
    explanation: str | None
    missing: bool


@dataclass(frozen=True)
class ReviewShown:
    """What a person said. `withdrawn_at` is when they took it back."""

    id: int
    reviewer: str
    kind: ReviewKind
    statement: Statement | None
    reason_code: str | None
    note: str | None
    verdict: Verdict | None
    created_at: datetime
    withdrawn_at: datetime | None


@dataclass(frozen=True)
class Item:
    """A content, with the values of its newest finding that is not real. If there is none, `flagged` is False, and the
    values are those of the newest finding at a place of a verdict or, without a finding, of the newest verdict.

    `statement` is what people have decided, `disputed` whether they contradict each other. `reviews_hidden`: the person
    is to give a second look, so `reviews` is empty and `statement` None until they have decided.
    `waits_for_person`: they may claim it. `external_ids` and `places` are limited; `places_total` counts all.
    `main_verdict` is what the scan's own detector says at this place, and `opinions` what its further detectors say.
    `provenance`: labels and texts of what the file says about its origin. `stage` and `first_score`: see StoredVerdict.
    """

    sha256: str
    uri: str
    scan: ScanShown | None
    external_ids: Sequence[str]
    flagged: bool
    verdict: Verdict | None
    score: float | None
    verdict_id: int
    answer: str
    log_odds: float | None
    explanation: str | None
    completion: str
    contradicts: bool
    cut_off: bool
    stage: Stage | None
    first_score: float | None
    width: int
    height: int
    judged_at: datetime
    first_at: datetime | None
    detector: DetectorShown
    verdicts: Sequence[VerdictShown]
    main_verdict: Verdict | None
    opinions: Sequence[OpinionShown]
    reviews: Sequence[ReviewShown]
    reviews_hidden: bool
    statement: Statement | None
    disputed: bool
    waits: bool
    waits_for_person: bool
    second_look: bool
    places: Sequence[str]
    places_total: int
    held: Held | None
    provenance: Sequence[tuple[str, str]]

    @property
    def stage_said(self) -> str | None:
        """Which stage of a cascade gave the verdict, in words."""
        return self.stage and STAGES[self.stage]
