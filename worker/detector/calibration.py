"""From the log-odds of the two verdict words to P(fake)."""

import math
from itertools import pairwise
from typing import Annotated, Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

_Finite = Annotated[float, Field(allow_inf_nan=False)]
Knot = tuple[_Finite, Annotated[float, Field(ge=0, le=1)]]
"""Log-odds in nats, and the score there."""


class Calibration(BaseModel):
    """score = sigmoid(slope * log_odds + offset), in nats: Platt scaling (Platt 1999) of the verdict tokens' log-odds.

    Temperature scaling (Guo et al. 2017) is `slope` = 1 / T with no offset. `knots` take the sigmoid's place: straight
    lines between them and the end scores beyond, as isotonic regression leaves them (Zadrozny and Elkan 2002). Without
    a calibration the score is the softmax over the two verdict words. The other fields say where the numbers come from:
    what and how many images they were fitted on, the preprocessing revision that they were fitted under (None: images
    were decoded in full), and the expected calibration error on other images, before and after.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    slope: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    offset: _Finite = 0.0
    knots: Annotated[tuple[Knot, ...], Field(min_length=2)] | None = None
    fitted_on: str | None = None
    images: Annotated[int, Field(ge=1)] | None = None
    preprocessing: str | None = None
    error_before: Annotated[float, Field(ge=0, le=1)] | None = None
    error_after: Annotated[float, Field(ge=0, le=1)] | None = None

    @model_validator(mode="after")
    def _knots_rise(self) -> Self:
        if self.knots is None:
            return self
        if (self.slope, self.offset) != (1.0, 0.0):
            raise ValueError("knots take the place of slope and offset: give either")
        if not all(one[0] < next_one[0] and one[1] <= next_one[1] for one, next_one in pairwise(self.knots)):
            raise ValueError("knots must rise in their log-odds and never fall in their scores")
        return self

    @property
    def parameters(self) -> list[Any]:
        """All that decides a score: what the detector's fingerprint covers."""
        return [self.slope, self.offset, *([] if self.knots is None else [self.knots])]

    def score(self, log_odds: float) -> float:
        """P(fake) in 0..1 of log P(fake) - log P(real)."""
        if self.knots is not None:
            at, scores = zip(*self.knots, strict=True)
            # Between two knots the last digit may come out beyond the higher one.
            return float(min(np.interp(log_odds, at, scores), scores[-1]))
        # exp overflows beyond 709; log-odds can be that large in float16's tails.
        return 1.0 / (1.0 + math.exp(min(-(self.slope * log_odds + self.offset), 700.0)))
