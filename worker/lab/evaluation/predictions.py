"""What a detector said of each labelled image: a line of predictions.jsonl."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from worker.detector.verdicts import Answer

FILE = "predictions.jsonl"

MAX_LOG_ODDS = 1e6
"""In nats, in both directions. float16, whose largest number is 65,504, gives no larger ones."""

Score = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
LogOdds = Annotated[float, Field(ge=-MAX_LOG_ODDS, le=MAX_LOG_ODDS, allow_inf_nan=False)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Prediction(BaseModel):
    """The line of one image.

    `label` is FakeClue's: 1 = real, 0 = fake. `verdict` is the detector's own word, including undecided, as the paper
    counts it. `score` is P(fake), calibrated, and `log_odds`, in nats, is the value that it came from; both are None
    when undecided. `answer` is everything that the detector wrote, and `reference` what it should have written,
    according to the dataset; None if the detector gives no reasons. `generator` comes from the image's path
    (worker.lab.datasets.records). `perturbation` is a name of worker.lab.evaluation.perturbations, or "clean". `sha256`
    is of the image's bytes before the perturbation. It is None in files of older releases.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    image: str
    sha256: Sha256 | None = None
    label: Literal[0, 1]
    category: str | None = None
    generator: str | None = None
    perturbation: str = "clean"
    verdict: Answer
    score: Score | None
    log_odds: LogOdds | None = None
    answer: str
    reference: str | None = None

    @property
    def is_fake(self) -> bool:
        """Whether the label is fake. Fake is the positive class of every score."""
        return self.label == 0
