"""Predictions for tests, and folders that look like an evaluation's."""

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
    """A prediction as a detector without calibration makes it; undecided without log-odds."""
    word = Answer.UNDECIDED if log_odds is None else Answer.FAKE if log_odds > 0 else Answer.REAL
    score = None if log_odds is None else 1 / (1 + math.exp(-log_odds))
    return Prediction(
        image=image, label=0 if fake else 1, verdict=word, score=score, log_odds=log_odds, answer=str(word), **more
    )


def hashed(*predictions: Prediction, content: str | None = None) -> tuple[Prediction, ...]:
    """The predictions of images with this content, else of contents that only their names decide."""
    return tuple(
        one.model_copy(update={"sha256": hashlib.sha256((content or one.image).encode()).hexdigest()})
        for one in predictions
    )


def drawn(count: int, slope: float, offset: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Log-odds whose true P(fake) is sigmoid(slope * log_odds + offset), and labels drawn from that."""
    chance = np.random.default_rng(seed)
    log_odds = chance.normal(0, 4, count)
    truth = 1 / (1 + np.exp(-(slope * log_odds + offset)))
    return log_odds, chance.random(count) < truth


def drawn_predictions(count: int, seed: int, slope: float = 0.5, **more: Any) -> tuple[Prediction, ...]:
    """Of a detector that is too sure of itself."""
    pairs = zip(*drawn(count, slope, 0, seed), strict=True)
    return tuple(
        predicted(f"{seed}/{place}.png", fake=bool(fake), log_odds=float(log_odds), **more)
        for place, (log_odds, fake) in enumerate(pairs)
    )


def evaluated(predictions: Sequence[Prediction], name: str = "some", **more: Any) -> Evaluated:
    return Evaluated(name, tuple(predictions), **more)


def of_detector(description: DetectorDescription) -> dict[str, Any]:
    """What run.json and metrics.json say of it."""
    return description.identity | {"fingerprint": description.fingerprint}


def write_evaluation(
    folder: Path, predictions: Sequence[Prediction], description: DetectorDescription | None = None, **more: Any
) -> Path:
    """The folder, as `fakesweep evaluate` leaves it; without run.json when there is no description."""
    folder.mkdir(parents=True)
    lines = "".join(f"{one.model_dump_json()}\n" for one in predictions)
    (folder / "predictions.jsonl").write_text(lines, encoding="utf-8")
    if description:
        run = {"detector": of_detector(description), "dataset": {"name": "x", "sha256": folder.name}, "images": "/x"}
        run |= {"explain": "none"} | more
        (folder / "run.json").write_text(json.dumps(run), encoding="utf-8")
    return folder
