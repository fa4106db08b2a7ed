"""One image on its way, and the finding that it ends as."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from PIL.Image import Image

from worker.detector.verdicts import Judgement, verdict_of
from worker.errors import ImageError
from worker.messages import Explain, ImageRef, Policy
from worker.tables import Finding, Outcome, Scan, StoredObject, StoredVerdict


@dataclass
class Case:
    """One image on its way. It ends with a verdict, its own or a reused one, with a failure, or is left for later.

    `size` is (width, height) of the upright image, `pixels` what the detector sees; both None before decoding.
    """

    ref: ImageRef
    stored: StoredObject | None = None
    size: tuple[int, int] | None = None
    pixels: Image | None = None
    verdict: StoredVerdict | None = None
    reused_from: str | None = None
    failure: ImageError | None = None
    later: bool = False

    def settle(self, judgement: Judgement, explain: Explain, detector_id: int) -> None:
        """Takes the detector's judgement as this image's own verdict."""
        if self.stored is None or self.size is None:
            raise ValueError("an image is decoded before it is judged")
        self.verdict = StoredVerdict(
            sha256=self.stored.sha256,
            detector_id=detector_id,
            uri=self.ref.uri,
            width=self.size[0],
            height=self.size[1],
            explain=explain,
            **asdict(judgement),
        )

    def remembered(self, verdict_ids: Mapping[str, int]) -> StoredObject:
        """The row of `objects`; `verdict_ids` as for `finding`."""
        if self.stored is None:
            raise ValueError("nothing is remembered of an image that was not fetched")
        verdict_id = self._verdict_id(verdict_ids) if self.verdict else None
        return self.stored.model_copy(update={"verdict_id": verdict_id})

    def _verdict_id(self, verdict_ids: Mapping[str, int]) -> int | None:
        return verdict_ids.get(self.verdict.sha256, self.verdict.id) if self.verdict else None

    def finding(self, scan: Scan, verdict_ids: Mapping[str, int], attempts: int) -> Finding:
        """The row of `findings`. `verdict_ids` by SHA-256 are those of the verdicts that this message added."""
        finding = Finding(
            partition=scan.partition,
            scan_id=scan.id,
            uri=self.ref.uri,
            external_id=self.ref.external_id,
            outcome=Outcome.FAILED,
            etag=self.ref.etag,
            sha256=self.stored.sha256 if self.stored else None,
            width=self.size[0] if self.size else None,
            height=self.size[1] if self.size else None,
            attempts=attempts,
        )
        if self.verdict is None:
            if self.failure is None:
                raise ValueError("an image without a verdict has failed")
            finding.reason, finding.detail = self.failure.reason, clean(self.failure.detail)
            return finding
        finding.outcome = Outcome.REUSED if self.reused_from else Outcome.JUDGED
        finding.reused_from = self.reused_from
        finding.verdict_id = self._verdict_id(verdict_ids)
        finding.score = self.verdict.score
        policy = Policy.model_validate(scan.policy)
        if policy.fake_from is None or policy.real_to is None:
            raise ValueError("a scan's thresholds are filled in before its images are judged")
        finding.verdict = verdict_of(self.verdict.score, fake_from=policy.fake_from, real_to=policy.real_to)
        finding.width, finding.height = self.verdict.width, self.verdict.height
        return finding


def clean(detail: str) -> str:
    """One line of text that Postgres takes: it refuses NUL characters, and an error of a decoder may hold some."""
    text = detail.replace("\x00", "").encode(errors="backslashreplace").decode()
    return " ".join(text.split())[:500]
