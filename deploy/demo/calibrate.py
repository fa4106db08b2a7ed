"""Fits the demo detector's calibration on drawings that it has not seen, and measures it on others.

    python deploy/demo/draw.py build/detector/fit --count 600 --seed 5
    python deploy/demo/draw.py build/detector/report --count 600 --seed 6
    python deploy/demo/calibrate.py deploy/demo/detector build/detector/fit build/detector/report

Through the same detector code as the worker, on vLLM. One JSON object on stdout; its [calibration] goes into
detector.toml.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run as a script, without an installed package

from worker.detector.calibration import Calibration
from worker.detector.engine import Engine
from worker.detector.judge import judge
from worker.detector.supply import load_description, supply
from worker.detector.verdicts import Judgement, Reader
from worker.detector.vllm_engine import VllmEngine
from worker.images import decode
from worker.messages import Explain, Policy
from worker.settings import Settings

Floats = NDArray[np.float64]


def expected_calibration_error(scores: Floats, is_fake: Floats, bins: int = 15) -> float:
    """Mean distance of score and share of fakes over equal bins of P(fake), weighted by the images in each.

    `scores` and `is_fake` (0 or 1) have the shape (images,). Naeini et al. 2015; 15 bins as in Guo et al. 2017.
    """
    own = np.minimum((scores * bins).astype(int), bins - 1)
    errors = (abs((scores - is_fake)[own == one].sum()) for one in range(bins))
    return float(sum(errors) / len(scores))


def fit(log_odds: Floats, is_fake: Floats) -> Calibration:
    """Platt's two numbers, by maximum likelihood on labelled log-odds, both of the shape (images,).

    The labels are smoothed as Platt (1999) does, so that classes which never mix have a finite slope.
    """
    fakes, reals = is_fake.sum(), (1 - is_fake).sum()
    target = np.where(is_fake == 1, (fakes + 1) / (fakes + 2), 1 / (reals + 2))
    twice, labels = np.concatenate([log_odds, log_odds]), np.repeat([1, 0], len(log_odds))
    model = LogisticRegression(C=np.inf, max_iter=1000)
    model.fit(twice[:, None], labels, sample_weight=np.concatenate([target, 1 - target]))
    return Calibration(slope=float(model.coef_[0, 0]), offset=float(model.intercept_[0]))


def measure(engine: Engine, reader: Reader, folder: Path) -> tuple[Floats, Floats, int]:
    """The log-odds of a folder's drawings, whether each is a fake, and how many answers were undecided."""
    records = json.loads((folder / "records.json").read_text(encoding="utf-8"))
    images = [decode((folder / record["image"]).read_bytes()) for record in records]
    pairs = []
    for record, judgement in zip(records, judge(engine, reader, images, Policy(explain=Explain.NONE)), strict=True):
        if isinstance(judgement, Judgement) and judgement.log_odds is not None:
            pairs.append((judgement.log_odds, float(record["label"] == 0)))
    log_odds, is_fake = np.array(pairs, dtype=np.float64).T
    return log_odds, is_fake, len(records) - len(pairs)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Calibrate a detector on labelled drawings.")
    parser.add_argument("detector", help="the detector's folder")
    parser.add_argument("fit", type=Path, help="drawings to fit on")
    parser.add_argument("report", type=Path, help="drawings to measure on")
    options = parser.parse_args()
    settings = Settings(detector=options.detector, gpu_memory_utilization=0.2, max_num_batched_tokens=4096)
    description, model = supply(load_description(settings), settings)
    engine = VllmEngine(description, model, settings)
    try:
        reader = Reader(description)
        fitted = fit(*measure(engine, reader, options.fit)[:2])
        log_odds, is_fake, undecided = measure(engine, reader, options.report)
    finally:
        engine.close()
    found = {"slope": round(fitted.slope, 4), "offset": round(fitted.offset, 4), "images": len(is_fake)}
    for name, calibration in (("error_before", Calibration()), ("error_after", fitted)):
        scores = np.array([calibration.score(one) for one in log_odds])
        found[name] = round(expected_calibration_error(scores, is_fake), 4)
    print(json.dumps(found | {"undecided": undecided}))


if __name__ == "__main__":
    main()
