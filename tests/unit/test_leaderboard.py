"""Several detectors on several sets. Figures are compared with other calculations of them."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from tests.unit.predicting import drawn_predictions, evaluated, hashed, predicted, write_evaluation
from worker.detector.description import DetectorDescription
from worker.errors import ConfigurationError
from worker.lab.evaluation import leaderboard_page
from worker.lab.evaluation.confidence import wilson
from worker.lab.evaluation.contenders import Contender, LabelledSet, read_sets
from worker.lab.evaluation.figures import figures_of
from worker.lab.evaluation.leaderboard import rank
from worker.lab.evaluation.paired import mcnemar
from worker.lab.evaluation.predictions import Prediction
from worker.testing import scripted_description


def contender(name: str, predictions: Sequence[Prediction], *more: Prediction) -> Contender:
    return Contender(name, f"/evaluation/{name}", (*predictions, *more), evaluated(predictions, name))


def noisier(predictions: Sequence[Prediction], noise: float, seed: int = 1) -> list[Prediction]:
    """Another detector on the same images, which is less sure."""
    chance = np.random.default_rng(seed)
    return [
        predicted(
            one.image, fake=one.is_fake, category=one.category, generator=one.generator,
            log_odds=(one.log_odds or 0) + chance.normal(0, noise),
        )
        for one in predictions
    ]  # fmt: skip


def truth(count: int, seed: int = 3) -> tuple[Prediction, ...]:
    return drawn_predictions(count, seed, slope=1.0, category="animal")


def test_the_figures_are_those_of_another_calculation() -> None:
    some = truth(1000)
    figures = figures_of(some)
    is_fake = np.array([one.is_fake for one in some])
    score = np.array([one.score for one in some])
    right = int(((score > 0.5) == is_fake).sum())
    assert (figures.images, figures.fakes) == (1000, int(is_fake.sum()))
    assert figures.accuracy == right / 1000
    assert figures.accuracy_interval == tuple(wilson(right, 1000))
    assert figures.roc_auc == pytest.approx(roc_auc_score(is_fake, score))
    best = max(
        (score[is_fake] >= threshold).mean() for threshold in score if (score[~is_fake] >= threshold).mean() <= 0.01
    )
    assert figures.true_positive_rate == pytest.approx(best)
    assert figures.rate_interval == tuple(wilson(round(best * is_fake.sum()), int(is_fake.sum())))


def test_ties_with_real_images_are_not_caught() -> None:
    some = [predicted(f"{n}", fake=n < 50, log_odds=3.0) for n in range(250)]
    assert figures_of(some).true_positive_rate == 0


def test_an_undecided_fake_is_missed_and_an_undecided_real_image_is_no_false_alarm() -> None:
    fakes = [predicted(f"f{n}", fake=True, log_odds=None if n < 5 else 2.0) for n in range(10)]
    reals = [predicted(f"r{n}", fake=False, log_odds=None if n < 90 else -2.0) for n in range(100)]
    figures = figures_of([*fakes, *reals])
    assert (figures.true_positive_rate, figures.roc_auc) == (0.5, 1.0)
    assert figures.accuracy == 15 / 110
    assert figures.undecided == 95 / 110


@pytest.mark.parametrize(("fakes", "reals"), [(100, 99), (0, 200)])
def test_too_few_images_have_no_share_of_caught_fakes(fakes: int, reals: int) -> None:
    some = [predicted(f"{n}", fake=n < fakes, log_odds=1.0 if n < fakes else -1.0) for n in range(fakes + reals)]
    figures = figures_of(some)
    assert (figures.true_positive_rate, figures.rate_interval) == (None, None)


def test_the_best_mean_area_comes_first_and_each_set_counts_the_same() -> None:
    large, small = truth(2000), truth(400, seed=4)
    sets = [
        LabelledSet("large", (contender("good", large), contender("bad", noisier(large, 6)))),
        LabelledSet("small", (contender("good", noisier(small, 2)), contender("bad", noisier(small, 9)))),
    ]
    board = rank(sets, {"good": 20.0}, price_per_hour=3.6)
    good, bad = board.standings
    assert (good.detector, bad.detector) == ("good", "bad")
    own = [figures_of(each.contenders[0].predictions) for each in sets]
    assert good.accuracy == pytest.approx((own[0].accuracy + own[1].accuracy) / 2)
    assert good.roc_auc == pytest.approx(((own[0].roc_auc or 0) + (own[1].roc_auc or 0)) / 2)
    assert good.worst == (own[1].accuracy, "small")
    assert good.cost == pytest.approx(3.6 / 3600 / 20 * 1000)
    assert (bad.speed, bad.cost) == (None, None)


def test_a_detector_that_lacks_a_set_has_no_mean_and_comes_last() -> None:
    some, other = truth(300), truth(300, seed=4)
    sets = [
        LabelledSet("a", (contender("perfect", some), contender("weak", noisier(some, 8)))),
        LabelledSet("b", (contender("weak", noisier(other, 8)),)),
    ]
    board = rank(sets, {}, None)
    assert [(one.detector, one.sets, one.roc_auc is None) for one in board.standings] == [
        ("weak", 2, False), ("perfect", 1, True),
    ]  # fmt: skip


def test_only_images_count_that_all_judged_with_the_same_content() -> None:
    some = hashed(*truth(200))
    other = hashed(*noisier(some[:150], 1))
    changed = (*hashed(other[0], content="other"), *other[1:])
    board = rank([LabelledSet("set", (contender("a", some), contender("b", changed)))], {}, None)
    (one,) = board.sets
    assert {row.figures.images for row in one.rows} == {149}
    assert one.left_out == 51


def test_the_others_are_tested_against_the_most_accurate_one() -> None:
    some = truth(500)
    detectors = {"a": some, "b": tuple(noisier(some, 1)), "c": tuple(noisier(some, 12))}
    board = rank([LabelledSet("set", tuple(contender(*one) for one in detectors.items()))], {}, None)
    rows = {row.detector: row for row in board.sets[0].rows}
    assert [row.detector for row in board.sets[0].rows] == sorted(rows, key=lambda name: -rows[name].figures.accuracy)
    best = board.sets[0].rows[0].detector
    right = {
        name: [one.verdict == ("fake" if one.is_fake else "real") for one in made] for name, made in detectors.items()
    }
    p = {}
    for name in detectors.keys() - {best}:
        pairs = list(zip(right[best], right[name], strict=True))
        p[name] = mcnemar(pairs.count((True, False)), pairs.count((False, True)))
    small, large = sorted(p, key=lambda name: p[name])
    assert rows[best].p_holm is None
    assert rows[small].p_holm == pytest.approx(min(1, 2 * p[small]))
    assert rows[large].p_holm == pytest.approx(max(p[large], min(1, 2 * p[small])))
    assert not rows["c"].may_be_best
    assert rows[best].may_be_best


def test_groups_and_perturbations() -> None:
    named = [("animal", "a"), ("animal", "b"), ("face", None), (None, "b")]
    clean = [
        predicted(f"{n}", fake=n % 2 == 0, log_odds=1.0, category=category, generator=generator)
        for n, (category, generator) in enumerate(named)
    ]
    blurred = [one.model_copy(update={"perturbation": "blur_3"}) for one in clean[:2]]
    board = rank([LabelledSet("set", (contender("a", clean, *blurred), contender("b", clean)))], {}, None)
    (made,) = board.sets
    assert made.categories == (("animal", 2), ("face", 1))
    assert made.generators == (("a", 1), ("b", 2))
    assert made.perturbations == (("clean", 4), ("blur_3", 2))
    rows = {row.detector: row for row in made.rows}
    assert (rows["a"].categories, rows["a"].generators) == ((0.5, 1.0), (1.0, 0.0))
    assert (rows["a"].perturbations, rows["b"].perturbations) == ((0.5, 0.5), (0.5, None))


def test_evaluations_are_put_together_by_dataset_and_named_by_detector(tmp_path: Path) -> None:
    some = truth(20)
    first, second = scripted_description(), scripted_description(revision="2")

    def folder(name: str, predictions: Sequence[Prediction], of: DetectorDescription, dataset: str) -> Path:
        about = {"dataset": {"name": f"{dataset}.json", "sha256": dataset}}
        return write_evaluation(tmp_path / name, predictions, of, **about)

    paths = [folder("1", some, first, "x"), folder("2", some, second, "x"), folder("3", some, first, "y")]
    sets = read_sets([(None, path) for path in paths])
    assert [one.name for one in sets] == ["x.json", "y.json"]
    assert [one.detector for one in sets[0].contenders] == sorted(
        f"scripted {one.fingerprint[:8]}" for one in (first, second)
    )
    named = read_sets([("mine", paths[0]), ("theirs", paths[1])])
    assert [one.detector for one in named[0].contenders] == ["mine", "theirs"]
    with pytest.raises(ConfigurationError, match="are of one detector, mine, on one set: give one of them"):
        read_sets([("mine", paths[0]), ("mine", paths[0])])
    folder("4", [one.model_copy(update={"label": 1 - one.label}) for one in some], second, "x")
    with pytest.raises(ConfigurationError, match="differently: evaluate both on one dataset"):
        read_sets([("a", paths[0]), ("b", tmp_path / "4")])
    folder("5", truth(5, seed=9), second, "x")
    with pytest.raises(ConfigurationError, match="share no image: evaluate all on the same files"):
        read_sets([("a", paths[0]), ("b", tmp_path / "5")])


def test_the_page_and_the_json_say_the_same_and_names_are_text(tmp_path: Path) -> None:
    some = truth(300)
    evil = "<script>alert(1)</script>"
    sets = [LabelledSet("set", (contender(evil, some), contender("b", noisier(some, 3))))]
    board = rank(sets, {"b": 4.0}, 2.0)
    leaderboard_page.write_leaderboard_page(board, sets, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert evil not in page
    assert "&lt;script&gt;" in page
    made = json.loads(json.dumps(leaderboard_page.as_json(board, sets), allow_nan=False))
    for one in made["detectors"]:
        assert f"{100 * one['roc_auc']:.1f} %" in page
    assert made["sets"][0]["detectors"]["b"]["source"] == "/evaluation/b"
    lines = list(leaderboard_page.as_lines(board))
    assert any("4 images/s, 0.1389 per thousand images" in line for line in lines)
    alone = rank([replace(sets[0], contenders=sets[0].contenders[:1])], {}, None)
    assert list(leaderboard_page.as_lines(alone))
