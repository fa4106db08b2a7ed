"""Computes everything in metrics.json that is measured: clean images overall and in groups, and each perturbation."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from worker.errors import ConfigurationError
from worker.lab.evaluation import bootstrap, metrics, similarity
from worker.lab.evaluation.perturbations import CLEAN
from worker.lab.evaluation.predictions import Prediction


def summarise(
    predictions: Sequence[Prediction], embeddings: str, *, resamples: int = bootstrap.RESAMPLES
) -> dict[str, Any]:
    """Returns metrics.describe() of the clean images, of their `categories` and `generators`, and of `robustness`.

    `intervals` at the top level are those of metrics.describe() and bootstrap.intervals(). `robustness` exists if
    images were perturbed. It includes clean images, but not ROUGE-L and CSS. `skipped` names values that are null, and
    why: without a prefix at the top level, and below as `categories.animal.roc_auc`.
    """
    clean = [one for one in predictions if one.perturbation == CLEAN]
    columns, no_css = _with_similarities(clean, embeddings)
    found = metrics.describe(columns)
    found["intervals"] = _joined(found["intervals"], bootstrap.intervals(columns, resamples=resamples))
    groups = {"categories": [one.category for one in clean], "generators": [one.generator for one in clean]}
    for group, names in groups.items():
        found[group] = {name: metrics.describe(some) for name, some in metrics.grouped(names, columns).items()}
    if no_css:
        for described in (found, *found["categories"].values(), *found["generators"].values()):
            described["skipped"]["css"] = no_css
    if len(clean) < len(predictions):
        found["robustness"] = _by_perturbation(predictions)
    return found | {"embeddings": embeddings}


def _with_similarities(predictions: Sequence[Prediction], embeddings: str) -> tuple[metrics.Columns, str | None]:
    """Returns the columns, and the reason if there is no CSS."""
    rouge_l = similarity.rouge_l(predictions)
    try:
        return metrics.Columns.of(predictions, rouge_l, similarity.css(predictions, embeddings)), None
    except ConfigurationError as error:
        return metrics.Columns.of(predictions, rouge_l, np.full(len(predictions), math.nan)), str(error)


def _joined(proportions: dict[str, Any], others: dict[str, Any]) -> dict[str, Any]:
    return {**proportions, **others, "methods": proportions["methods"] | others["methods"]}


def _by_perturbation(predictions: Sequence[Prediction]) -> dict[str, Any]:
    columns = metrics.Columns.of(predictions)
    found = {}
    names = [one.perturbation for one in predictions]
    for name, some in metrics.grouped(names, columns).items():
        described = metrics.describe(some)
        for text in ("rouge_l", "css"):
            del described[text], described["skipped"][text]
        found[name] = described
    return {name: found[name] for name in dict.fromkeys(names)}
