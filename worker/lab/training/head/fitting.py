"""Fits a linear head to features: logistic regression, with a regularisation that cross-validation chooses."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from worker.lab.training.head.tower import Features
from worker.lab.training.recipe import HeadRecipe

_MOST_STEPS = 3000
"""Of the optimiser. Without it, features of separable classes could take long at the weakest regularisation."""
_C = "logisticregression__C"


@dataclass(frozen=True)
class Head:
    """log P(fake) - log P(real) = features @ weights + bias. `weights` have the shape (width,).

    `chosen` is the inverse regularisation, and `log_losses` what cross-validation measured for each, in nats. They are
    empty if there were too few images for two folds.
    """

    weights: NDArray[np.float64]
    bias: float
    chosen: float
    log_losses: dict[float, float]

    def log_odds(self, features: Features) -> NDArray[np.float64]:
        """Returns log P(fake) - log P(real) of features, of the shape (images,)."""
        return features.astype(np.float64) @ self.weights + self.bias


def fit_head(
    features: Features, is_fake: NDArray[np.bool_], contents: Sequence[str], recipe: HeadRecipe, seed: int
) -> Head:
    """Returns the head for features of the shape (images, width), with images of both classes.

    `contents` say which rows are the same image: all its changed copies are in one fold, because a head would otherwise
    be tested on images that it has learned. The standardisation of the features is a part of the weights. In
    each fold, it is that of the images that are learned.
    """
    known = features.astype(np.float64)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=_MOST_STEPS))
    folds = folds_of(is_fake, contents, recipe.folds, seed)
    losses: dict[float, float] = {}
    if folds:
        search = GridSearchCV(
            model,
            {_C: list(recipe.inverse_regularisation)},
            scoring="neg_log_loss",
            cv=folds,
            refit=False,
        ).fit(known, is_fake)
        found: dict[str, Any] = search.cv_results_
        losses = {one[_C]: -float(loss) for one, loss in zip(found["params"], found["mean_test_score"], strict=True)}
    # Without folds, the middle of the recipe's values is taken: nothing speaks for another one.
    middle = sorted(recipe.inverse_regularisation)[len(recipe.inverse_regularisation) // 2]
    chosen = min(losses, key=lambda value: (losses[value], value)) if losses else middle
    scaler, regression = model.set_params(**{_C: chosen}).fit(known, is_fake).named_steps.values()
    weights = regression.coef_[0] / scaler.scale_
    return Head(weights, float(regression.intercept_[0] - scaler.mean_ @ weights), chosen, losses)


def folds_of(
    is_fake: NDArray[np.bool_], contents: Sequence[str], folds: int, seed: int
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Returns the rows to learn from and those to test on, for each fold. No content is on both sides.

    There are fewer folds if a class has fewer images, and none if one has a single image.
    """
    groups = np.asarray(contents)
    smallest = min(len(set(groups[is_fake == side])) for side in (True, False))
    if smallest < 2:  # noqa: PLR2004 - to learn from one, and test on another
        return []
    splitter = StratifiedGroupKFold(min(folds, smallest), shuffle=True, random_state=seed)
    return list(splitter.split(np.zeros(len(groups)), is_fake, groups))
