"""Computes how well predictions agree with labels. Every metric is scikit-learn's. A metric that is undefined is null.

An undecided answer is neither fake nor real. It is wrong for accuracy, it lowers recall and F1 of its label's class,
and it is no false alarm of the other class. It has no score, so it does not count in metrics of scores. (The paper's
own evaluation, arXiv 2503.14905, chooses at random for such an answer; about 4 of its 5,000 are undecided.)
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    confusion_matrix,
    precision_recall_fscore_support,
    roc_auc_score,
    roc_curve,
)

from worker.detector.verdicts import Answer
from worker.lab.evaluation.confidence import LEVEL, WILSON, wilson
from worker.lab.evaluation.predictions import Prediction

Floats = NDArray[np.float64]

WORDS = (Answer.FAKE, Answer.REAL, Answer.UNDECIDED)
"""In this order, verdicts are the numbers 0, 1 and 2, and labels are 0 and 1."""
CLASSES = WORDS[:2]
SCORED = ("roc_auc", "average_precision", "equal_error_rate")
PROPORTIONS = ("accuracy", "precision_fake", "recall_fake", "undecided")


@dataclass(frozen=True)
class Columns:
    """A set of n predictions as arrays of shape (n,).

    `label` and `verdict` are positions in WORDS. `score` is P(fake), NaN when undecided. `rouge_l` and `css` are the
    similarity of answer and reference, NaN without a reference (worker.lab.evaluation.similarity).
    """

    label: NDArray[np.int64]
    verdict: NDArray[np.int64]
    score: Floats
    rouge_l: Floats
    css: Floats

    @classmethod
    def of(cls, predictions: Sequence[Prediction], rouge_l: Floats | None = None, css: Floats | None = None) -> Self:
        """Returns the predictions' columns, with their similarities if there are any."""
        nothing = np.full(len(predictions), math.nan)
        return cls(
            label=np.array([CLASSES.index(Answer.FAKE if one.is_fake else Answer.REAL) for one in predictions], int),
            verdict=np.array([WORDS.index(one.verdict) for one in predictions], int),
            score=np.array([math.nan if one.score is None else one.score for one in predictions], float),
            rouge_l=nothing if rouge_l is None else rouge_l,
            css=nothing if css is None else css,
        )

    def take(self, rows: NDArray[np.int64]) -> "Columns":
        """Returns `rows` in their order. A row may be taken several times."""
        return Columns(*(column[rows] for column in vars(self).values()))


def values(columns: Columns) -> dict[str, float]:
    """Returns every metric that is one number: -1..1 for css, 0..1 for all others, and NaN if it is not defined.

    accuracy: the share of verdicts that equal the label. precision_fake = TP / (TP + FP) and recall_fake = TP / (TP +
    FN), with fake as the positive class. f1_fake and f1_real = 2 TP / (2 TP + FP + FN) of each class. The paper's F1 is
    f1_real: a confusion of 3168/20/48/1760 gives its 98.1 for real, and 98.9 for fake. A class without labelled images
    has none of these. roc_auc: the area under the ROC curve: the chance that a fake has a higher score than a real
    image (Hanley & McNeil 1982). average_precision: the mean of precision over the steps of recall, not interpolated.
    equal_error_rate: see the function. undecided: the share of answers without a verdict. rouge_l and css: means over
    answers with a reference.
    """
    found = {"accuracy": float(accuracy_score(columns.label, columns.verdict))}
    precision, recall, f1, count = precision_recall_fscore_support(
        columns.label, columns.verdict, labels=[0, 1], zero_division=np.nan
    )
    f1[count == 0] = precision[count == 0] = np.nan
    found |= {"f1_real": f1[1], "f1_fake": f1[0], "precision_fake": precision[0], "recall_fake": recall[0]}
    found |= _scored(columns)
    found["undecided"] = float(np.mean(columns.verdict == WORDS.index(Answer.UNDECIDED)))
    found |= {name: _mean(getattr(columns, name)) for name in ("rouge_l", "css")}
    # Sums of floats can exceed 1 in their last digit.
    return {name: float(np.clip(value, -1 if name == "css" else 0, 1)) for name, value in found.items()}


