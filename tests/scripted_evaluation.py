"""An evaluation as a process. Only the model is scripted: `python -m tests.scripted_evaluation DATASET OUTPUT SECONDS`.

The scripted engine takes SECONDS for an image. All perturbations are made.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL.Image import Image

from worker.detector.vlm import VlmDetector
from worker.lab.datasets.faults import Faults, read_records
from worker.lab.evaluation.evaluate import evaluate_records
from worker.lab.evaluation.perturbations import PERTURBATIONS
from worker.lab.evaluation.run import EvaluationParts
from worker.messages import Explain
from worker.storage import LocalImageStore
from worker.testing import ScriptedEngine, scripted_description


def scripted_parts(folder: Path, faults: Faults, engine: ScriptedEngine, **changes: Any) -> EvaluationParts:
    """Returns the parts of evaluate_records(), with a scripted engine."""
    description = changes.get("description", scripted_description())
    given = {
        "description": description,
        "start": lambda: VlmDetector(engine, description),
        "store": LocalImageStore(max_bytes=2**20),
        "images": str(folder),
        "faults": faults.add,
        "explain": Explain.ALL,
    }
    return EvaluationParts(**{**given, **changes})


def evaluate_scripted(dataset: Path, output: Path, engine: ScriptedEngine, perturbations: Sequence[str]) -> None:
    """Runs the evaluation. The images lie beside the dataset."""
    faults = Faults()
    records = read_records(dataset, faults)
    parts = scripted_parts(dataset.parent, faults, engine, perturbations=tuple(perturbations), threads=3)
    evaluate_records(dataset, records, parts, faults, output, embeddings="none", resamples=2)


if __name__ == "__main__":

    def take_time(_image: Image) -> None:
        time.sleep(float(sys.argv[3]))

    evaluate_scripted(Path(sys.argv[1]), Path(sys.argv[2]), ScriptedEngine(fail=take_time), tuple(PERTURBATIONS))
