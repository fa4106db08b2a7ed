"""How far reviewers agree."""

from collections.abc import Sequence
from dataclasses import dataclass

from worker.database import Database

ENOUGH = 20
"""Contents in common, below which a coefficient says nothing."""


@dataclass(frozen=True)
class Pair:
    """Two reviewers and the contents that both reviewed. `kappa` is Cohen's, None with `why` where it means nothing."""

    first: str
    second: str
    contents: int
    agreed: int
    kappa: float | None
    why: str | None


@dataclass(frozen=True)
class Agreement:
    """`alpha` is Krippendorff's over all contents that two or more people reviewed; None with `why`."""

    contents: int
    reviewers: int
    alpha: float | None
    why: str | None
    pairs: Sequence[Pair]


def agreement(database: Database) -> Agreement:
    """By the first word of each person on a content; appeals and withdrawn reviews are left out."""
    raise NotImplementedError
