"""Measures how similar the detector's words are to the dataset's: ROUGE-L and CSS, as the paper reports them."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from rouge_score.rouge_scorer import RougeScorer

from worker.errors import ConfigurationError
from worker.lab.evaluation.metrics import Floats
from worker.lab.evaluation.predictions import Prediction

EMBEDDINGS = "sentence-transformers/all-MiniLM-L6-v2"
"""The paper names no model. With this one, third parties come close to its figures (CSS .855 against .877)."""


def rouge_l(predictions: Sequence[Prediction]) -> Floats:
    """Returns ROUGE-L's F-measure (Lin 2004; the rouge-score library, without stemming) of each answer, shape (n,).

    It compares with the dataset's own answer, and is NaN if there is none. An empty answer has 0.
    """
    scorer = RougeScorer(["rougeL"], use_stemmer=False)
    return np.array([
        scorer.score(one.reference, one.answer)["rougeL"].fmeasure if one.reference else math.nan
        for one in predictions
    ], float)  # fmt: skip


def css(predictions: Sequence[Prediction], model: str) -> Floats:
    """Returns the cosine similarity of the sentence embeddings of answer and reference, -1..1. NaN as in rouge_l().

    `model` is a folder, or a name that the hub's client has on this machine: nothing is downloaded. The model limits
    the length of texts. Raises ConfigurationError if it cannot be loaded.
    """
    found = np.full(len(predictions), math.nan)
    rows = [row for row, one in enumerate(predictions) if one.reference]
    if rows:
        encoder, pairwise_cos_sim = _load(model)
        answers = encoder.encode([predictions[row].answer for row in rows], show_progress_bar=False)
        references = encoder.encode([predictions[row].reference for row in rows], show_progress_bar=False)
        found[rows] = pairwise_cos_sim(answers, references)
    return found


def _load(model: str) -> tuple[Any, Any]:
    """Returns the model, and the function that compares its embeddings pair by pair."""
    try:
        from sentence_transformers import SentenceTransformer, util  # noqa: PLC0415 - takes seconds

        return SentenceTransformer(model, local_files_only=True), util.pairwise_cos_sim
    except Exception as error:
        raise ConfigurationError(
            f"the embedding model {model} cannot be loaded ({type(error).__name__}); "
            "download it first, or give a folder with --embeddings"
        ) from error
