"""A stack: one score from the log-odds of several detectors. `fakesweep stack` fits it and writes it as stack.toml."""

import hashlib
import json
import math
import tomllib
from collections.abc import Mapping, Sequence
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from worker.errors import ConfigurationError
from worker.wording import worded

MOST = 1e6
"""The largest log-odds that count, in nats, in both directions, and the largest weight. So nothing can overflow.
float16, whose largest number is 65,504, gives no larger log-odds."""

_STEEPEST = 700.0
"""exp overflows beyond 709, and underflow is an error in Postgres."""

Weight = Annotated[float, Field(ge=0, le=MOST, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Weighted(_Section):
    """A detector of a stack, by its fingerprint. `weight` multiplies its log-odds, as they were before calibration."""

    name: Annotated[str, Field(min_length=1)]
    fingerprint: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    weight: Weight


class Stack(_Section):
    """score = sigmoid(offset + sum of weight * log-odds), in nats: stacked generalisation (Wolpert 1992).

    Fake from `fake_from` on, real up to `real_to`, else uncertain. The other fields say where the numbers come from:
    the data and the number of images that they were fitted on, and the expected calibration error on other images, of
    the best detector alone (`error_before`) and of the stack (`error_after`).
    """

    name: Annotated[str, Field(min_length=1, max_length=200)]
    offset: Annotated[float, Field(allow_inf_nan=False)]
    fake_from: Share
    real_to: Share
    fitted_on: str | None = None
    images: Annotated[int, Field(ge=1)] | None = None
    error_before: Share | None = None
    error_after: Share | None = None
    detectors: Annotated[tuple[Weighted, ...], Field(min_length=2)]

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.real_to > self.fake_from:
            raise ValueError("real_to must not be above fake_from")
        if len(set(self.fingerprints)) < len(self.detectors):
            raise ValueError("detectors must differ: a fingerprint is there twice")
        if not any(one.weight for one in self.detectors):
            raise ValueError("at least one weight must be above 0")
        return self

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """The fingerprints of the detectors, in the order of the file."""
        return tuple(one.fingerprint for one in self.detectors)

    @property
    def fingerprint(self) -> str:
        """The SHA-256, in hexadecimal, of all that decides a score or a verdict. The order of detectors does not."""
        weights = sorted((one.fingerprint, one.weight) for one in self.detectors)
        content = [self.offset, weights, self.fake_from, self.real_to]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def score(self, log_odds: Mapping[str, float]) -> float:
        """Returns P(fake) in 0..1 from each detector's log-odds, by fingerprint. Raises KeyError if one is missing."""
        weights = [one.weight for one in self.detectors]
        return stacked_score(self.offset, weights, [log_odds[one] for one in self.fingerprints])


def stacked_score(offset: float, weights: Sequence[float], log_odds: Sequence[float]) -> float:
    """Returns P(fake) in 0..1. The function of the same name in the database does the same steps in the same order."""
    evidence = 0.0
    for weight, one in zip(weights, log_odds, strict=True):  # not sum(), which Python 3.12 rounds in another way
        evidence += weight * max(-MOST, min(one, MOST))
    return 1.0 / (1.0 + math.exp(max(-_STEEPEST, min(-(offset + evidence), _STEEPEST))))


def parse_stack(text: str, *, where: str) -> Stack:
    """Reads the text of a stack.toml. Raises ConfigurationError with the name of the file, `where`, and the fault."""
    try:
        return Stack.model_validate(tomllib.loads(text))
    except ValidationError as error:
        fault = error.errors()[0]
        field = ".".join(map(str, fault["loc"]))
        raise ConfigurationError(f"{where}: {field or 'whole file'}: {worded(fault)}") from None
    except ValueError as error:
        raise ConfigurationError(f"{where} is not a stack ({error}); fakesweep stack writes such a file") from None
