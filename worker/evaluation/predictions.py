"""What a detector said of each labelled image: one line of predictions.jsonl."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from worker.detector.verdicts import Answer

FILE = "predictions.jsonl"


class Prediction(BaseModel):
    """One image's line.

    `label` as FakeClue has it: 1 = real, 0 = fake. `verdict` is the detector's own word, undecided included, as the
    paper counts it; `score` is P(fake), calibrated, and `log_odds` what it came from, in nats; both None when
    undecided. `answer` is all that the detector wrote, `reference` what the dataset says it should have written.
    `generator` is what the image's path tells (worker.datasets.records), `perturbation` a name of
    worker.evaluation.perturbations or "clean".
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    image: str
    label: Literal[0, 1]
    category: str | None = None
    generator: str | None = None
    perturbation: str = "clean"
    verdict: Answer
    score: float | None
    log_odds: float | None = None
    answer: str
    reference: str | None = None

    @property
    def is_fake(self) -> bool:
        """The label, in this project's terms: fake is the positive class of every score."""
        return self.label == 0
