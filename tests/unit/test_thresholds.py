"""Thresholds for an accepted error rate, and how many images are needed to show a rate."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta

from worker.detector.description import Thresholds
from worker.errors import ConfigurationError
from worker.lab.evaluation.thresholds import choose_thresholds, images_needed, share

BEFORE = Thresholds(fake_from=0.6, real_to=0.4)
FEW_LEVELS = st.integers(0, 10).map(lambda one: one / 10)
"""so that many scores are equal"""
sets = st.lists(st.tuples(FEW_LEVELS, st.booleans()), min_size=2, max_size=60).filter(
    lambda pairs: len({fake for _, fake in pairs}) == 2
)
rates = st.sampled_from([0.0, 0.01, 0.05, 0.1, 0.2, 1 / 3, 0.5])


def arrays(pairs: list[tuple[float, bool]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([score for score, _ in pairs]), np.array([fake for _, fake in pairs])


@settings(max_examples=300, deadline=None)
@given(sets, rates)
def test_the_lowest_threshold_that_keeps_the_rate_is_chosen(pairs: list[tuple[float, bool]], rate: float) -> None:
    scores, is_fake = arrays(pairs)
    keeping = [one for one in sorted(set(scores)) if (scores[~is_fake] >= one).mean() <= rate]
    finding = [one for one in keeping if (scores[is_fake] >= one).any()]
    if not finding:
        with pytest.raises(ConfigurationError, match=r"--false-positive-rate .*no threshold keeps this rate"):
            choose_thresholds(scores, is_fake, BEFORE, false_positive_rate=rate)
        return
    found = choose_thresholds(scores, is_fake, BEFORE, false_positive_rate=rate)
    assert found.fake_from == max(min(keeping), 0.5)
    assert found.real_to == min(BEFORE.real_to, found.fake_from)


@settings(max_examples=300, deadline=None)
@given(sets, rates)
def test_the_wanted_miss_rate_is_kept(pairs: list[tuple[float, bool]], rate: float) -> None:
    scores, is_fake = arrays(pairs)
    keeping = [one for one in sorted(set(scores)) if (scores[is_fake] <= one).mean() <= rate]
    try:
        found = choose_thresholds(scores, is_fake, BEFORE, false_positive_rate=0.5, miss_rate=rate)
    except ConfigurationError:
        return
    assert found.real_to == min(max(keeping), 0.5)


def test_the_error_names_the_lowest_possible_rate() -> None:
    scores, is_fake = np.array([0.9, 0.8, 0.7, 0.1, 0.2, 0.3, 0.3]), np.array([False, True, *[False] * 5])
    with pytest.raises(ConfigurationError, match=r"the lowest possible rate on these images is 0\.1667") as caught:
        choose_thresholds(scores, is_fake, BEFORE, false_positive_rate=0.01)
    assert "calls any fake image fake" in str(caught.value)
    assert choose_thresholds(scores, is_fake, BEFORE, false_positive_rate=0.1667).fake_from == 0.8


def test_no_image_is_called_fake_if_real_is_more_likely() -> None:
    scores, is_fake = np.array([0.1, 0.2, 0.9]), np.array([False, True, True])
    assert choose_thresholds(scores, is_fake, BEFORE, false_positive_rate=0.5).fake_from == 0.5


def test_no_image_is_called_real_if_fake_is_more_likely() -> None:
    scores, is_fake = np.array([0.1, 0.8, 0.9]), np.array([False, False, True])
    assert choose_thresholds(scores, is_fake, BEFORE, false_positive_rate=0, miss_rate=0).real_to == 0.5


def test_rates_count_all_images_of_a_class_also_undecided_ones() -> None:
    """One of four real images is above the fakes, and one of four fakes below the reals.

    Of those with a score, it is one of two.
    """
    scores = np.array([0.9, 0.1, 0.8, 0.05, *[np.nan] * 4])
    is_fake = np.array([False, False, True, True, *[False, True] * 2])
    found = choose_thresholds(scores, is_fake, BEFORE, false_positive_rate=0.25, miss_rate=0.25)
    assert (found.fake_from, found.real_to) == (0.8, 0.1)
    with pytest.raises(ConfigurationError, match=r"the lowest possible rate on these images is 0\.25"):
        choose_thresholds(scores, is_fake, BEFORE, false_positive_rate=0.2)


def test_an_impossible_miss_rate_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match=r"--miss-rate 0: .*calls any real image real"):
        choose_thresholds(
            np.array([0.1, 0.5, 0.9]), np.array([True, False, True]), BEFORE, false_positive_rate=0.5, miss_rate=0
        )


@pytest.mark.parametrize("level", [0.01, 0.5, 1 - 1e-15])
def test_equal_scores_keep_no_rate(level: float) -> None:
    with pytest.raises(ConfigurationError, match="the lowest possible rate on these images is 1;"):
        choose_thresholds(np.full(4, level), np.array([True, False] * 2), BEFORE, false_positive_rate=0.5)


@pytest.mark.parametrize(("count", "images"), [(0, 20), (1, 20), (7, 20), (20, 20), (0, 1)])
def test_the_interval_is_clopper_and_pearsons(count: int, images: int) -> None:
    found = share(np.arange(images) < count)
    low = beta.ppf(0.025, count, images - count + 1) if count else 0
    high = beta.ppf(0.975, count + 1, images - count) if count < images else 1
    assert (found.count, found.images, found.share) == (count, images, count / images)
    assert (found.low, found.high) == pytest.approx((low, high))


@pytest.mark.parametrize(("rate", "needed"), [(0.01, 299), (0.05, 59), (0.5, 5), (0.001, 2995)])
def test_the_number_of_images_that_shows_a_rate(rate: float, needed: int) -> None:
    assert images_needed(rate) == needed
    assert (1 - rate) ** needed <= 0.05 < (1 - rate) ** (needed - 1)
    assert needed == pytest.approx(3 / rate, rel=0.2)
    # The one-sided exact bound if none of these images is wrong.
    assert math.isclose(beta.ppf(0.95, 1, needed), rate, rel_tol=0.11)
