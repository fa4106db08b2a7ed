"""Calibrations, the three ways to fit one, and the errors that are measured."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize, minimize_scalar
from sklearn.isotonic import IsotonicRegression

from tests.conftest import DEMO_DETECTOR
from tests.unit.predicting import drawn
from worker.detector.calibration import Calibration
from worker.detector.loading import load_description
from worker.errors import ConfigurationError
from worker.lab.evaluation.calibrate import scores
from worker.lab.evaluation.fitting import Method, fit
from worker.lab.evaluation.reliability import bins_of, expected_calibration_error, reliability
from worker.settings import Settings
from worker.testing import scripted_description

KNOTS = ((-2.0, 0.1), (0.0, 0.1), (1.0, 0.7), (3.0, 0.9))

log_odds_of_a_set = st.lists(st.integers(-40, 40).map(lambda one: one / 4), min_size=2, max_size=60)


# Calibrations


@pytest.mark.parametrize(
    ("log_odds", "score"), [(-50, 0.1), (-2, 0.1), (-1, 0.1), (0.5, 0.4), (1, 0.7), (2, 0.8), (3, 0.9), (50, 0.9)]
)
def test_knots_are_joined_by_straight_lines_and_end_flat(log_odds: float, score: float) -> None:
    assert Calibration(knots=KNOTS).score(log_odds) == pytest.approx(score)


def test_a_score_is_never_above_that_of_the_last_knot() -> None:
    """numpy.interp alone gives 0.47616696321699564 just below this last knot."""
    last = 0.4761669632169956
    calibration = Calibration(knots=((-8.808136338051337, 0.07374101339780592), (0.3469854812778777, last)))
    assert calibration.score(math.nextafter(0.3469854812778777, -1)) <= last


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"knots": [[0, 0.5]]}, "at least 2"),
        ({"knots": [[0, 0.5], [0, 0.6]]}, "rise in their log-odds"),
        ({"knots": [[0, 0.5], [1, 0.4]]}, "never fall in their scores"),
        ({"knots": [[0, 0.5], [1, 1.1]]}, "less than or equal to 1"),
        ({"knots": [[0, 0.5], [math.inf, 0.6]]}, "finite"),
        ({"knots": [[0, 0.5], [1, 0.6]], "slope": 0.5}, "give one or the other"),
        ({"knots": [[0, 0.5], [1, 0.6]], "offset": 0.5}, "give one or the other"),
    ],
)
def test_an_error_in_knots_names_its_cause(content: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Calibration.model_validate(content)


def test_descriptions_without_knots_keep_their_fingerprints() -> None:
    """Verdicts in databases refer to their detector by these fingerprints."""
    assert [
        load_description(Settings(detector="fakevlm")).fingerprint,
        load_description(Settings(detector=str(DEMO_DETECTOR))).model_copy(update={"revision": "1"}).fingerprint,
        scripted_description(calibration={"slope": 0.7, "offset": -0.2}).fingerprint,
    ] == [
        "d58607367be0309f47e75f4f4c60a2f158d770884803c801732922cb409fee25",
        "9cefdedf6cb51cdeae97dc0d47067ad125b7a97e73578b5c1bc4f706bc9547ca",
        "3f570e545dbfac6046f9f207058eafde72dc625424f170883c148020a6d7d1c1",
    ]


def test_other_knots_make_another_detector() -> None:
    calibrations: list[dict[str, Any]] = [{}, {"knots": KNOTS}, {"knots": (*KNOTS[:-1], (3.0, 0.91))}]
    assert len({scripted_description(calibration=one).fingerprint for one in calibrations}) == 3


# Fits


@pytest.mark.parametrize(("method", "offset"), [("temperature", 0.0), ("platt", -0.8), ("isotonic", -0.8)])
def test_a_fit_finds_the_true_values_and_helps_on_other_images(method: Method, offset: float) -> None:
    fitted = fit(*drawn(20_000, 0.4, offset, seed=1), method)
    if method != "isotonic":
        assert fitted.slope == pytest.approx(0.4, abs=0.02)
        assert fitted.offset == pytest.approx(offset, abs=0.06)
    log_odds, is_fake = drawn(20_000, 0.4, offset, seed=2)
    before, after = (reliability(scores(one, log_odds), is_fake) for one in (Calibration(), fitted))
    assert after.expected_calibration_error < 0.015
    assert before.expected_calibration_error > 0.1
    assert after.log_loss < before.log_loss
    assert after.brier_score < before.brier_score


def likelihood(slope: float, offset: float, log_odds: np.ndarray, target: np.ndarray) -> float:
    """Returns the negative log-likelihood of smoothed labels, written as a sum."""
    at = slope * log_odds + offset
    return float(np.sum(np.logaddexp(0, at) - target * at))


def test_slope_and_offset_have_the_highest_likelihood() -> None:
    log_odds, is_fake = drawn(300, 0.5, 1, seed=3)
    fakes = is_fake.sum()
    target = np.where(is_fake, (fakes + 1) / (fakes + 2), 1 / (300 - fakes + 2))
    one = minimize_scalar(lambda slope: likelihood(slope, 0, log_odds, target), bounds=(0, 5), method="bounded")
    assert fit(log_odds, is_fake, "temperature").slope == pytest.approx(one.x, rel=1e-3)
    both = minimize(lambda at: likelihood(at[0], at[1], log_odds, target), [1, 0])
    platt = fit(log_odds, is_fake, "platt")
    assert [platt.slope, platt.offset] == pytest.approx(both.x, rel=1e-3)


@pytest.mark.parametrize("method", ["temperature", "platt"])
def test_separable_classes_have_a_finite_slope(method: Method) -> None:
    fitted = fit(np.array([-3.0, -2.0, 2.0, 3.0]), np.array([False, False, True, True]), method)
    assert 0 < fitted.slope < 10


@pytest.mark.parametrize("method", ["temperature", "platt", "isotonic"])
def test_swapped_labels_are_an_error(method: Method) -> None:
    with pytest.raises(ConfigurationError, match="check the labels"):
        fit(np.array([-3.0, -2.0, 2.0, 3.0]), np.array([True, True, False, False]), method)


def test_isotonic_scores_are_never_0_or_1() -> None:
    fitted = fit(np.array([-3.0, -2.0, -1.0, 2.0, 3.0]), np.array([False, False, False, True, True]), "isotonic")
    assert [fitted.score(one) for one in (-9, -3, 3, 9)] == pytest.approx([1 / 5, 1 / 5, 3 / 4, 3 / 4])


@settings(max_examples=60, deadline=None)
@given(log_odds_of_a_set, st.data())
def test_isotonic_scores_rise_and_equal_those_of_scikit_learn_clipped(values: list[float], data: st.DataObject) -> None:
    log_odds = np.array(values)
    is_fake = np.array(data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values))))
    try:
        fitted = fit(log_odds, is_fake, "isotonic")
    except ConfigurationError:
        return
    found = scores(fitted, np.linspace(-12, 12, 200))
    assert np.all(np.diff(found) >= -1e-12)
    assert np.all((found > 0) & (found < 1))
    theirs = IsotonicRegression(out_of_bounds="clip").fit(log_odds, is_fake).predict(log_odds)
    fakes, reals = is_fake.sum(), (~is_fake).sum()
    assert scores(fitted, log_odds) == pytest.approx(np.clip(theirs, 1 / (reals + 2), (fakes + 1) / (fakes + 2)))


# Errors


@pytest.mark.parametrize(
    ("values", "labels", "error"),
    [
        ([0.0, 1.0], [False, True], 0.0),
        ([0.0, 1.0], [True, False], 1.0),
        ([0.7, 0.7, 0.7, 0.7], [True, True, True, False], 0.05),
        ([0.1, 0.9], [False, False], 0.5),
    ],
)
def test_the_error_by_hand(values: list[float], labels: list[bool], error: float) -> None:
    assert expected_calibration_error(np.array(values), np.array(labels)) == pytest.approx(error)


def test_bins_by_hand() -> None:
    found = bins_of(np.array([0.0, 0.01, 1 / 15, 0.99, 1.0]), np.array([False, True, False, True, True]))
    assert [(one.images, one.share_fake) for one in found] == [(2, 0.5), (1, 0), (2, 1)]
    assert [one.score for one in found] == pytest.approx([0.005, 1 / 15, 0.995])


def test_brier_score_and_log_loss_by_hand() -> None:
    values, labels = np.array([0.9, 0.2, 0.6]), np.array([True, False, False])
    found = reliability(values, labels)
    assert found.brier_score == pytest.approx((0.1**2 + 0.2**2 + 0.6**2) / 3)
    assert found.log_loss == pytest.approx(-(math.log(0.9) + math.log(0.8) + math.log(0.4)) / 3)
    assert found.images == 3


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=80))
def test_the_error_equals_that_of_a_loop_over_bins(pairs: list[tuple[float, bool]]) -> None:
    values, labels = np.array([one for one, _ in pairs]), np.array([one for _, one in pairs])
    error = 0.0
    for place in range(15):
        inside = [one for one in pairs if int(one[0] * 15) == place or (place == 14 and one[0] == 1)]
        if inside:
            mean = sum(score for score, _ in inside) / len(inside)
            share = sum(fake for _, fake in inside) / len(inside)
            error += len(inside) / len(pairs) * abs(mean - share)
    assert expected_calibration_error(values, labels) == pytest.approx(error)
    assert 0 <= error <= 1
