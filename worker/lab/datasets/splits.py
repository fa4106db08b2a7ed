"""Decides to which part of a dataset a content belongs. Only the SHA-256 of the content counts."""

import hmac
from enum import StrEnum
from itertools import accumulate
from math import isclose
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Share = Annotated[float, Field(ge=0, le=1)]


class Split(StrEnum):
    """The parts of a dataset: to train on, to choose thresholds and the stop, and to report on."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


class Shares(BaseModel):
    """The share of each part of a dataset. They sum to 1."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    train: Share = 0.8
    validation: Share = 0.1
    test: Share = 0.1

    @model_validator(mode="after")
    def _whole(self) -> Self:
        total = self.train + self.validation + self.test
        if not isclose(total, 1, abs_tol=1e-6):
            raise ValueError(f"train, validation and test must sum to 1, not to {total:g}")
        return self


def split_of(sha256: str, shares: Shares, seed: int, purpose: str = "") -> Split:
    """Returns the part for the content with this SHA-256, in hexadecimal.

    It uses HMAC-SHA-256 of the content's hash with the seed, read as a fraction of 1. This is as good as random, and
    gives the same result for the same content under any name and in any dataset. If shares change, only contents
    between the old and the new border move. Splits for different values of `purpose` are independent under the same
    seed, so that one split does not always train on what another one never holds out.
    """
    # 48 bits: exact in a float, and never rounded up to 1.
    fraction = int.from_bytes(hmac.digest(f"{purpose}{seed}".encode(), bytes.fromhex(sha256), "sha256")[:6]) / 2**48
    wanted = [(split, share) for split in Split if (share := getattr(shares, split)) > 0]
    borders = accumulate(share for _, share in wanted)
    chosen = (split for (split, _), border in zip(wanted, borders, strict=True) if fraction < border)
    return next(chosen, wanted[-1][0])  # the shares may sum to a little less than 1
