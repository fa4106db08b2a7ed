"""Predictions for tests, and folders like those of an evaluation."""

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from worker.detector.description import DetectorDescription
from worker.detector.verdicts import Answer
from worker.lab.evaluation.evaluated import Evaluated
from worker.lab.evaluation.predictions import Prediction


def predicted(image: str, *, fake: bool, log_odds: float | None, **more: Any) -> Prediction:
    """Returns a prediction of a detector without calibration. Without log-odds, it is undecided."""
    word = Answer.UNDECIDED if log_odds is None else Answer.FAKE if log_odds > 0 else Answer.REAL
    score = None if log_odds is None else 1 / (1 + math.exp(-log_odds))
    return Prediction(
        image=image, label=0 if fake else 1, verdict=word, score=score, log_odds=log_odds, answer=str(word), **more
    )


def hashed(*predictions: Prediction, content: str | None = None) -> tuple[Prediction, ...]:
    """Returns the predictions with the hash of this content.

    By default, each image has a content made from its name.
    """
    return tuple(
        one.model_copy(update={"sha256": hashlib.sha256((content or one.image).encode()).hexdigest()})
        for one in predictions
    )


def drawn(count: int, slope: float, offset: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns drawn log-odds and labels. The true P(fake) is sigmoid(slope * log_odds + offset)."""
    chance = np.random.default_rng(seed)
    log_odds = chance.normal(0, 4, count)
    truth = 1 / (1 + np.exp(-(slope * log_odds + offset)))
    return log_odds, chance.random(count) < truth


def drawn_predictions(count: int, seed: int, slope: float = 0.5, **more: Any) -> tuple[Prediction, ...]:
    """Draws predictions of a detector that is too sure of itself."""
    pairs = zip(*drawn(count, slope, 0, seed), strict=True)
    return tuple(
        predicted(f"{seed}/{place}.png", fake=bool(fake), log_odds=float(log_odds), **more)
        for place, (log_odds, fake) in enumerate(pairs)
    )


def evaluated(predictions: Sequence[Prediction], name: str = "some", **more: Any) -> Evaluated:
    return Evaluated(name, tuple(predictions), **more)


def of_detector(description: DetectorDescription) -> dict[str, Any]:
    """Returns what run.json and metrics.json say about a detector."""
    return description.identity | {"fingerprint": description.fingerprint}


def write_evaluation(
    folder: Path, predictions: Sequence[Prediction], description: DetectorDescription | None = None, **more: Any
) -> Path:
    """Writes the folder as `fakesweep evaluate` leaves it. Without a description, it has no run.json."""
    folder.mkdir(parents=True)
    lines = "".join(f"{one.model_dump_json()}\n" for one in predictions)
    (folder / "predictions.jsonl").write_text(lines, encoding="utf-8")
    if description:
        run = {"detector": of_detector(description), "dataset": {"name": "x", "sha256": folder.name}, "images": "/x"}
        run |= {"explain": "none"} | more
        (folder / "run.json").write_text(json.dumps(run), encoding="utf-8")
    return folder
