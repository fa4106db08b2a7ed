"""What the audited sample says about the images that a cascade has cleared."""

import numpy as np
import pytest
from scipy import stats

from producers.reporting.audits import audit_line, miss_rate

_MANY = [(100_000, 10_000_000), (300_000, 400_000), (999_999, 1_000_000)]


@pytest.mark.parametrize(
    ("flagged", "audited"), [(0, 1), (0, 500), (1, 1), (3, 700), (40, 41), (41, 41), (900, 70_000), *_MANY]
)
def test_the_interval_is_that_of_clopper_and_pearson(flagged: int, audited: int) -> None:
    cleared, others = 100 * audited, 2000
    found = miss_rate(cleared, audited, flagged, others)
    assert found is not None
    exact = stats.binomtest(flagged, audited).proportion_ci(0.95, method="exact")
    for ours, share in ((found.low, exact.low), (found.share, flagged / audited), (found.high, exact.high)):
        assert ours == pytest.approx(share * cleared / (share * cleared + others), rel=1e-6, abs=1e-12)


def test_without_audits_or_anything_flagged_nothing_is_known() -> None:
    assert miss_rate(1000, 0, 0, 50) is None
    assert miss_rate(1000, 10, 0, 0) is None
    assert miss_rate(0, 0, 0, 0) is None


def test_the_interval_covers_the_truth_in_95_of_100_simulated_scans() -> None:
    """200 scans of 200,000 images: 70 % are cleared, and 1 % of these audited. The truth differs from scan to scan."""
    chance = np.random.default_rng(18)
    covered = 0
    for _ in range(200):
        cleared, others = 140_000, int(chance.integers(500, 6000))
        missed = int(chance.integers(0, 1500))
        in_sample = chance.random(cleared) < 0.01  # as worker.detector.cascade draws it
        audited, flagged = int(in_sample.sum()), int(in_sample[:missed].sum())
        found = miss_rate(cleared, audited, flagged, others)
        assert found is not None
        covered += found.low <= missed / (missed + others) <= found.high
    assert covered >= 190


def test_a_sentence_says_it_to_people() -> None:
    row = {"detector": "two", "cleared": 700, "judged": 300, "audited": 70, "audited_flagged": 0,
           "max_miss_rate": 0.005, "miss_rate": 0.0, "miss_rate_low": 0.0, "miss_rate_high": 0.25}  # fmt: skip
    assert audit_line(row) == (
        "two cleared 700 of 1000 images. The judge checked 70 of these and flagged 0: "
        "miss rate 0.00% (95 %: 0.00% to 25.00%, promised 0.50%)"
    )
    assert audit_line(row | {"miss_rate": None}).endswith("the miss rate is not known")
