"""What a detector's description may contain, and which changes make another detector."""

from typing import Any

import pytest

from tests.conftest import DEMO_DETECTOR
from worker.detector.description import DetectorDescription, Preprocessing, VlmDescription, parse_description, vlm_only
from worker.detector.loading import load_description
from worker.errors import ConfigurationError
from worker.images import Decoding, Fit
from worker.messages import Explain
from worker.settings import Settings
from worker.testing import scripted_description

MINIMAL = "name = 'x'\nmodel = 'm'\nprompt = 'p'\n"
PROMPTS = "[prompts]\np = '<image>What?'\n"


def parsed(text: str, **overrides: Any) -> VlmDescription:
    return vlm_only(parse_description(text, where="x.toml", load=_no_stages, overrides=overrides), "a test")


def described(**settings: Any) -> VlmDescription:
    return vlm_only(load_description(Settings(**settings)), "a test")


def _no_stages(stage: str, name: str) -> DetectorDescription:
    raise AssertionError(stage, name)


def test_fakevlm_is_asked_as_its_authors_ask_it() -> None:
    description = described()
    assert description.prompt_text == "<image>Does the image looks real/fake?"
    assert (description.preprocessing.revision, description.engine.max_model_len) == ("clip-pillow-1@336", 800)
    assert (description.engine.dtype, description.engine.quantization) == ("float16", None)
    assert description.revision is not None
    assert len(description.revision) == 40


def test_the_chat_prompt_can_be_chosen() -> None:
    chat = described(prompt="llava-chat")
    assert chat.prompt_text == "USER: <image>\nDoes the image looks real/fake? ASSISTANT:"
    assert chat.identity["prompt_revision"] == "llava-chat"


@pytest.mark.parametrize(
    "change",
    [
        {"model": "other"},
        {"revision": "2"},
        {"prompts": {"official-raw": "<image>Real?"}},
        {"answer": {"max_tokens": 50}},
        {"answer": {"fake_word": "a fake"}},
        {"preprocessing": {"fit": "pad"}},
        {"preprocessing": {"edge": 224}},
        {"preprocessing": {"decode": "reduced"}},
        {"engine": {"dtype": "bfloat16"}},
        {"engine": {"quantization": "fp8_per_tensor"}},
        {"engine": {"kv_cache_dtype": "fp8"}},
        {"calibration": {"slope": 0.7}},
        {"calibration": {"offset": 0.1}},
    ],
)
def test_a_change_that_can_change_a_score_makes_another_detector(change: dict[str, Any]) -> None:
    assert scripted_description(**change).fingerprint != scripted_description().fingerprint


@pytest.mark.parametrize(
    "change",
    [
        {"thresholds": {"fake_from": 0.9}},
        {"notice": "new"},
        {"engine": {"enforce_eager": True}},
        {"calibration": {"fitted_on": "here", "preprocessing": "clip-pillow-1@336"}},
        {"preprocessing": {"decode": "full"}},
        {"prompts": {"official-raw": "<image>Does the image looks real/fake?", "other": "<image>?"}},
    ],
)
def test_a_change_that_cannot_change_a_score_keeps_the_detector(change: dict[str, Any]) -> None:
    assert scripted_description(**change).fingerprint == scripted_description().fingerprint


def test_each_preprocessing_has_its_own_revision() -> None:
    forms = [Preprocessing(fit=fit, decode=decoding) for fit in Fit for decoding in Decoding]
    assert len({form.revision for form in forms}) == len(forms)
    assert Preprocessing(decode=Decoding.REDUCED).revision == "clip-pillow-reduced-1@336"


