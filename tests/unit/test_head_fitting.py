"""A linear head: its folds, its regularisation, and what augmentation is for."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from worker.lab.training.head.fitting import Head, fit_head, folds_of
from worker.lab.training.head.tower import Features
from worker.lab.training.recipe import HeadRecipe

IMAGES = 120
CHANCE = np.random.default_rng(5)
IS_FAKE = np.arange(IMAGES) % 2 == 0
NAMES = [f"{number:064x}" for number in range(IMAGES)]


def test_copies_of_an_image_are_never_on_both_sides_of_a_fold() -> None:
    contents = NAMES * 3
    folds = folds_of(np.tile(IS_FAKE, 3), contents, 5, 0)
    assert len(folds) == 5
    tested = []
    for learned, held in folds:
        assert not {contents[row] for row in learned} & {contents[row] for row in held}
        assert len(set(np.tile(IS_FAKE, 3)[held])) == 2
        tested += held.tolist()
    assert sorted(tested) == list(range(3 * IMAGES))


def test_there_are_no_more_folds_than_images_of_the_smaller_class() -> None:
    few = np.array([True, True, True, *[False] * 9])
    assert len(folds_of(few, NAMES[:12], 5, 0)) == 3
    assert folds_of(np.array([True, False, False, False]), NAMES[:4], 5, 0) == []
    copies = np.array([True, True, True, False, False, False])
    assert folds_of(copies, ["one"] * 3 + ["two", "three", "four"], 5, 0) == []


def test_the_weights_contain_the_standardisation() -> None:
    features = (CHANCE.normal(size=(IMAGES, 3)) * [1, 50, 0.01] + [0, 900, 4]).astype(np.float32)
    features[:, 1] += 60 * IS_FAKE
    head = fit_head(features, IS_FAKE, NAMES, HeadRecipe(inverse_regularisation=(0.5,)), 0)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.5, max_iter=1000))
    expected = model.fit(features.astype(np.float64), IS_FAKE).decision_function(features.astype(np.float64))
    np.testing.assert_allclose(head.log_odds(features), expected, atol=1e-6)


def test_a_fold_is_standardised_by_what_it_learns_from() -> None:
    features = CHANCE.normal(size=(IMAGES, 2)).astype(np.float32)
    features[7] = 500  # in a fold that does not learn from it, it must not squeeze the others
    recipe = HeadRecipe(inverse_regularisation=(0.01,))
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01))
    folds = folds_of(IS_FAKE, NAMES, recipe.folds, 0)
    scores = cross_val_score(model, features.astype(np.float64), IS_FAKE, scoring="neg_log_loss", cv=folds)
    assert fit_head(features, IS_FAKE, NAMES, recipe, 0).log_losses == {0.01: pytest.approx(-scores.mean(), abs=1e-6)}


def test_the_regularisation_is_what_other_images_want() -> None:
    noise = CHANCE.normal(size=(IMAGES, 80)).astype(np.float32)
    recipe = HeadRecipe(inverse_regularisation=(1e-4, 1.0, 1e4))
    assert fit_head(noise, IS_FAKE, NAMES, recipe, 0).chosen == 1e-4
    told = fit_head((IS_FAKE[:, None] + noise[:, :1] / 4).astype(np.float32), IS_FAKE, NAMES, recipe, 0)
    assert told.chosen == min(told.log_losses, key=lambda value: told.log_losses[value]) >= 1


@pytest.mark.parametrize("values", [(0.1, 1.0, 10.0), (1.0,)])
def test_with_a_single_fake_the_middle_value_is_taken(values: tuple[float, ...]) -> None:
    features = np.array([[3.0], [0.0], [0.1], [0.2]], np.float32)
    is_fake = np.array([True, False, False, False])
    head = fit_head(features, is_fake, NAMES[:4], HeadRecipe(inverse_regularisation=values), 0)
    assert (head.chosen, head.log_losses) == (1.0, {})


def test_a_head_that_learned_changed_copies_does_not_rely_on_what_they_lose() -> None:
    """The first feature says all of a clean image and nothing of a changed one; the second is weaker, and stays."""
    stays = IS_FAKE + CHANCE.normal(size=IMAGES) * 0.35
    clean = np.stack([IS_FAKE * 8.0, stays], axis=1).astype(np.float32)
    changed = np.stack([np.zeros(IMAGES), stays], axis=1).astype(np.float32)
    plain = fit_head(clean, IS_FAKE, NAMES, HeadRecipe(), 0)
    both = np.concatenate([clean, changed])
    robust = fit_head(both, np.tile(IS_FAKE, 2), NAMES * 2, HeadRecipe(), 0)

    def accuracy(head: Head, features: Features) -> float:
        return float(np.mean((head.log_odds(features) > 0) == IS_FAKE))

    assert accuracy(plain, clean) == 1
    assert accuracy(robust, clean) > 0.95
    assert accuracy(plain, changed) < 0.6
    assert accuracy(robust, changed) > 0.8
