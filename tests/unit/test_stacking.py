"""A stack of detectors: what its file must say, and how it makes one score of several log-odds."""

import math
from typing import Any

import pytest

from worker.errors import ConfigurationError
from worker.stacking import Stack, parse_stack

A, B = "a" * 64, "b" * 64


def stack(*weights: float, offset: float = 0.0, **more: Any) -> Stack:
    prints = [letter * 64 for letter in "abcdef"[: len(weights)]]
    detectors = [
        {"name": one[0], "fingerprint": one, "weight": weight} for one, weight in zip(prints, weights, strict=True)
    ]
    return Stack(**{"name": "both", "offset": offset, "fake_from": 0.6, "real_to": 0.4, "detectors": detectors} | more)


def test_the_score_is_the_sigmoid_of_the_weighted_sum() -> None:
    assert stack(0.5, 2, offset=-1).score({A: 2, B: -0.5}) == pytest.approx(1 / (1 + math.e))
    assert stack(0.5, 0).score({A: 4, B: 1000, "another": 9}) == pytest.approx(1 / (1 + math.exp(-2)))
    with pytest.raises(KeyError):
        stack(1, 1).score({A: 1})


@pytest.mark.parametrize("far", [1e3, 1e6, 1e300, math.inf])
def test_extreme_log_odds_do_not_overflow(far: float) -> None:
    both = stack(1e6, 1)
    assert both.score({A: far, B: far}) == 1
    assert 0 <= both.score({A: -far, B: -far}) < 1e-300


def test_the_fingerprint_is_of_what_decides_scores_and_verdicts() -> None:
    one = stack(0.5, 2)
    turned = one.model_copy(update={"detectors": one.detectors[::-1]})
    same = (turned, stack(0.5, 2, name="another", fitted_on="x", images=3, error_after=0.1))
    others = (stack(0.5, 2.1), stack(0.5, 2, offset=0.1), stack(0.5, 2, fake_from=0.7), stack(0.5, 2, real_to=0.3))
    assert {each.fingerprint for each in same} == {one.fingerprint}
    assert len({each.fingerprint for each in (one, *others)}) == 5


FILE = f"""name = "both"
offset = -0.5
fake_from = 0.9
real_to = 0.1
[[detectors]]
name = "a"
fingerprint = "{A}"
weight = 1.5
[[detectors]]
name = "b"
fingerprint = "{B}"
weight = 0
"""


def test_a_file_is_read() -> None:
    read = parse_stack(FILE, where="x.toml")
    assert read == stack(1.5, 0, offset=-0.5, fake_from=0.9, real_to=0.1)
    assert read.fingerprints == (A, B)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("offset = -0.5", "offset = [", "x.toml is not a stack (.*); fakesweep stack writes such a file"),
        ("offset = -0.5", "", "x.toml: offset: "),
        ("offset = -0.5", "offset = nan", "x.toml: offset: "),
        ("weight = 1.5", "weight = -1", "x.toml: detectors.0.weight: "),
        ("weight = 1.5", "weight = 0", "at least one weight must be above 0"),
        ("real_to = 0.1", "real_to = 0.95", "real_to must not be above fake_from"),
        (B, A, "a fingerprint is there twice"),
        (B, "b", "x.toml: detectors.1.fingerprint: "),
        ('name = "both"', 'names = "both"', "x.toml: "),
        (FILE[FILE.rindex("[[") :], "", "x.toml: detectors: "),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(old: str, new: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said.replace("(", r"\(").replace(r"\(.*)", r"\(.*\)")) as caught:
        parse_stack(FILE.replace(old, new, 1), where="x.toml")
    assert "\n" not in str(caught.value)
