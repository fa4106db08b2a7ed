"""Turns the log-odds of the two verdict words into P(fake)."""

import math
from itertools import pairwise
from typing import Annotated, Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

_Finite = Annotated[float, Field(allow_inf_nan=False)]
Knot = tuple[_Finite, Annotated[float, Field(ge=0, le=1)]]
"""Log-odds in nats, and the score at that point."""


class Calibration(BaseModel):
    """score = sigmoid(slope * log_odds + offset), in nats: Platt scaling (Platt 1999) of the verdict tokens' log-odds.

    Temperature scaling (Guo et al. 2017) is `slope` = 1 / T without an offset. `knots` replace the sigmoid: the score
    follows straight lines between them and is constant beyond the ends, as isotonic regression fits it (Zadrozny and
    Elkan 2002). Without a calibration, the score is the softmax over the two verdict words. The other fields say where
    the numbers come from: the data and the number of images that they were fitted on, the preprocessing revision at
    that time (None: images were decoded in full), and the expected calibration error on other images, before and after.
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
            raise ValueError("knots replace slope and offset: give one or the other")
        if not all(one[0] < next_one[0] and one[1] <= next_one[1] for one, next_one in pairwise(self.knots)):
            raise ValueError("knots must rise in their log-odds and never fall in their scores")
        return self

    @property
    def parameters(self) -> list[Any]:
        """All values that decide a score. The detector's fingerprint covers them."""
        return [self.slope, self.offset, *([] if self.knots is None else [self.knots])]

    def score(self, log_odds: float) -> float:
        """Returns P(fake) in 0..1 from log P(fake) - log P(real)."""
        if self.knots is not None:
            at, scores = zip(*self.knots, strict=True)
            # Between two knots, rounding may give a result slightly above the higher one.
            return float(min(np.interp(log_odds, at, scores), scores[-1]))
        # exp overflows beyond 709, and log-odds of a float16 model can be larger.
        return 1.0 / (1.0 + math.exp(min(-(self.slope * log_odds + self.offset), 700.0)))
