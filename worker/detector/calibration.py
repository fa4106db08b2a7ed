"""From the log-odds of the two verdict words to P(fake)."""

import math
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Calibration(BaseModel):
    """score = sigmoid(slope * log_odds + offset), in nats: Platt scaling (Platt 1999) of the verdict tokens' log-odds.

    Temperature scaling (Guo et al. 2017) is `slope` = 1 / T with no offset. Without a calibration the score is the
    softmax over the two verdict words. The other fields say where the numbers come from: the number of images that they
    were fitted on, and the expected calibration error on other images, before and after.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    slope: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    offset: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    fitted_on: str | None = None
    images: Annotated[int, Field(ge=1)] | None = None
    error_before: Annotated[float, Field(ge=0, le=1)] | None = None
    error_after: Annotated[float, Field(ge=0, le=1)] | None = None

    def score(self, log_odds: float) -> float:
        """P(fake) in 0..1 of log P(fake) - log P(real)."""
        # exp overflows beyond 709; log-odds can be that large in float16's tails.
        return 1.0 / (1.0 + math.exp(min(-(self.slope * log_odds + self.offset), 700.0)))
