"""The demo detector on held-out drawings, as files, through decode() and vLLM: verdicts, scores and families."""

from pathlib import Path

import numpy as np

from deploy.demo.answers import KEY_PHRASES, REAL
from deploy.demo.draw import draw_record
from worker.detector.description import VlmDescription
from worker.detector.engine import Engine
from worker.detector.verdicts import Judgement, verdict_of
from worker.detector.vlm import VlmDetector
from worker.images import decode
from worker.lab.evaluation.reliability import expected_calibration_error
from worker.messages import Policy
from worker.tables import Verdict

IMAGES = 240
SEED = 3
"""The training used seed 1, and the figures in the model card come from seed 2."""


def test_held_out_drawings(vllm: Engine, description: VlmDescription, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    records = [draw_record(index, seed=SEED, folder=tmp_path) for index in range(IMAGES)]
    images = [decode((tmp_path / record["image"]).read_bytes()) for record in records]
    judged = VlmDetector(vllm, description).judge(images, Policy())
    assert all(isinstance(judgement, Judgement) for judgement in judged)
    right = named = 0
    fakes = [record for record in records if record["family"] != REAL]
    for record, judgement in zip(records, judged, strict=True):
        if isinstance(judgement, Judgement):
            wanted = Verdict.REAL if record["family"] == REAL else Verdict.FAKE
            right += verdict_of(judgement.score, **description.thresholds.model_dump()) == wanted
            named += record["family"] != REAL and KEY_PHRASES[record["family"]] in judgement.completion
    assert right / IMAGES >= 0.95
    scores = np.array([one.score for one in judged if isinstance(one, Judgement)], dtype=np.float64)
    is_fake = np.array([record["family"] != REAL for record in records], dtype=np.bool_)
    error = expected_calibration_error(scores, is_fake)
    print(f"{right} of {IMAGES} right, expected calibration error {error:.3f}")
    assert error <= 0.05
    assert named / len(fakes) >= 0.90
