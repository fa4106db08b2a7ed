"""Which further detectors fit beside the main one, and what a policy stores of them."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from pydantic import ValidationError

from tests.cascades import cascade_description
from tests.conftest import DEMO_DETECTOR
from worker.case import ReuseRule
from worker.detector.further import check_fit_together, faults_of_further, load_further
from worker.detector.loading import load_description
from worker.errors import ConfigurationError
from worker.messages import FilledPolicy, Policy, Thresholds
from worker.settings import Settings
from worker.testing import scripted_description

FILLED = FilledPolicy(fake_from=0.6, real_to=0.4)
FINGERPRINT = 1473889707870529457


def test_the_further_detectors_are_those_that_the_setting_names(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = load_description(Settings(detector=str(DEMO_DETECTOR)))
    monkeypatch.setenv("FAKESWEEP_ALSO", f"{DEMO_DETECTOR}, fakevlm")
    monkeypatch.setenv("FAKESWEEP_DTYPE", "float16")
    settings = Settings.from_environment()
    demo, fakevlm = load_further(settings)
    assert demo == plain, "no override is for a further detector"
    assert fakevlm.name == "fakevlm"


def test_a_name_that_is_none_is_told_with_its_setting() -> None:
    with pytest.raises(ConfigurationError, match=r"^FAKESWEEP_ALSO: nobody: 'nobody' is neither one of"):
        load_further(Settings(also=("nobody",)))


def test_a_fault_of_a_further_detector_names_its_own_variable_and_itself() -> None:
    with (
        pytest.raises(ConfigurationError, match=r"^FAKESWEEP_ALSO: other: it has no weights; fetch it$"),
        faults_of_further("other"),
    ):
        raise ConfigurationError("FAKESWEEP_MODEL: it has no weights; fetch it")


def test_none_is_named_by_default() -> None:
    assert load_further(Settings()) == ()


def test_one_with_another_preprocessing_is_refused() -> None:
    other = scripted_description(name="other", preprocessing={"edge": 224})
    with pytest.raises(ConfigurationError, match=r"FAKESWEEP_ALSO: other prepares images by .*@224, and scripted by"):
        check_fit_together(scripted_description(), [other])


@pytest.mark.parametrize("names", [["scripted"], ["other", "other"]])
def test_one_with_the_name_of_another_is_refused(names: list[str]) -> None:
    further = [scripted_description(name=name) for name in names]
    with pytest.raises(ConfigurationError, match=f"FAKESWEEP_ALSO: '{names[-1]}' is the name of another detector"):
        check_fit_together(scripted_description(), further)


def test_a_cascade_is_refused() -> None:
    """Its audits would be counted nowhere."""
    with pytest.raises(ConfigurationError, match=r"FAKESWEEP_ALSO: .* is a cascade"):
        check_fit_together(scripted_description(), [cascade_description(name="other")])


def test_a_policy_stores_further_detectors_only_if_it_has_some() -> None:
    assert "also" not in Policy().stored()
    assert Policy(also=("other",)).stored()["also"] == ["other"]
    assert Policy.model_validate(Policy(also=("other",)).stored()).also == ("other",)


@pytest.mark.parametrize("also", [("a", "a"), ("",), tuple("abcdefghi")])
def test_a_policy_refuses_what_cannot_be(also: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError):
        Policy(also=also)


def test_a_further_detector_is_asked_with_its_own_thresholds_and_its_own_limit() -> None:
    policy = FilledPolicy(fake_from=0.6, real_to=0.4, max_tokens=100, also=("other",))
    asked = policy.of_further("other", 40, fake_from=0.9, real_to=0.1)
    assert (asked.fake_from, asked.real_to, asked.max_tokens, asked.also) == (0.9, 0.1, 40, ())
    pinned = policy.model_copy(update={"also_thresholds": {"other": Thresholds(fake_from=0.8, real_to=0.2)}})
    asked = pinned.of_further("other", 40, fake_from=0.9, real_to=0.1)
    assert (asked.fake_from, asked.real_to, asked.also_thresholds) == (0.8, 0.2, None)


def test_a_rule_without_further_detectors_keeps_its_fingerprint() -> None:
    """The number is stored in `objects`. It was computed by the release before second opinions."""
    assert ReuseRule(7, FILLED, None).fingerprint == FINGERPRINT


def test_the_number_of_a_rule_without_opinions_says_which_detectors_were_lacking_and_since_when() -> None:
    """It must be the same in each process, whatever the time zone of its connection."""
    start, later = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)

    def rule(first: datetime, second: datetime) -> ReuseRule:
        pairs = ((8, first), (9, second))
        return ReuseRule(7, FILLED, None, tuple(ReuseRule(n, FILLED, None, started_at=at) for n, at in pairs))

    made = rule(start, start)
    numbers = {made.fingerprint, *(made.fingerprint_without(some) for some in ((8,), (9,), (8, 9)))}
    assert len(numbers) == 4
    assert rule(start, later).fingerprint == made.fingerprint
    assert rule(start, later).fingerprint_without([9]) not in numbers
    assert rule(start, later).fingerprint_without([8]) == made.fingerprint_without([8]), "the other one has started"
    elsewhere = start.astimezone(timezone(timedelta(hours=5, minutes=45)))
    assert rule(elsewhere, start).fingerprint_without([8, 9]) == made.fingerprint_without([8, 9])


def test_a_rule_with_further_detectors_has_another_fingerprint_for_each_of_them() -> None:
    rules = [ReuseRule(7, FILLED, None, (ReuseRule(one, FILLED, None),)).fingerprint for one in (8, 9)]
    assert len({FINGERPRINT, *rules}) == 3
