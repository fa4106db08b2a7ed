"""Fits the weights of a stack to log-odds and labels."""

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from worker.errors import ConfigurationError
from worker.lab.evaluation.evaluated import Floats, Truths
from worker.lab.evaluation.fitting import six_digits, smoothed
from worker.stacking import MOST


def fit_weights(log_odds: Floats, is_fake: Truths) -> tuple[float, tuple[float, ...]]:
    """Returns the offset and the weights of a logistic regression on log-odds of the shape (images, detectors).

    Stacked generalisation (Wolpert 1992). No weight is below 0, as Breiman (1996, "Stacked regressions") advises for
    stacks: a weight below 0 would mean that an image is more probably real because a detector calls it fake. Such a
    detector gets 0. Labels are smoothed as in worker.lab.evaluation.fitting, so all numbers are finite. Both classes
    must have images. The fit is by maximum likelihood; it is convex, so it has one best value.
    """
    target = np.where(is_fake, *smoothed(is_fake)[::-1])
    known = np.clip(log_odds, -MOST, MOST)
    mean, scale = known.mean(axis=0), known.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    x = (known - mean) / scale  # detectors have log-odds of very different sizes, which would make the search slow

    def loss(parameters: Floats) -> tuple[float, Floats]:
        z = parameters[0] + x @ parameters[1:]
        wrong = (expit(z) - target) / len(target)
        return float(np.mean(np.logaddexp(0, z) - target * z)), np.concatenate([[wrong.sum()], x.T @ wrong])

    found = minimize(
        loss, np.zeros(log_odds.shape[1] + 1), jac=True, method="L-BFGS-B",
        bounds=[(None, None), *((0, MOST * one) for one in scale)],
        options={"maxiter": 1000, "ftol": 1e-15, "gtol": 1e-8},
    )  # fmt: skip
    weights = found.x[1:] / scale
    return six_digits(found.x[0] - weights @ mean), tuple(map(six_digits, weights))


def check_any_helps(weights: tuple[float, ...]) -> None:
    """Raises ConfigurationError if all weights are 0."""
    if not any(weights):
        raise ConfigurationError(
            "FIT: no detector gives fakes higher log-odds than real images here; check the labels (1 is real)"
        )
