"""Three ways to fit a calibration to log-odds and labels."""

from typing import Literal

import numpy as np
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from worker.detector.calibration import Calibration
from worker.errors import ConfigurationError
from worker.lab.evaluation.evaluated import Floats, Truths

Method = Literal["temperature", "platt", "isotonic"]


def fit(log_odds: Floats, is_fake: Truths, method: Method) -> Calibration:
    """Returns the calibration of labelled log-odds, both of the shape (images,), with images of both classes.

    `temperature` (Guo et al. 2017) fits a slope, `platt` (Platt 1999) a slope and an offset, and `isotonic` (Zadrozny
    and Elkan 2002) any rising curve, which needs some thousand images. Raises ConfigurationError if fakes do not have
    higher log-odds.
    """
    return _isotonic(log_odds, is_fake) if method == "isotonic" else _sigmoid(log_odds, is_fake, method == "platt")


def smoothed(is_fake: Truths) -> tuple[float, float]:
    """Returns what a real and a fake image count as: P(fake) by the rule of succession, for the size of their class.

    Platt (1999) smooths his targets in this way. From n real images and no fake, it does not follow that there are
    none.
    """
    fakes = int(is_fake.sum())
    reals = len(is_fake) - fakes
    return 1 / (reals + 2), (fakes + 1) / (fakes + 2)


def _sigmoid(log_odds: Floats, is_fake: Truths, offset: bool) -> Calibration:
    """Fits by maximum likelihood. Labels are smoothed, so that classes without any overlap have a finite slope."""
    of_real, of_fake = smoothed(is_fake)
    target = np.where(is_fake, of_fake, of_real)
    twice, labels = np.concatenate([log_odds, log_odds]), np.repeat([1, 0], len(log_odds))
    model = LogisticRegression(C=np.inf, fit_intercept=offset, max_iter=1000)
    model.fit(twice[:, None], labels, sample_weight=np.concatenate([target, 1 - target]))
    slope = six_digits(model.coef_[0, 0])
    if slope <= 0:
        raise _not_rising()
    return Calibration(slope=slope, offset=six_digits(model.intercept_[0]) if offset else 0.0)


def _isotonic(log_odds: Floats, is_fake: Truths) -> Calibration:
    """Pools adjacent violators, and clips the ends to the smoothed labels.

    Where only one class is, scores would otherwise be 0 or 1, and one different image would make the log loss infinite.
    """
    model = IsotonicRegression(increasing=True).fit(log_odds, is_fake)
    scores = np.clip(model.y_thresholds_, *smoothed(is_fake))
    if scores[0] == scores[-1]:
        raise _not_rising()
    return Calibration(knots=tuple(zip(model.X_thresholds_.tolist(), scores.tolist(), strict=True)))


def six_digits(value: float) -> float:
    """Returns the number as files of calibrations hold it."""
    return float(f"{value:.6g}")


def _not_rising() -> ConfigurationError:
    return ConfigurationError("FIT: fakes have no higher log-odds than real images here; check the labels (1 is real)")
