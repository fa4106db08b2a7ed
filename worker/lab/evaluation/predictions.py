"""What a detector said of each labelled image: one line of predictions.jsonl."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from worker.detector.verdicts import Answer

FILE = "predictions.jsonl"

MAX_LOG_ODDS = 1e6
"""In nats, either way: float16, whose largest number is 65,504, gives no larger ones."""

Score = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
LogOdds = Annotated[float, Field(ge=-MAX_LOG_ODDS, le=MAX_LOG_ODDS, allow_inf_nan=False)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Prediction(BaseModel):
    """One image's line.

    `label` as FakeClue has it: 1 = real, 0 = fake. `verdict` is the detector's own word, undecided included, as the
    paper counts it; `score` is P(fake), calibrated, and `log_odds` what it came from, in nats; both None when
    undecided. `answer` is all that the detector wrote, `reference` what the dataset says it should have written.
    `generator` is what the image's path tells (worker.lab.datasets.records), `perturbation` a name of
    worker.lab.evaluation.perturbations or "clean". `sha256` is of the image's bytes before it was perturbed; None in
    files of before it was written.
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
        """The label, in this project's terms: fake is the positive class of every score."""
        return self.label == 0