def _scored(columns: Columns) -> dict[str, float]:
    has_score = ~np.isnan(columns.score)
    is_fake, score = columns.label[has_score] == 0, columns.score[has_score]
    if len(np.unique(is_fake)) < len(CLASSES):
        return dict.fromkeys(SCORED, math.nan)
    found = (
        roc_auc_score(is_fake, score),
        average_precision_score(is_fake, score),
        equal_error_rate(*roc_curve(is_fake, score)[:2]),
    )
    return dict(zip(SCORED, found, strict=True))


def equal_error_rate(false_positive_rate: Floats, true_positive_rate: Floats) -> float:
    """Returns the error rate at the threshold where false positives are as frequent as misses: FPR = 1 - TPR.

    The ROC curve is taken as straight between its points, as in evaluations of speaker recognition (Martin et al. 1997,
    "The DET curve in assessment of detection task performance").
    """
    return float(np.interp(0, false_positive_rate + true_positive_rate - 1, false_positive_rate))


def _mean(column: Floats) -> float:
    known = column[~np.isnan(column)]
    return float(known.mean()) if len(known) else math.nan


def confusion(columns: Columns) -> dict[str, dict[str, int]]:
    """Returns how many images of each label got each verdict: {label: {verdict: count}}."""
    counts = confusion_matrix(columns.label, columns.verdict, labels=[0, 1, 2])
    return {
        label: {word: int(count) for word, count in zip(WORDS, row, strict=True)}
        for label, row in zip(CLASSES, counts[:2], strict=True)
    }


def describe(columns: Columns) -> dict[str, Any]:
    """Returns the object of one set in metrics.json: n, values() with null for NaN, confusion, and why values are null.

    `intervals` holds those of the plain proportions, PROPORTIONS, and names their method.
    """
    found = values(columns)
    intervals = {name: wilson(*_counted(name, columns)) for name in PROPORTIONS if not math.isnan(found[name])}
    return {
        "n": len(columns.label),
        **{name: None if math.isnan(value) else value for name, value in found.items()},
        "confusion": confusion(columns),
        "intervals": {"level": LEVEL, "methods": dict.fromkeys(intervals, WILSON), **intervals},
        "skipped": {name: _why(name, columns) for name, value in found.items() if math.isnan(value)},
    }


def _counted(proportion: str, columns: Columns) -> tuple[int, int]:
    """Returns how many images a proportion counts, and of how many."""
    is_fake, called_fake = columns.label == 0, columns.verdict == 0
    counted, among = {
        "accuracy": (columns.label == columns.verdict, np.ones_like(is_fake)),
        "precision_fake": (is_fake, called_fake),
        "recall_fake": (called_fake, is_fake),
        "undecided": (columns.verdict == WORDS.index(Answer.UNDECIDED), np.ones_like(is_fake)),
    }[proportion]
    return int((counted & among).sum()), int(among.sum())


def _why(metric: str, columns: Columns) -> str:
    if metric in SCORED:
        labels = np.unique(columns.label[~np.isnan(columns.score)])
        return f"every image with a score is labelled {CLASSES[labels[0]]}" if len(labels) else "no image has a score"
    if metric in {"rouge_l", "css"}:
        return "no answer in words has a reference in the dataset"
    word = Answer(metric.rpartition("_")[2])
    labelled = np.any(columns.label == WORDS.index(word))
    return f"no image was called {word}" if labelled else f"no image is labelled {word}"


def grouped(names: Iterable[str | None], columns: Columns) -> dict[str, Columns]:
    """Returns the columns of each name, sorted by name. Rows without a name are left out."""
    rows = sorted((name, row) for row, name in enumerate(names) if name is not None)
    return {name: columns.take(np.array([row for _, row in group])) for name, group in groupby(rows, key=itemgetter(0))}
