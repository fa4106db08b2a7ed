"""Every metric is compared with the libraries themselves, on random predictions and on extreme ones."""

import itertools
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from scipy.interpolate import interp1d
from scipy.optimize import brentq
from scipy.stats import binomtest
from sklearn import metrics as sklearn_metrics

from worker.detector.verdicts import Answer
from worker.lab.evaluation import bootstrap
from worker.lab.evaluation.metrics import Columns, describe, grouped, values
from worker.lab.evaluation.predictions import Prediction
from worker.lab.evaluation.summary import summarise
from worker.lab.evaluation.table import tables

FAKE, REAL, UNDECIDED = Answer.FAKE, Answer.REAL, Answer.UNDECIDED
NUMBERED = itertools.count()
BOOTSTRAPPED = ("f1_real", "f1_fake", "roc_auc", "average_precision", "equal_error_rate")


def predict(label: Answer, verdict: Answer, score: float | None = None, **more: Any) -> Prediction:
    given = {"image": f"{next(NUMBERED)}.png", "answer": f"This is a {verdict} image."} | more
    return Prediction(label=int(label is REAL), verdict=verdict, score=score, **given)


def predict_at_random(seed: int, count: int, undecided: float = 0.1) -> list[Prediction]:
    """Predictions that are better than chance. Some scores are equal."""
    chance = random.Random(seed)
    made = []
    for _ in range(count):
        label = chance.choice((FAKE, REAL))
        score = round(min(max(chance.gauss(0.65 if label is FAKE else 0.35, 0.25), 0), 1), 2)
        if chance.random() < undecided:
            made.append(predict(label, UNDECIDED))
        else:
            made.append(predict(label, FAKE if score >= 0.5 else REAL, score))
    return made


def label_of(one: Prediction) -> str:
    return "fake" if one.label == 0 else "real"


def expected(predictions: Sequence[Prediction]) -> dict[str, float]:
    """Calculates the metrics with scikit-learn on words, one class at a time, and with root finding.

    The code under test does it in other ways.
    """
    labels, verdicts = [label_of(one) for one in predictions], [str(one.verdict) for one in predictions]
    scored = [one for one in predictions if one.score is not None]
    is_fake, scores = [one.label == 0 for one in scored], [one.score for one in scored]
    false_positive, true_positive, _ = sklearn_metrics.roc_curve(is_fake, scores, drop_intermediate=False)
    curve = interp1d(false_positive, true_positive)
    found = {
        "accuracy": sum(label == verdict for label, verdict in zip(labels, verdicts, strict=True)) / len(labels),
        "roc_auc": sklearn_metrics.roc_auc_score(is_fake, scores),
        "average_precision": sklearn_metrics.average_precision_score(is_fake, scores),
        "equal_error_rate": brentq(lambda rate: 1 - rate - curve(rate), 0, 1),
        "undecided": verdicts.count("undecided") / len(verdicts),
    }
    for word in ("fake", "real"):
        one_against_rest = [label == word for label in labels], [verdict == word for verdict in verdicts]
        found[f"f1_{word}"] = sklearn_metrics.f1_score(*one_against_rest)
        found[f"precision_{word}"] = sklearn_metrics.precision_score(*one_against_rest)
        found[f"recall_{word}"] = sklearn_metrics.recall_score(*one_against_rest)
    del found["precision_real"], found["recall_real"]
    return found


@pytest.mark.parametrize("seed", range(12))
def test_the_metrics_of_random_predictions(seed: int) -> None:
    predictions = predict_at_random(seed, count=20 + 40 * seed, undecided=0.05 * (seed % 4))
    found = describe(Columns.of(predictions))
    for name, value in expected(predictions).items():
        assert found[name] == pytest.approx(value, abs=1e-9), name
    for label, verdict in itertools.product((FAKE, REAL), Answer):
        count = sum(label_of(one) == label and one.verdict is verdict for one in predictions)
        assert found["confusion"][label][verdict] == count
    assert found["n"] == len(predictions)
    assert set(found["skipped"]) == {"rouge_l", "css"}


@pytest.mark.parametrize("word", [FAKE, REAL])
def test_one_class_only(word: Answer) -> None:
    other = REAL if word is FAKE else FAKE
    found = describe(Columns.of([predict(word, word, 0.9), predict(word, other, 0.4), predict(word, UNDECIDED)]))
    assert found["accuracy"] == pytest.approx(1 / 3)
    assert found[f"f1_{word}"] == pytest.approx(2 / 4)
    for name in ("roc_auc", "average_precision", "equal_error_rate"):
        assert found[name] is None
        assert found["skipped"][name] == f"every image with a score is labelled {word}"
    assert found[f"f1_{other}"] is None
    assert found["skipped"][f"f1_{other}"] == f"no image is labelled {other}"
    if word is REAL:
        assert (found["precision_fake"], found["recall_fake"]) == (None, None)
        assert found["skipped"]["precision_fake"] == "no image is labelled fake"


