"""Two detectors on the same images. Every number is compared with another calculation of it."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score, roc_auc_score

from tests.unit.predicting import drawn_predictions, evaluated, hashed, of_detector, predicted
from worker.errors import ConfigurationError
from worker.lab.evaluation import comparison_page
from worker.lab.evaluation.compare import Comparison, compare
from worker.lab.evaluation.paired import difference_interval, holm, mcnemar
from worker.lab.evaluation.predictions import Prediction
from worker.testing import scripted_description


def said(answers: Sequence[float | None], **more: Any) -> list[Prediction]:
    """Predictions for images 0, 1, 2 …, with these log-odds. The first half is fake, the others are real."""
    half = len(answers) // 2
    return [
        predicted(f"{place}.png", fake=place < half, log_odds=one, **more) for place, one in enumerate(answers)
    ]  # fmt: skip


def compared(a: Sequence[Prediction], b: Sequence[Prediction]) -> Comparison:
    return compare(evaluated(a, "A"), evaluated(b, "B"))


def other_mind(predictions: Sequence[Prediction], seed: int, undecided: float = 0.05) -> list[Prediction]:
    """Predictions of another detector on the same images. It is less sure, and sometimes undecided."""
    chance = np.random.default_rng(seed)
    return [
        predicted(
            one.image, fake=one.is_fake, category=one.category, generator=one.generator,
            log_odds=None if chance.random() < undecided else (one.log_odds or 0) + chance.normal(0, 3),
        )
        for one in predictions
    ]  # fmt: skip


# Statistics


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 1), (5, 5), (3, 9), (12, 2), (40, 61), (0, 10)])
def test_mcnemar_is_the_sum_of_a_binomial_tail(only_a: int, only_b: int) -> None:
    discordant = only_a + only_b
    tail = sum(math.comb(discordant, k) for k in range(min(only_a, only_b) + 1)) / 2**discordant
    assert mcnemar(only_a, only_b) == pytest.approx(min(1, 2 * tail))
    assert mcnemar(only_a, only_b) == mcnemar(only_b, only_a)


def test_mcnemar_without_discordant_images_shows_nothing() -> None:
    assert mcnemar(0, 0) == 1


def test_the_interval_of_a_published_table() -> None:
    """Agresti's table about the prime minister: 150 and 86 of 1,600 people changed their mind.

    Wald's interval is .0200 to .0600.
    """
    low, high = difference_interval(150, 86, 1600)
    n = 1602
    middle, variance = 64 / n, (237 - 64**2 / n) / n**2
    assert (low, high) == pytest.approx((middle - 1.959964 * variance**0.5, middle + 1.959964 * variance**0.5))
    assert (low, high) == pytest.approx((0.0200, 0.0600), abs=0.0015)


def test_the_interval_contains_the_true_value_in_95_percent_of_cases() -> None:
    chance = np.random.default_rng(0)
    tables = chance.multinomial(60, [0.7, 0.15, 0.05, 0.1], size=4000)
    inside = [low <= 0.1 <= high for low, high in (difference_interval(row[1], row[2], 60) for row in tables)]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize(("only_a", "only_b", "images"), [(0, 0, 20), (1, 0, 1), (0, 1, 1), (5, 0, 5)])
def test_the_interval_has_a_width_and_stays_in_bounds(only_a: int, only_b: int, images: int) -> None:
    low, high = difference_interval(only_a, only_b, images)
    assert -1 <= low < high <= 1


@pytest.mark.parametrize(
    ("p_values", "corrected"),
    [
        ([], []),
        ([0.04], [0.04]),
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.5, 0.9, 0.4], [1, 1, 1]),
        ([0.02, 0.02], [0.04, 0.04]),
    ],
)
def test_holms_correction_by_hand(p_values: list[float], corrected: list[float]) -> None:
    assert holm(p_values) == pytest.approx(corrected)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_rejects_the_same_as_stepping_down(p_values: list[float]) -> None:
    rejected = set()
    for step, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[place] * (len(p_values) - step) >= 0.05:
            break
        rejected.add(place)
    assert {place for place, p in enumerate(holm(p_values)) if p < 0.05} == rejected


# Comparisons


def test_the_table_counts_right_and_wrong_answers_and_undecided_is_wrong() -> None:
    found = compared(said([2, 2, 2, None, -2, 2, -2, -2]), said([2, -2, None, 2, -2, 2, 2, None]))
    assert (found.duel.both, found.duel.only_a, found.duel.only_b, found.duel.neither) == (2, 4, 1, 1)
    assert found.duel.images == 8
    assert (found.duel.accuracy_a, found.duel.accuracy_b, found.duel.difference) == (6 / 8, 3 / 8, 3 / 8)
    assert found.duel.p == pytest.approx(2 * (1 + 5) / 2**5)
    assert [pair.a.image for pair in found.disagreements] == ["1.png", "2.png", "3.png", "6.png", "7.png"]


def test_every_number_is_right_on_random_predictions() -> None:
    a = drawn_predictions(800, seed=1, category="animal")
    b = other_mind(a, seed=2)
    found = compared(a, b[::-1])  # the order does not matter
    both = [(one, other) for one, other in zip(a, b, strict=True) if other.score is not None]
    labels = [one.is_fake for one, _ in both]
    assert found.scored == len(both) < 800
    assert found.roc_auc_a == pytest.approx(roc_auc_score(labels, [one.log_odds for one, _ in both]))
    assert found.roc_auc_b == pytest.approx(roc_auc_score(labels, [one.log_odds for _, one in both]))
    assert found.kappa == pytest.approx(
        cohen_kappa_score([str(one.verdict) for one in a], [str(one.verdict) for one in b])
    )
    right = [
        [(one.log_odds is not None) and (one.log_odds > 0) == one.is_fake for one in predictions]
        for predictions in (a, b)
    ]
    assert found.duel.accuracy_a == pytest.approx(np.mean(right[0]))
    assert found.duel.accuracy_b == pytest.approx(np.mean(right[1]))
    assert found.duel.only_a == sum(one and not other for one, other in zip(*right, strict=True))
    assert found.winner == "A"
    assert len(found.disagreements) == sum(one.verdict != other.verdict for one, other in zip(a, b, strict=True))


def test_kappa_by_hand() -> None:
    """Three of four verdicts agree. By chance, two of four would."""
    assert compared(said([2, 2, -2, -2]), said([2, -2, -2, -2])).kappa == pytest.approx((3 / 4 - 1 / 2) / (1 - 1 / 2))


def test_the_better_detector_of_each_group_with_holms_correction() -> None:
    def made(wrong_in: str) -> list[Prediction]:
        return [
            predicted(
                f"{category}/{place}", fake=True, log_odds=-1.0 if category == wrong_in and place < wrong else 1.0,
                category=category, generator=None if category == "doc" else f"made-{category}",
            )
            for category, wrong in (("animal", 7), ("doc", 6), ("human", 0))
            for place in range(20)
        ]  # fmt: skip

    found = compared(made("doc"), made("animal"))
    assert [(one.name, one.duel.only_a, one.duel.only_b) for one in found.categories] == [
        ("animal", 7, 0), ("doc", 0, 6), ("human", 0, 0),
    ]  # fmt: skip
    assert [one.duel.p for one in found.categories] == pytest.approx([2 / 2**7, 2 / 2**6, 1])
    assert [one.p_holm for one in found.categories] == pytest.approx([3 * 2 / 2**7, 2 * 2 / 2**6, 1])
    assert [one.winner for one in found.categories] == ["A", None, None]
    assert [one.name for one in found.generators] == ["made-animal", "made-human"]  # no image of doc has a generator
    assert [one.p_holm for one in found.generators] == pytest.approx([2 * 2 / 2**7, 1])
    assert found.winner is None


def test_the_better_detector_is_named_in_either_order() -> None:
    good, bad = said([2.0] * 10 + [-2.0] * 10), said([-2.0] * 20)
    assert (compared(good, bad).winner, compared(bad, good).winner) == ("A", "B")


def test_identical_detectors() -> None:
    found = compared(said([2, None, -2, 2]), said([2, None, -2, 2]))
    assert (found.duel.p, found.duel.difference, found.kappa, found.winner) == (1, 0, 1, None)
    assert found.duel.low < 0 < found.duel.high
    assert found.disagreements == ()


def test_one_class_or_no_score_has_no_roc_auc_and_one_verdict_has_no_kappa() -> None:
    fakes = said([2, 2, -2, -2])[:2]
    assert (compared(fakes, fakes).roc_auc_a, compared(fakes, fakes).kappa) == (None, None)
    undecided = said([None] * 4)
    found = compared(undecided, undecided)
    assert (found.roc_auc_a, found.roc_auc_b, found.kappa, found.scored) == (None, None, None, 0)
    assert (found.duel.neither, found.duel.accuracy_a) == (4, 0)


def test_images_of_only_one_detector_are_named_and_left_out() -> None:
    a, b = said([2, 2, -2, -2]), said([2, 2, -2, -2])
    found = compared(a[:3], b[1:])
    assert (found.only_in_a, found.only_in_b, found.duel.images) == (("0.png",), ("3.png",), 2)


@pytest.mark.parametrize(("datasets", "warned"), [("12", True), ("11", False), ((None, "1"), False)])
def test_two_datasets_are_compared_with_a_warning(datasets: Sequence[str | None], warned: bool) -> None:
    a, b = (evaluated(said([2, 2, -2, -2]), dataset=one) for one in datasets)
    assert [("two datasets" in one) for one in compare(a, b).warnings] == [True] * warned


def test_images_with_another_content_are_named_and_left_out(tmp_path: Path) -> None:
    a = hashed(*said([2, 2, -2, -2]))
    b = [a[0], *hashed(a[1], content="another"), a[2].model_copy(update={"sha256": None}), a[3]]
    found = compared(a, b)
    assert (found.other_content, found.duel.images, found.only_in_a) == (("1.png",), 3, ())
    of_a, of_b = evaluated(a, "A"), evaluated(b, "B")
    assert comparison_page.as_json(found, of_a, of_b)["other_content"] == ["1.png"]
    lines = "\n".join(comparison_page.as_lines(found, of_a, of_b))
    assert "another content in B than in A, left out: 1 images, such as 1.png" in lines
    comparison_page.write_comparison_page(found, of_a, of_b, tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text()
    assert "1 images with another content in B than in A" in html
    assert '<p class="uri">1.png<br></p>' in html
    with pytest.raises(ConfigurationError, match=r"all 4 of the same name, such as 0\.png, have another content"):
        compared(a, hashed(*a, content="another"))


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(
    ("images", "warned"), [(("/a", "/b"), True), (("/a", "/a/"), False), ((None, "/b"), False)]
)  # fmt: skip
def test_images_from_two_places_are_compared_with_a_warning(
    images: Sequence[str | None], warned: bool, known: bool
) -> None:
    predictions = hashed(*said([2, 2, -2, -2])) if known else said([2, 2, -2, -2])
    a, b = (evaluated(predictions, images=one) for one in images)
    said_of_it = "have the same content" if known else "not all contents could be compared"
    assert [said_of_it in one for one in compare(a, b).warnings] == [True] * warned


def test_detectors_with_other_options_are_compared_with_a_warning() -> None:
    a, b = (evaluated(said([2, 2, -2, -2]), explain=one) for one in ("all", "none"))
    assert ["A explained all of its answers, B none" in one for one in compare(a, b).warnings] == [True]
    assert not compare(a, a).warnings


def test_comparing_a_detector_with_itself_warns_and_two_with_one_name_get_longer_names(tmp_path: Path) -> None:
    one, other, third = (
        of_detector(scripted_description(**more))
        for more in ({}, {"calibration": {"slope": 0.5}}, {"name": "third"})
    )  # fmt: skip
    a, b, c = (evaluated(said([2, 2, -2, -2]), detector=of) for of in (one, other, third))
    assert [one["fingerprint"][:12] in said for said in compare(a, a).warnings] == [True]
    assert not compare(a, b).warnings
    comparison_page.write_comparison_page(compare(a, b), a, b, tmp_path / "page.html")
    short = [f"scripted {of['fingerprint'][:8]}" for of in (one, other)]
    html = (tmp_path / "page.html").read_text()
    assert f"<title>{short[0]} against {short[1]}" in html
    assert [html.count(f"<span>{name}</span>") for name in short] == [1, 1]
    assert comparison_page.names(a, c) == ("scripted", "third")


def test_the_better_detector_is_shown_before_the_figures(tmp_path: Path) -> None:
    a, b = (evaluated(said([2, 2, -2, -2], category="doc", generator="flux")) for _ in "ab")
    comparison_page.write_comparison_page(compare(a, b), a, b, tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text()
    assert html.count(">Better</th>") == html.count(">p, Holm</th>") == 2
    assert html.index(">Better</th>") < html.index(">p, Holm</th>") < html.index(">Only A right</th>")
    assert "uncorrected" not in html
    assert "p" in comparison_page.as_json(compare(a, b), a, b)["categories"]["doc"]


def test_sets_that_cannot_be_compared_are_refused() -> None:
    a = said([2, 2, -2, -2])
    with pytest.raises(ConfigurationError, match=r"share no image \(0\.png and x are the first ones\)"):
        compared(a, [predicted("x", fake=True, log_odds=1.0)])
    turned = [a[0], a[1].model_copy(update={"label": 1}), *a[2:]]
    with pytest.raises(ConfigurationError, match=r"label 1 images differently, such as 1\.png"):
        compared(a, turned)


def test_the_json_has_every_disagreement_and_the_page_the_first_ones(tmp_path: Path) -> None:
    count = 2 * comparison_page.SHOWN + 100
    a, b = evaluated(said([2.0] * count), "A"), evaluated(said([-2.0] * (count - 1) + [None]), "B")
    found = compare(a, b)
    content = comparison_page.as_json(found, a, b)
    assert len(content["disagreements"]) == count
    assert content["disagreements"][0] == {
        "image": "0.png", "label": 0, "category": None, "generator": None, "verdict_a": "fake",
        "score_a": pytest.approx(1 / (1 + math.exp(-2))), "verdict_b": "real",
        "score_b": pytest.approx(1 / (1 + math.exp(2))),
    }  # fmt: skip
    assert content["table"] == {"both": 0, "only_a": count // 2, "only_b": count // 2 - 1, "neither": 1}
    comparison_page.write_comparison_page(found, a, b, tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text().count('<td class="uri">') == comparison_page.SHOWN
