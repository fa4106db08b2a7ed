"""Fitting two numbers, and the error that they are judged by."""

import numpy as np
import pytest
from sklearn.metrics import log_loss

from deploy.demo.calibrate import expected_calibration_error, fit
from worker.detector.calibration import Calibration


def drawn(count: int, slope: float, offset: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Log-odds whose true P(fake) is sigmoid(slope * log_odds + offset), and labels drawn from that."""
    chance = np.random.default_rng(seed)
    log_odds = chance.normal(0, 4, count)
    truth = 1 / (1 + np.exp(-(slope * log_odds + offset)))
    return log_odds, (chance.random(count) < truth).astype(np.float64)


def scores(calibration: Calibration, log_odds: np.ndarray) -> np.ndarray:
    return np.array([calibration.score(one) for one in log_odds])


def test_a_fit_finds_the_truth_and_helps_on_other_images() -> None:
    fitted = fit(*drawn(20_000, 0.4, -0.8, seed=1))
    assert fitted.slope == pytest.approx(0.4, abs=0.02)
    assert fitted.offset == pytest.approx(-0.8, abs=0.06)
    log_odds, is_fake = drawn(20_000, 0.4, -0.8, seed=2)
    before, after = (scores(calibration, log_odds) for calibration in (Calibration(), fitted))
    assert expected_calibration_error(after, is_fake) < 0.015
    assert expected_calibration_error(before, is_fake) > 0.1
    assert log_loss(is_fake, after) < log_loss(is_fake, before)


def test_classes_that_never_mix_have_a_finite_slope() -> None:
    fitted = fit(np.array([-3.0, -2.0, 2.0, 3.0]), np.array([0.0, 0.0, 1.0, 1.0]))
    assert 0 < fitted.slope < 10


@pytest.mark.parametrize(
    ("values", "labels", "error"),
    [
        ([0.0, 1.0], [0.0, 1.0], 0.0),
        ([0.0, 1.0], [1.0, 0.0], 1.0),
        ([0.7, 0.7, 0.7, 0.7], [1.0, 1.0, 1.0, 0.0], 0.05),
        ([0.1, 0.9], [0.0, 0.0], 0.5),
    ],
)
def test_the_error_by_hand(values: list[float], labels: list[float], error: float) -> None:
    assert expected_calibration_error(np.array(values), np.array(labels)) == pytest.approx(error)
