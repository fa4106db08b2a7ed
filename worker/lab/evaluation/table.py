"""Shows an evaluation on the terminal."""

from collections.abc import Iterator
from typing import Any

from rich.markup import escape
from rich.table import Column, Table

from worker.lab.evaluation.perturbations import PAPER

_NAMES = {
    "accuracy": "accuracy", "f1_real": "F1, real (the paper's F1)", "f1_fake": "F1, fake",
    "precision_fake": "precision, fake", "recall_fake": "recall, fake", "roc_auc": "ROC AUC",
    "average_precision": "average precision", "equal_error_rate": "equal error rate", "undecided": "undecided",
    "rouge_l": "ROUGE-L", "css": "CSS",
}  # fmt: skip


def tables(metrics: dict[str, Any]) -> Iterator[Table]:
    """Yields the tables of a metrics.json: all metrics, the categories, the perturbations. Values are in per cent."""
    yield _overall(metrics)
    if metrics.get("categories"):
        yield _by_group("category", metrics["categories"])
    if metrics.get("robustness"):
        yield _robustness(metrics["robustness"])


def _overall(metrics: dict[str, Any]) -> Table:
    table = Table("metric", _right("value"), "95 % interval", title=f"{metrics['n']} images")
    for metric, name in _NAMES.items():
        table.add_row(name, _per_cent(metrics[metric]), escape(_line(_beside(metric, metrics))))
    return table


def _beside(metric: str, metrics: dict[str, Any]) -> str:
    """Returns the interval, or why there is none."""
    if interval := metrics["intervals"].get(metric):
        return " – ".join(map(_per_cent, interval))
    found: str = metrics["skipped"].get(metric) or metrics["intervals"]["skipped"][metric]
    return found


def _by_group(first: str, groups: dict[str, Any]) -> Table:
    headings = ("images", "accuracy", "F1 real", "F1 fake", "undecided")
    table = Table(first, *map(_right, headings))
    for name, row in groups.items():
        figures = (_per_cent(row[metric]) for metric in ("accuracy", "f1_real", "f1_fake", "undecided"))
        table.add_row(escape(_line(name)), str(row["n"]), *figures)
    return table


def _robustness(rows: dict[str, Any]) -> Table:
    headings = ("images", "Acc", "F1", "FakeVLM paper, FakeClue: Acc", "F1")
    table = Table("perturbation", *map(_right, headings), title="Robustness; F1 of real, as in the paper")
    for name, row in rows.items():
        accuracy, f1 = PAPER[name]
        table.add_row(
            name, str(row["n"]), _per_cent(row["accuracy"]), _per_cent(row["f1_real"]), f"{accuracy}", f"{f1}"
        )
    return table


def _right(heading: str) -> Column:
    return Column(heading, justify="right")


def _per_cent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def _line(text: str) -> str:
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
