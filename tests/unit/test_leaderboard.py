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
from worker.lab.evaluation.contenders import Contender, LabelledSet, read_sets, warnings
from worker.lab.evaluation.figures import figures_of
from worker.lab.evaluation.leaderboard import rank
from worker.lab.evaluation.paired import mcnemar
from worker.lab.evaluation.predictions import Prediction
from worker.testing import scripted_description


def contender(name: str, predictions: Sequence[Prediction], *more: Prediction) -> Contender:
    of = evaluated(predictions, name, detector={"name": name, "fingerprint": name})
    return Contender(name, f"/evaluation/{name}", (*predictions, *more), of)


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
    assert figures.accuracy_interval == wilson(right, 1000)
    assert figures.roc_auc == pytest.approx(roc_auc_score(is_fake, score))
    best = max(
        (score[is_fake] >= threshold).mean() for threshold in score if (score[~is_fake] >= threshold).mean() <= 0.01
    )
    assert figures.true_positive_rate == pytest.approx(best)
    assert figures.rate_interval == wilson(round(best * is_fake.sum()), int(is_fake.sum()))


def test_ties_with_real_images_are_not_caught() -> None:
    some = [predicted(f"{n}", fake=n < 50, log_odds=3.0) for n in range(250)]
    assert figures_of(some).true_positive_rate == 0


def test_undecided_is_always_wrong_and_never_flagged() -> None:
    fakes = [predicted(f"f{n}", fake=True, log_odds=None if n < 5 else 2.0) for n in range(10)]
    reals = [predicted(f"r{n}", fake=False, log_odds=None if n < 90 else -2.0) for n in range(100)]
    figures = figures_of([*fakes, *reals])
    assert figures.true_positive_rate == 0.5
    assert figures.roc_auc == pytest.approx(5 * 10 / (10 * 100)), "only decided fakes rank above decided real images"
    assert figures.accuracy == 15 / 110
    assert figures.undecided == 95 / 110


def test_nobody_wins_by_deciding_only_what_is_easy() -> None:
    whole = [
        predicted(f"{n}", fake=n % 2 == 0, log_odds=4.0 if (n % 2 == 0) == (n % 20 > 0) else -4.0) for n in range(400)
    ]
    easy = [
        one if n % 20 in {1, 2} else predicted(one.image, fake=one.is_fake, log_odds=None)
        for n, one in enumerate(whole)
    ]
    board = rank([LabelledSet("set", (contender("easy", easy), contender("whole", whole)))], {}, None)
    assert [one.detector for one in board.standings] == ["whole", "easy"]


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


def test_a_detector_that_lacks_a_set_has_no_place_and_comes_last() -> None:
    some, other = truth(300), truth(300, seed=4)
    sets = [
        LabelledSet("a", (contender("perfect", some), contender("weak", noisier(some, 8)))),
        LabelledSet("b", (contender("weak", noisier(other, 8)),)),
    ]
    board = rank(sets, {}, None)
    assert [(one.detector, one.sets, one.place, one.roc_auc is None) for one in board.standings] == [
        ("weak", 2, 1, False), ("perfect", 1, None, True),
    ]  # fmt: skip
    assert list(warnings(sets)) == ["perfect has no place, because it did not judge b"]
    first, second, *_ = leaderboard_page.as_lines(board)
    assert first.startswith(f"1. weak: ROC AUC {board.standings[0].roc_auc:.4f}, ")
    assert second.startswith("– perfect: ROC AUC –, accuracy –")


def test_a_set_of_one_class_counts_for_accuracy_only() -> None:
    both = truth(300)
    fakes = [predicted(f"f{n}", fake=True, log_odds=1.0 if n < 60 else -1.0) for n in range(100)]
    worse = [predicted(one.image, fake=True, log_odds=-1.0) for one in fakes]
    sets = [
        LabelledSet("both", (contender("a", noisier(both, 1)), contender("b", noisier(both, 1)))),
        LabelledSet("fakes", (contender("a", worse), contender("b", fakes))),
    ]
    board = rank(sets, {}, None)
    assert (board.averaged["roc_auc"], board.averaged["accuracy"]) == (1, 2)
    first, second = board.standings
    assert first.roc_auc == second.roc_auc
    assert (first.detector, first.place, second.place) == ("b", 1, 2), "equal areas: the accuracy decides"
    alone = rank(sets[1:], {}, None)
    assert [(one.detector, one.place, one.roc_auc) for one in alone.standings] == [("b", 1, None), ("a", 2, None)]


