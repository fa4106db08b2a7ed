"""The description of a cascade: a cheap detector clears what is surely real, and a judge decides about the rest."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, SerializeAsAny, model_validator

from worker.detector.calibration import Calibration
from worker.detector.description.base import DetectorDescription, Kind, Section, Sha256
from worker.errors import ConfigurationError

_Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class ClearRule(Section):
    """Which images the first stage clears: those with its score up to `up_to`. They are real at once.

    `fakesweep calibrate --max-miss-rate` finds `up_to`; without it, the cascade does not start. `audit_share` is the
    share of the cleared images, chosen at random, that the judge also sees. The other fields say where the threshold
    comes from: the promised share of the fakes that are cleared (`max_miss_rate`), the upper end of its 95 % confidence
    interval on other images (`miss_rate_high`), the data, and how many fakes of it were used. `fitted_with` is the
    fingerprint of the first stage that judged these data: with another first stage, the cascade does not start.
    `judge_flags` is the
    largest share of cleared real images that the judge may call fake: the alarm about audited images allows for it.
    """

    up_to: _Share | None = None
    audit_share: _Share = 0.01
    max_miss_rate: Annotated[float, Field(gt=0, lt=1)] | None = None
    miss_rate_high: _Share | None = None
    judge_flags: _Share | None = None
    fitted_on: str | None = None
    fakes: Annotated[int, Field(ge=1)] | None = None
    fitted_with: Sha256 | None = None


class CascadeDescription(DetectorDescription):
    """Two detectors that see the same square. See DetectorDescription for the rest.

    In the file, `first` and `judge` name detectors as FAKESWEEP_DETECTOR does; a path that begins with `.` is relative
    to the file. Here they are these detectors' descriptions. Thresholds are the judge's own if the file has none;
    licence and notice are those of both.
    """

    overridable: ClassVar[Mapping[str, str | None]] = {"dtype": None, "quantization": None, "kv_cache_dtype": None}

    kind: Literal[Kind.CASCADE] = Kind.CASCADE
    first: SerializeAsAny[DetectorDescription]
    judge: SerializeAsAny[DetectorDescription]
    clear: ClearRule = ClearRule()

    @model_validator(mode="before")
    @classmethod
    def _of_its_stages(cls, content: Any) -> Any:
        """Fills in what follows from the stages."""
        if not isinstance(content, dict):
            return content
        first, judge = content.get("first"), content.get("judge")
        if not isinstance(first, DetectorDescription) or not isinstance(judge, DetectorDescription):
            raise ValueError("first and judge must each name a detector")  # noqa: TRY004 - pydantic expects ValueError
        own = {"model", "revision", "preprocessing", "checksums"} & set(content)
        if own:
            raise ValueError(f"{min(own)} belongs to the stages' own descriptions")
        return {
            "thresholds": judge.thresholds,
            "license": " and ".join(dict.fromkeys(one.license for one in (first, judge) if one.license)) or None,
            "notice": _together([one.notice for one in (judge, first) if one.notice]),
        } | content | {
            "model": f"{first.name} + {judge.name}",
            "preprocessing": judge.preprocessing,
        }  # fmt: skip

    @model_validator(mode="after")
    def _stages_fit(self) -> Self:
        if self.first.preprocessing != self.judge.preprocessing:
            raise ValueError(
                f"both stages see the same square, but first says {self.first.preprocessing.revision} and judge "
                f"{self.judge.preprocessing.revision}: change [preprocessing] of first, and use its [input]"
            )
        if self.clear.up_to is not None and self.clear.up_to > self.thresholds.real_to:
            raise ValueError("clear.up_to must not be above thresholds.real_to: a cleared image is real")
        if self.calibration != Calibration():
            raise ValueError("calibration belongs to the stages' own descriptions")
        return self

    @property
    def asks_with(self) -> str:
        """See DetectorDescription."""
        return self.judge.asks_with

    @property
    def number_format(self) -> tuple[str, str | None]:
        """See DetectorDescription."""
        return self.judge.number_format

    @property
    def identity(self) -> dict[str, Any]:
        """See DetectorDescription. The revision is both revisions."""
        revisions = [one.identity["revision"] for one in (self.first, self.judge)]
        return super().identity | {"revision": " + ".join(revisions)}

    @property
    def decisive(self) -> dict[str, Any]:
        """See DetectorDescription."""
        return {
            "kind": self.kind,
            "first": self.first.fingerprint,
            "judge": self.judge.fingerprint,
            "up_to": self.clear.up_to,
            "audit_share": self.clear.audit_share,
        }

    @property
    def answer_limit(self) -> int | None:
        """See DetectorDescription."""
        return self.judge.answer_limit

    def calibrated_up_to(self) -> float:
        """The highest score of the first stage that is cleared. Raises ConfigurationError if it is not known yet."""
        if self.clear.up_to is None:
            raise ConfigurationError(
                f"FAKESWEEP_DETECTOR: the cascade {self.name} has no clear threshold yet: run fakesweep calibrate "
                "--max-miss-rate on labelled images, which finds it and writes [clear]"
            )
        return self.clear.up_to

    def check_first(self, first: DetectorDescription) -> None:
        """Raises ConfigurationError if the clear threshold was found with another first stage.

        Its promise does not hold for this one. `first` has its true revision.
        """
        if self.clear.fitted_with and self.clear.fitted_with != first.fingerprint:
            raise ConfigurationError(
                f"FAKESWEEP_DETECTOR: the clear threshold of {self.name} was found with another first stage "
                f"({self.clear.fitted_with[:12]}…) than {first.name} is now ({first.fingerprint[:12]}…): run fakesweep "
                "calibrate --max-miss-rate again, or restore its revision and calibration"
            )

    def with_stages(self, first: DetectorDescription, judge: DetectorDescription) -> Self:
        """Returns the cascade of the same two detectors, with their true revisions."""
        return self.model_copy(update={"first": first, "judge": judge})


def _together(notices: list[str]) -> str | None:
    """Joins the notices. One that another one repeats is left out: a head's notice begins with that of its detector."""
    kept = [one for one in dict.fromkeys(notices) if not any(one in other and one != other for other in notices)]
    return " ".join(kept) or None