def test_all_undecided() -> None:
    found = describe(Columns.of([predict(FAKE, UNDECIDED), predict(REAL, UNDECIDED)]))
    assert (found["accuracy"], found["undecided"], found["recall_fake"]) == (0, 1, 0)
    assert (found["f1_fake"], found["f1_real"]) == (0, 0)
    assert found["precision_fake"] is None
    assert found["skipped"]["precision_fake"] == "no image was called fake"
    assert found["skipped"]["roc_auc"] == "no image has a score"
    assert found["roc_auc"] is None


def test_an_undecided_answer_is_a_miss_but_no_false_alarm() -> None:
    sure = [predict(FAKE, FAKE, 0.9), predict(REAL, REAL, 0.1)]
    with_one = values(Columns.of([*sure, predict(REAL, UNDECIDED)]))
    assert with_one["accuracy"] == pytest.approx(2 / 3)
    assert with_one["f1_real"] == pytest.approx(2 / 3)  # one true positive, one false negative
    assert (with_one["f1_fake"], with_one["precision_fake"], with_one["roc_auc"]) == (1, 1, 1)


def test_similarities_are_means_of_the_answers_with_a_reference() -> None:
    predictions = [predict(FAKE, FAKE, 0.9), predict(REAL, REAL, 0.2), predict(REAL, REAL, 0.1)]
    columns = Columns.of(predictions, np.array([0.2, np.nan, 0.6]), np.array([np.nan, np.nan, 0.5]))
    found = describe(columns)
    assert (found["rouge_l"], found["css"]) == (pytest.approx(0.4), 0.5)
    assert found["skipped"] == {}


def printed(metrics: dict[str, Any]) -> str:
    console = Console(width=100)
    with console.capture() as capture:
        console.print(*tables(metrics))
    return capture.get()


def paper() -> list[Prediction]:
    counts = {(FAKE, FAKE): 3168, (FAKE, REAL): 20, (REAL, FAKE): 48, (REAL, REAL): 1760}
    return [
        predict(label, verdict, 0.99 if verdict is FAKE else 0.01)
        for (label, verdict), count in counts.items()
        for _ in range(count)
    ]


def test_the_papers_confusion_prints_the_papers_figures() -> None:
    found = summarise(paper(), "no model", resamples=2)
    assert (found["confusion"]["fake"], found["confusion"]["real"]) == (
        {"fake": 3168, "real": 20, "undecided": 0},
        {"fake": 48, "real": 1760, "undecided": 0},
    )
    lines = [line.split() for line in printed(found).splitlines()]
    assert [line[3] for line in lines if line[1:2] == ["accuracy"]] == ["98.6"]
    assert [line[7] for line in lines if line[1:3] == ["F1,", "real"]] == ["98.1"]
    assert [line[4] for line in lines if line[1:3] == ["F1,", "fake"]] == ["98.9"]


def test_groups() -> None:
    names = ["b", None, "a", "b"]
    columns = Columns.of([predict(FAKE, FAKE, score) for score in (0.5, 0.6, 0.7, 0.8)])
    found = grouped(names, columns)
    assert {name: some.score.tolist() for name, some in found.items()} == {"a": [0.7], "b": [0.5, 0.8]}
    assert list(found) == ["a", "b"]


def test_each_category_and_generator_has_its_own_metrics() -> None:
    sure = [predict(FAKE, FAKE, 0.9, category="doc", generator="flux"), predict(REAL, REAL, 0.1, category="doc")]
    wrong = [predict(REAL, FAKE, 0.8, category="animal", generator="flux"), predict(FAKE, FAKE, 0.7)]
    changed = [predict(FAKE, REAL, 0.2, category="doc", perturbation="flip")]
    found = summarise([*sure, *wrong, *changed], "no model", resamples=2)
    assert {name: (one["n"], one["accuracy"]) for name, one in found["categories"].items()} == {
        "animal": (1, 0),
        "doc": (2, 1),
    }
    assert {name: (one["n"], one["accuracy"]) for name, one in found["generators"].items()} == {"flux": (2, 0.5)}
    assert (found["n"], found["accuracy"]) == (4, 0.75)
    assert {name: (one["n"], one["accuracy"]) for name, one in found["robustness"].items()} == {
        "clean": (4, 0.75),
        "flip": (1, 0),
    }