def test_a_detector_that_judged_few_images_is_named() -> None:
    some = truth(200)
    sets = [LabelledSet("set", (contender("a", some), contender("b", some[:50])))]
    assert list(warnings(sets)) == ["b judged 50 of 200 images of set, and the others are left out"]


def test_a_detector_that_was_trained_on_a_set_is_marked_there(tmp_path: Path) -> None:
    """The page, the lines and the JSON say it beside its figures on that set, and beside its place."""
    some, other = truth(300), truth(300, seed=4)
    trained, second = scripted_description(name="trained"), scripted_description(name="other")
    paths = [
        write_evaluation(
            tmp_path / f"{description.name}-{dataset}", made, description,
            dataset={"name": dataset, "sha256": f"sha256 of {dataset}"}, trained_on=["sha256 of a", "sha256 of c"],
        )
        for description, dataset, made in (
            (trained, "a", some), (trained, "b", other), (second, "b", noisier(other, 3)),
        )
    ]  # fmt: skip
    plain = write_evaluation(
        tmp_path / "plain", noisier(some, 3), second, dataset={"name": "a", "sha256": "sha256 of a"}
    )
    sets = read_sets([(None, path) for path in (*paths, plain)])
    said = f"{paths[0]} is on the dataset that trained was trained on, so its figures are too good"
    (warning,) = warnings(sets)
    assert warning.startswith(said)
    board = rank(sets, {}, None)
    made = leaderboard_page.as_json(board, sets)
    assert made["warnings"] == [warning]
    assert {one["detector"]: list(one["trained_on"]) for one in made["detectors"]} == {"trained": ["a"], "other": []}
    on_sets = [(each["name"], name, one) for each in made["sets"] for name, one in each["detectors"].items()]
    assert [(where, name) for where, name, one in on_sets if one["trained_on_it"]] == [("a", "trained")]
    marked = [line for line in leaderboard_page.as_lines(board) if "trained on" in line]
    assert [line.split(":")[0] for line in marked] == ["1. trained", "  trained (too good"]
    assert marked[0].endswith(", too good: trained on a")
    leaderboard_page.write_leaderboard_page(board, sets, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert said in page
    in_standings, in_sets = page.split('id="set-1"')
    assert in_standings.count("too good: trained on a<") == 1
    first, after = in_sets.split('id="set-2"')
    assert (first.count("too good: trained on this set"), after.count("too good")) == (1, 0)


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
    right = {name: [(one.verdict == "fake") == one.is_fake for one in made] for name, made in detectors.items()}
    p = {}
    for a, b in (("a", "b"), ("a", "c"), ("b", "c")):
        pairs = list(zip(right[a], right[b], strict=True))
        p[a, b] = mcnemar(pairs.count((True, False)), pairs.count((False, True)))
    by_p = sorted(p, key=lambda pair: p[pair])
    corrected = np.minimum(np.maximum.accumulate([p[pair] * n for pair, n in zip(by_p, (3, 2, 1), strict=True)]), 1)
    expected = {frozenset(pair): float(value) for pair, value in zip(by_p, corrected, strict=True)}
    assert rows[best].p_holm is None
    for name in rows.keys() - {best}:
        assert rows[name].p_holm == pytest.approx(expected[frozenset((name, best))])
    assert not rows["c"].may_be_best
    assert rows[best].may_be_best


def test_equal_detectors_are_seldom_called_worse() -> None:
    """The best one is chosen from the same images. In at most 5 % of the sets, another one is called worse."""
    chance = np.random.default_rng(0)
    worse = 0
    for _ in range(200):
        made = [
            contender(str(name), [predicted(str(n), fake=True, log_odds=float(right)) for n, right in enumerate(
                np.where(chance.random(100) < 0.8, 1, -1))])
            for name in range(6)
        ]  # fmt: skip
        board = rank([LabelledSet("set", tuple(made))], {}, None)
        worse += any(not row.may_be_best for row in board.sets[0].rows)
    assert worse <= 10


def test_groups_have_the_same_images_for_all() -> None:
    named = [("animal", "a"), ("animal", "b"), ("face", None), (None, "b")]
    clean = [
        predicted(f"{n}", fake=n % 2 == 0, log_odds=1.0, category=category, generator=generator)
        for n, (category, generator) in enumerate(named)
    ]
    other = [predicted(one.image, fake=one.is_fake, log_odds=-1.0, category="other") for one in clean[:3]]
    other.append(predicted("3", fake=False, log_odds=-1.0))
    blurred = [one.model_copy(update={"perturbation": "blur_3"}) for one in clean[:2]]
    board = rank([LabelledSet("set", (contender("a", clean, *blurred), contender("b", other)))], {}, None)
    (made,) = board.sets
    found = {
        kind: {one.name: (one.images, dict(one.accuracy)) for one in groups} for kind, groups in made.groups.items()
    }
    assert found == {
        "categories": {"animal": (2, {"a": 0.5, "b": 0.5}), "face": (1, {"a": 1.0, "b": 0.0})},
        "generators": {"a": (1, {"a": 1.0, "b": 0.0}), "b": (2, {"a": 0.0, "b": 1.0})},
        "perturbations": {"clean": (4, {"a": 0.5, "b": 0.5}), "blur_3": (2, {"a": 0.5, "b": None})},
    }


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
    with pytest.raises(ConfigurationError, match=r"are both of mine on x\.json: give one of them, or names"):
        read_sets([("mine", paths[0]), ("mine", paths[0])])
    folder("4", [one.model_copy(update={"label": 1 - one.label}) for one in some], second, "x")
    with pytest.raises(ConfigurationError, match="differently: evaluate both on one dataset"):
        read_sets([("a", paths[0]), ("b", tmp_path / "4")])
    folder("5", truth(5, seed=9), second, "x")
    with pytest.raises(ConfigurationError, match=r"share no image: .*5 has the fewest, 5; evaluate all on the same"):
        read_sets([("a", paths[0]), ("b", tmp_path / "5")])


def test_sets_of_the_same_name_are_numbered(tmp_path: Path) -> None:
    paths = [
        write_evaluation(tmp_path / str(n), truth(20), scripted_description(), dataset={"name": name, "sha256": str(n)})
        for n, name in enumerate(("a", "a", "a (2)"))
    ]
    assert [one.name for one in read_sets([(None, path) for path in paths])] == ["a", "a (2)", "a (2) (2)"]


def test_predictions_without_their_run_are_refused(tmp_path: Path) -> None:
    path = write_evaluation(tmp_path / "1", truth(20))
    with pytest.raises(ConfigurationError, match=r"has no run\.json, so its dataset is not known: give a folder"):
        read_sets([(None, path)])


def test_the_page_and_the_json_say_the_same_and_names_are_text(tmp_path: Path) -> None:
    some = truth(300)
    evil = "<script>alert(1)</script>"
    sets = [LabelledSet("set", (contender(evil, some), contender("b", noisier(some, 3))))]
    board = rank(sets, {"b": 4.0, evil: 12_345.0}, 2.0)
    leaderboard_page.write_leaderboard_page(board, sets, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert evil not in page
    assert "&lt;script&gt;" in page
    made = json.loads(json.dumps(leaderboard_page.as_json(board, sets), allow_nan=False))
    for one in made["detectors"]:
        assert f"{one['roc_auc']:.4f}" in page
    assert made["sets"][0]["detectors"]["b"]["source"] == "/evaluation/b"
    lines = list(leaderboard_page.as_lines(board))
    assert any("4 images/s, 0.139 per thousand images" in line for line in lines)
    assert any("12,345 images/s" in line for line in lines)
    alone = rank([replace(sets[0], contenders=sets[0].contenders[:1])], {}, None)
    assert list(leaderboard_page.as_lines(alone))
