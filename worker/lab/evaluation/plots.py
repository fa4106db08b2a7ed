"""Draws the plots of an evaluation's report with matplotlib."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import ScalarFormatter
from sklearn.metrics import precision_recall_curve, roc_curve

from worker.lab.evaluation.metrics import CLASSES, WORDS, Columns
from worker.lab.evaluation.page import FAKE, REAL, SOFT, TEXT, inline_svg
from worker.lab.evaluation.perturbations import CLEAN
from worker.lab.evaluation.predictions import Prediction

BINS = 20


def plots(predictions: Sequence[Prediction], confusion: Mapping[str, Mapping[str, int]]) -> dict[str, Markup]:
    """Returns plots of the clean images by caption. A plot without data is left out."""
    columns = Columns.of([one for one in predictions if one.perturbation == CLEAN])
    has_score = ~np.isnan(columns.score)
    is_fake, score = columns.label[has_score] == 0, columns.score[has_score]
    drawn = {"Confusion matrix": inline_svg(_confusion(confusion), "How often each label got each verdict")}
    if len(score):
        drawn["Scores by label"] = inline_svg(_histogram(is_fake, score), "Histograms of the scores of either label")
    if len(np.unique(is_fake)) == len(CLASSES):
        drawn["ROC curve"] = inline_svg(_roc(is_fake, score), "True by false positive rate")
        drawn["Precision and recall"] = inline_svg(_precision_recall(is_fake, score), "Precision by recall of fakes")
    return drawn


def _roc(is_fake: np.ndarray, score: np.ndarray) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=SOFT, linestyle=":", linewidth=1)
        axes.plot(*roc_curve(is_fake, score)[:2], color=FAKE)
        axes.set(xlabel="false positive rate", ylabel="true positive rate", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))

    return draw


def _precision_recall(is_fake: np.ndarray, score: np.ndarray) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        precision, recall, _ = precision_recall_curve(is_fake, score)
        axes.axhline(is_fake.mean(), color=SOFT, linestyle=":", linewidth=1)
        axes.step(recall, precision, where="post", color=FAKE)
        axes.set(xlabel="recall of fakes", ylabel="precision", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))

    return draw


def _histogram(is_fake: np.ndarray, score: np.ndarray) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        bins = np.linspace(0, 1, BINS + 1)
        for some, colour, word in ((is_fake, FAKE, "fake"), (~is_fake, REAL, "real")):
            axes.hist(score[some], bins.tolist(), color=colour, alpha=0.6, label=f"labelled {word}")
        axes.set(xlabel="score: probability of fake", ylabel="images (log scale)", yscale="symlog", xlim=(0, 1))
        axes.yaxis.set_major_formatter(ScalarFormatter())
        axes.legend(loc="upper center")

    return draw


def _confusion(counts: Mapping[str, Mapping[str, int]]) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        axes.grid(visible=False)
        for row, label in enumerate(CLASSES):
            total = sum(counts[label].values())
            for column, word in enumerate(WORDS):
                count = counts[label][word]
                colour = (FAKE, REAL, SOFT)[column]
                axes.fill_between(
                    [column, column + 1], row, row + 1, color=colour, alpha=0.7 * count / max(total, 1), linewidth=0
                )
                share = f"\n{100 * count / total:.1f} %" if total else ""
                axes.text(column + 0.5, row + 0.5, f"{count:,}{share}", ha="center", va="center", color=TEXT)
        axes.set(xticks=np.arange(3) + 0.5, xticklabels=WORDS, yticks=np.arange(2) + 0.5, yticklabels=CLASSES)
        axes.set(xlabel="verdict", ylabel="label", xlim=(0, 3), ylim=(2, 0))

    return draw