def test_wilsons_interval_of_the_accuracy() -> None:
    """Compared with the formula of Wilson 1927, at 8 of 10 and at 10 of 10.

    At the latter, a bootstrap interval has no width.
    """
    z, n = 1.959963984540054, 10
    for right in (8, 10):
        predictions = [predict(FAKE, FAKE if number < right else REAL, 0.9) for number in range(n)]
        share = right / n
        middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
        half = z / (1 + z**2 / n) * (share * (1 - share) / n + z**2 / (4 * n**2)) ** 0.5
        low, high = describe(Columns.of(predictions))["intervals"]["accuracy"]
        assert (low, high) == (pytest.approx(middle - half), pytest.approx(middle + half))


def test_proportions_have_wilsons_interval() -> None:
    labels = [*[FAKE] * 12, *[REAL] * 18]
    verdicts = [*[FAKE] * 9, REAL, REAL, UNDECIDED, *[FAKE] * 4, *[REAL] * 13, UNDECIDED]
    found = summarise([predict(*one, 0.5) for one in zip(labels, verdicts, strict=True)], "no model", resamples=20)
    counts = {"accuracy": (22, 30), "precision_fake": (9, 13), "recall_fake": (9, 12), "undecided": (2, 30)}
    for name, (count, of) in counts.items():
        wanted = binomtest(count, of).proportion_ci(0.95, method="wilson")
        assert found["intervals"][name] == pytest.approx(list(wanted)), name
        assert found["intervals"]["methods"][name].startswith("Wilson")
    for name in ("f1_fake", "f1_real"):
        assert found["intervals"]["methods"][name].startswith("percentile bootstrap")


def test_without_any_error_no_interval_is_100_percent_certain() -> None:
    made = [*(predict(FAKE, FAKE, 0.9) for _ in range(10)), *(predict(REAL, REAL, 0.1) for _ in range(10))]
    found = summarise(made, "no model", resamples=50)
    intervals = found["intervals"]
    assert intervals["accuracy"] == [pytest.approx(0.8389, abs=1e-4), 1]
    for name in ("accuracy", "precision_fake", "recall_fake", "undecided"):
        low, high = intervals[name]
        assert high - low > 0.1
    for name in ("f1_fake", "f1_real", "roc_auc", "average_precision", "equal_error_rate"):
        assert intervals[name] is None
        assert intervals["skipped"][name] == "no error seen: no interval"
        assert name not in intervals["methods"]
    shown = printed(found)
    assert shown.count("no error seen: no interval") == 5
    assert "100.0 – 100.0" not in shown


def test_an_interval_without_width_is_not_shown_as_no_error() -> None:
    found = summarise([predict(FAKE, FAKE, 0.1), predict(REAL, REAL, 0.9)] * 5, "no model", resamples=20)
    assert found["intervals"]["skipped"]["roc_auc"] == "no difference seen: no interval"


def test_no_resamples_no_interval() -> None:
    found = summarise(predict_at_random(seed=3, count=60), "no model", resamples=0)
    assert found["intervals"]["skipped"] == dict.fromkeys(BOOTSTRAPPED, "no interval")
    assert found["intervals"]["accuracy"]
    assert printed(found).count("no interval") == len(BOOTSTRAPPED)


def test_no_metric_is_above_1() -> None:
    """For some of these scores, scikit-learn's average precision is 1.0000000000000002."""
    chance = np.random.default_rng(0)
    for fakes in range(1, 60):
        score = np.concatenate([1 + chance.random(fakes), chance.random(7)]) / 2
        made = [predict(FAKE if one < fakes else REAL, FAKE, float(score[one])) for one in range(fakes + 7)]
        columns = Columns.of(made, css=np.full(len(made), 1.0000001))
        assert max(values(columns)[name] for name in ("average_precision", "css")) <= 1


def test_the_bootstrap_depends_on_its_seed() -> None:
    columns = Columns.of(predict_at_random(seed=3, count=60, undecided=0))
    found = bootstrap.intervals(columns, resamples=200, seed=5)
    chance = np.random.default_rng(5)
    rows = [chance.integers(60, size=60) for _ in range(200)]
    drawn = [sklearn_metrics.roc_auc_score(columns.label[one] == 0, columns.score[one]) for one in rows]
    assert found["roc_auc"] == pytest.approx(np.percentile(drawn, [2.5, 97.5]).tolist())
    for name in BOOTSTRAPPED:
        low, high = found[name]
        assert low <= values(columns)[name] <= high, name
    assert found == bootstrap.intervals(columns, resamples=200, seed=5)
    assert found != bootstrap.intervals(columns, resamples=200, seed=6)
    assert "rouge_l" not in found


def test_a_resample_without_a_metric_is_left_out_of_its_interval() -> None:
    columns = Columns.of([predict(FAKE, FAKE, 0.9), predict(REAL, REAL, 0.1), predict(REAL, FAKE, 0.95)])
    low, high = bootstrap.intervals(columns, resamples=50)["roc_auc"]
    assert (low, high) == (0, 1)
