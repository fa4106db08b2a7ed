"""`fakesweep calibrate` refuses options that would have no effect."""

from pathlib import Path

import pytest

from producers.commands.evaluation import calibrate
from worker.errors import UsageError

HERE = Path("here")


@pytest.mark.parametrize(
    ("option", "given"),
    [("--method", {"method": "platt"}), ("--false-positive-rate", {"false_positive_rate": 0.02}),
     ("--miss-rate", {"miss_rate": 0.0})],
)  # fmt: skip
def test_what_is_not_for_a_clear_threshold_is_refused(option: str, given: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=f"^{option} has no effect with --max-miss-rate, .*; leave it out"):
        calibrate(HERE, output=HERE, max_miss_rate=0.005, **given)  # type: ignore[arg-type]  # one of several types


@pytest.mark.parametrize(("option", "given"), [("--judged", {"judged": HERE}), ("--fake-share", {"fake_share": 0.0})])
def test_what_is_for_a_clear_threshold_alone_is_refused_without_it(option: str, given: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=f"^{option} is for a cascade: give --max-miss-rate, too"):
        calibrate(HERE, output=HERE, **given)  # type: ignore[arg-type]  # one of several types