def test_detectors_that_decode_in_full_keep_their_fingerprints() -> None:
    """Verdicts in databases refer to their detector by these. In one release, full decoding was the only way."""
    assert [
        load_description(Settings(detector="fakevlm")).fingerprint,
        load_description(Settings(detector=str(DEMO_DETECTOR))).model_copy(update={"revision": "1"}).fingerprint,
        scripted_description(preprocessing={"fit": "pad", "edge": 112}).fingerprint,
        scripted_description(preprocessing={"fit": "stretch"}).fingerprint,
    ] == [
        "d58607367be0309f47e75f4f4c60a2f158d770884803c801732922cb409fee25",
        "9cefdedf6cb51cdeae97dc0d47067ad125b7a97e73578b5c1bc4f706bc9547ca",
        "b5b34739b6c69becf2fb956fafd0cfebd7410c86002bc6b6c6394acf55a085a8",
        "a3ecf0487f444af780db63b0246324bd9cd0b74099310019924e93388f442cd2",
    ]


def test_the_row_in_detectors_has_the_whole_description() -> None:
    row = scripted_description(calibration={"slope": 0.7}).row()
    assert row.description is not None
    assert row.description["calibration"]["slope"] == 0.7
    assert row.description["prompts"] == {"official-raw": "<image>Does the image looks real/fake?"}


@pytest.mark.parametrize(
    ("explain", "stops"),
    [
        (Explain.ALL, []),
        (Explain.FLAGGED, ["This is a real image."]),
        (Explain.NONE, ["This is a real image.", "This is a fake image."]),
    ],
)
def test_the_texts_at_which_an_answer_stops(explain: Explain, stops: list[str]) -> None:
    assert scripted_description().answer.stops(explain) == stops


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name = ", "not a description"),
        ("name = 'x'", "model"),
        (MINIMAL, "prompts"),
        (MINIMAL + "[prompts]\nq = '<image>?'", "prompt must be one of q, not p"),
        (MINIMAL + "[prompts]\np = 'no image'", "prompts.p must hold <image> once, not 0 times"),
        (MINIMAL + "[prompts]\np = '<image><image>'", "not 2 times"),
        (MINIMAL + PROMPTS + "[preprocessing]\nedge = 'big'", "preprocessing.edge"),
        (MINIMAL + PROMPTS + "[preprocessing]\nfit = 'squeeze'", "preprocessing.fit.*crop.*pad.*stretch"),
        (MINIMAL + PROMPTS + "[preprocessing]\ndecode = 'half'", "preprocessing.decode.*full.*reduced"),
        (MINIMAL + PROMPTS + "[engine]\ndtype = 'int3'", "engine.dtype.*float16"),
        (MINIMAL + PROMPTS + "[answer]\nfake_word = 'forged'", "fake must contain fake_word"),
        (MINIMAL + PROMPTS + "[answer]\nfake_word = 'Th'", "'Th' is missing"),
        (MINIMAL + PROMPTS + "[answer]\nreal = 'This is a fake image'\nreal_word = 'fake'", "must differ"),
        (MINIMAL + PROMPTS + "[answer]\npattern = '('", "not a regular expression"),
        (MINIMAL + PROMPTS + "[answer]\npattern = 'x'", r"groups \(\?P<fake>"),
        (MINIMAL + PROMPTS + "[thresholds]\nfake_from = 0.2", "real_to must not be above"),
        (MINIMAL + PROMPTS + "[calibration]\nslope = -1", "calibration.slope"),
        (MINIMAL + PROMPTS + "[checksums]\na = 'b'", "checksums.a"),
        (MINIMAL + "colour = 1\n" + PROMPTS, "colour"),
        ("engine = 3\n" + MINIMAL + PROMPTS, "engine"),
    ],
)
def test_an_error_in_a_description_names_its_place(text: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^FAKESWEEP_DETECTOR: x\.toml.*{said}"):
        parsed(text)


def test_changes_from_the_environment_are_checked_like_the_file() -> None:
    assert parsed(MINIMAL + PROMPTS, dtype="bfloat16").engine.dtype == "bfloat16"
    with pytest.raises(ConfigurationError, match="prompt must be one of p, not q"):
        parsed(MINIMAL + PROMPTS, prompt="q")


def test_an_unknown_detector_lists_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match=r"FAKESWEEP_DETECTOR.*fakevlm"):
        load_description(Settings(detector="nobody"))
