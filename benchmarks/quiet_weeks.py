"""Simulates counts of findings: weeks in which only the mix of images changes, or in which a new generator comes.

An image is real or made by a known generator, and easy or hard. Both shares move on the logit scale, by the week, the
day and the hour, and by the time of day. So weeks differ by more than chance, like those of a real platform.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

WEEKS = 26
"""The view `drift` reads this far back."""
BINS = 20
FAKE_FROM, REAL_TO = 12, 8
"""Score bins of the verdicts fake and real, at the usual thresholds 0.6 and 0.4."""

_STEPS = np.arange(BINS)
_UNSURE = np.exp(-_STEPS / 3) * (_STEPS > 0)
REAL_HARD = _UNSURE / _UNSURE.sum()
FAKE_HARD = REAL_HARD[::-1]
REAL_EASY, FAKE_EASY = (_STEPS == 0).astype(float), (_STEPS == BINS - 1).astype(float)


@dataclass(frozen=True)
class Bucket:
    """A source of images: how many per week, and in which hours of the day."""

    name: str
    images: int
    hours: tuple[int, ...]


NIGHT = (1, 2, 3, 4)
BUCKETS = (
    Bucket("uploads", 20_000, tuple(range(24))),
    Bucket("archive", 5_000, NIGHT),
    Bucket("avatars", 20_000, NIGHT),
    Bucket("adverts", 50_000, NIGHT),
    Bucket("photos", 200_000, NIGHT),
)


@dataclass
class World:
    """How weeks differ. `week`, `day` and `hour` are standard deviations on the logit scale.

    `tails`: degrees of freedom of Student's t for weeks with outliers; None for normal weeks. `memory`: the correlation
    of a week with the week before.
    """

    random: np.random.Generator
    week: float = 0.08
    day: float = 0.12
    hour: float = 0.2
    tails: int | None = None
    memory: float = 0
    fake: float = 0.05
    hard: float = 0.05
    daily_cycle: float = 0.3

    def effects(self, hours: int) -> NDArray[np.float64]:
        """Returns what is added to a logit in each of the last WEEKS weeks, with `hours` values per day."""
        days = WEEKS * 7
        weeks = self._weeks(WEEKS + 1)
        first = int(self.random.integers(7))  # today is any day of the week
        by_day = np.repeat(weeks, 7)[first : first + days] + self.day * self.random.standard_normal(days)
        return np.repeat(by_day, hours) + self.hour * self.random.standard_normal(days * hours)

    def _weeks(self, count: int) -> NDArray[np.float64]:
        if self.tails is None:
            drawn = self.random.standard_normal(count)
        else:
            drawn = self.random.standard_t(self.tails, count) / np.sqrt(self.tails / (self.tails - 2))
        for number in range(1, count):
            drawn[number] = self.memory * drawn[number - 1] + np.sqrt(1 - self.memory**2) * drawn[number]
        return self.week * drawn


@dataclass(frozen=True)
class Change:
    """In the last `days` days, `share` of a bucket's images come from a generator that the detector does not know."""

    bucket: str
    days: int
    share: float = 0.05
    scores: NDArray[np.float64] = field(default_factory=lambda: 0.4 * REAL_EASY + 0.6 / BINS)
    """Two in five look real to the detector. It gives the others any score."""


def hourly_counts(world: World, change: Change | None = None) -> dict[str, NDArray[np.int64]]:
    """Returns by bucket: images by hour and score bin, for each of its hours of WEEKS * 7 days, the oldest first."""
    return {bucket.name: _counts(world, bucket, change) for bucket in BUCKETS}


def _counts(world: World, bucket: Bucket, change: Change | None) -> NDArray[np.int64]:
    hours, days = len(bucket.hours), WEEKS * 7
    fake = _share(world.fake, world.effects(hours) + _cycle(world, bucket))
    hard = _share(world.hard, world.effects(hours))
    chances = (
        (1 - fake) * (1 - hard) * REAL_EASY + (1 - fake) * hard * REAL_HARD
        + fake * (1 - 3 * hard) * FAKE_EASY + fake * 3 * hard * FAKE_HARD
    )  # fmt: skip
    if change and change.bucket == bucket.name:
        chances[-change.days * hours :] *= 1 - change.share
        chances[-change.days * hours :] += change.share * change.scores
    weekly = bucket.images * np.exp(world.random.normal(0, 0.15, WEEKS))
    sizes = world.random.poisson(np.repeat(weekly / (7 * hours), 7 * hours))
    return world.random.multinomial(sizes, chances / chances.sum(axis=1, keepdims=True)).reshape(days, hours, BINS)


def _share(usual: float, effects: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-(np.log(usual / (1 - usual)) + effects))))[:, None]


def _cycle(world: World, bucket: Bucket) -> NDArray[np.float64]:
    """Adds fakes in the evening and removes some in the morning."""
    return np.tile(world.daily_cycle * np.sin((np.array(bucket.hours) - 12) / 24 * 2 * np.pi), WEEKS * 7)
