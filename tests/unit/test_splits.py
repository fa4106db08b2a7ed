"""Where a content goes depends on the content only, and the parts have the wanted shares."""

import hashlib
import hmac
import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from producers.export.dataset import PURPOSE
from worker.lab.datasets.splits import Shares, Split, split_of

contents = st.binary(min_size=32, max_size=32).map(bytes.hex)
seeds = st.integers(-(2**40), 2**40)
cuts = st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted)
shares_of = cuts.map(lambda cut: Shares(train=cut[0], validation=cut[1] - cut[0], test=1 - cut[1]))

MANY = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(20_000)]


def parts(sha256s: list[str], shares: Shares, seed: int = 0) -> dict[str, Split]:
    return {sha256: split_of(sha256, shares, seed) for sha256 in sha256s}


@settings(deadline=None)
@given(contents, shares_of, seeds)
def test_a_content_goes_to_one_part_and_never_to_one_without_a_share(sha256: str, shares: Shares, seed: int) -> None:
    chosen = split_of(sha256, shares, seed)
    assert split_of(sha256, shares.model_copy(), seed) is chosen
    assert getattr(shares, chosen) > 0


@settings(max_examples=30, deadline=None)
@given(shares_of, seeds)
def test_shares_are_met(shares: Shares, seed: int) -> None:
    counts = Counter(parts(MANY[:5000], shares, seed).values())
    for split in Split:
        share = getattr(shares, split)
        # five standard deviations of a binomial share
        assert abs(counts[split] / 5000 - share) <= 5 * math.sqrt(share * (1 - share) / 5000) + 1e-3


@settings(max_examples=30, deadline=None)
@given(seeds, seeds)
def test_another_seed_makes_another_split(seed: int, other: int) -> None:
    same = parts(MANY[:300], Shares(), seed) == parts(MANY[:300], Shares(), other)
    assert same == (seed == other)


@settings(max_examples=30, deadline=None)
@given(st.floats(0.1, 0.8), st.floats(0.01, 0.1))
def test_a_larger_train_part_keeps_all_its_contents(train: float, more: float) -> None:
    before = parts(MANY[:500], Shares(train=train, validation=1 - train, test=0))
    after = parts(MANY[:500], Shares(train=train + more, validation=1 - train - more, test=0))
    assert all(after[one] is Split.TRAIN for one in before if before[one] is Split.TRAIN)


def test_splits_do_not_change_between_releases() -> None:
    """What was held out must stay held out."""
    assert Counter(parts(MANY, Shares()).values()) == {"train": 15985, "validation": 1956, "test": 2059}
    thirds = Shares(train=0.4, validation=0.3, test=0.3)
    for seed in (0, 7):
        for sha256 in MANY[:100]:
            digest = hmac.new(str(seed).encode(), bytes.fromhex(sha256), "sha256").hexdigest()
            fraction = int(digest[:12], 16) / 16**12
            expected = "train" if fraction < 0.4 else "validation" if fraction < 0.7 else "test"
            assert split_of(sha256, thirds, seed) == expected


@pytest.mark.parametrize(
    "wrong", [(0.8, 0.1, 0.2), (0.5, 0.1, 0.1), (-0.1, 0.6, 0.5), (1.1, -0.1, 0), (math.nan, 0, 1)]
)
def test_shares_that_are_invalid(wrong: tuple[float, float, float]) -> None:
    with pytest.raises(ValidationError):
        Shares(train=wrong[0], validation=wrong[1], test=wrong[2])


def test_shares_that_add_up_to_slightly_less_than_one_lose_nothing() -> None:
    assert Shares(train=0.9999995, validation=0, test=0).train == 0.9999995
    # Few contents are so close to 1, so this gap is larger.
    wide = Shares.model_construct(train=0.4, validation=0.1, test=0)
    assert set(parts(MANY[:500], wide).values()) == {Split.TRAIN, Split.VALIDATION}


def test_a_hold_out_from_the_train_part_of_an_export_has_its_share() -> None:
    shares = Shares(train=0.95, validation=0, test=0.05)
    exported = [one for one in MANY if split_of(one, Shares(), 0, PURPOSE) is Split.TRAIN]
    held_out = [one for one in exported if split_of(one, shares, 0) is Split.TEST]
    assert len(held_out) / len(exported) == pytest.approx(0.05, abs=0.01)
