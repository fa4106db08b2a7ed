"""Puts an evaluation together, for `fakesweep evaluate` and after a training: dataset, journal, detector, metrics,
page.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from worker.cpus import default_threads
from worker.detector.detector import Detector, warm_up
from worker.detector.loading import load_description
from worker.detector.start import supply_detector
from worker.errors import ConfigurationError
from worker.images import SizeLimits
from worker.lab.datasets.digest import digest
from worker.lab.datasets.faults import FAULTS, Faults, Say, read_records, say_faults, write_faults
from worker.lab.datasets.records import Record
from worker.lab.evaluation.bootstrap import RESAMPLES
from worker.lab.evaluation.journal import REPORT, Journal, check_output
from worker.lab.evaluation.page import write_page
from worker.lab.evaluation.perturbations import CLEAN, PAPER, PERTURBATIONS
from worker.lab.evaluation.plots import plots
from worker.lab.evaluation.run import EvaluationParts, judge_records
from worker.lab.evaluation.similarity import EMBEDDINGS
from worker.lab.evaluation.summary import summarise
from worker.lab.evaluation.trained import trained_on
from worker.messages import Explain
from worker.settings import Settings
from worker.storage import open_stores

FAULTS_SHOWN = 200
"""How many faults the report names. faults.jsonl has all of them."""


class Advance(Protocol):
    """Called with how many images are done, of how many, and with a note about the current step."""

    def __call__(self, done: int, of: int | None, note: str = "", /) -> None: ...


def unheard(*_args: object) -> None:
    """Ignores its arguments, for callers that want no messages."""


def evaluate_detector(
    dataset: Path, images: str, settings: Settings, output: Path, *, robustness: bool = False, strict: bool = False,
    embeddings: str = EMBEDDINGS, resamples: int = RESAMPLES, say: Say = unheard, advance: Advance = unheard,
) -> dict[str, Any]:  # fmt: skip
    """Measures the detector of `settings` on a dataset. Writes predictions, metrics, faults and report to `output`.

    Returns the object of metrics.json. Continues where an earlier, equal call was interrupted, and tries again what
    failed then. `images` is the folder or s3://bucket/prefix under which the records' images are. Records that cannot
    be used are counted by cause and written down; with `strict`, the first one ends the evaluation. If the dataset has
    reference answers, the detector explains every image; otherwise it stops after its verdict. `resamples` is for the
    bootstrap. Raises ConfigurationError (detector, dataset, output, --strict), EngineDeadError,
    StorageUnavailableError.
    """
    faults = Faults(strict=strict)
    records = read_records(dataset, faults)
    gives_reasons = load_description(settings).answer_limit is not None
    explain = Explain.ALL if gives_reasons and any(record.answer for record in records) else Explain.NONE
    check_output(output, _asked(dataset, records, images, explain))
    advance(0, None, "loading the detector")
    parts = EvaluationParts(
        **_detector(settings),
        store=open_stores(settings),
        images=images,
        faults=faults.add,
        explain=explain,
        perturbations=tuple(PERTURBATIONS) if robustness else (CLEAN,),
        threads=settings.threads or default_threads(),
        limits=SizeLimits(settings.max_pixels, settings.min_edge),
    )
    return evaluate_records(
        dataset, records, parts, faults, output, embeddings=embeddings, resamples=resamples, say=say, advance=advance
    )


def _detector(settings: Settings) -> dict[str, Any]:
    """Returns the description with its true revision, the function that starts it, and what it was trained on."""
    supplied = supply_detector(load_description(settings), settings)

    def start() -> Detector:
        detector = supplied.start()
        try:
            warm_up(detector)
        except BaseException:
            detector.close()
            raise
        return detector

    known = trained_on(supplied.folders)
    return {"description": supplied.description, "start": start, "trained_on": known}


def evaluate_records(
    dataset: Path, records: Sequence[Record], parts: EvaluationParts, faults: Faults, output: Path, *,
    embeddings: str = EMBEDDINGS, resamples: int = RESAMPLES, say: Say = unheard, advance: Advance = unheard,
) -> dict[str, Any]:  # fmt: skip
    """Runs evaluate_detector() with ready parts. `faults` is the list that `parts.faults` adds to."""
    about = _about(dataset, records, parts)
    of = len(records) * len(parts.perturbations)
    with Journal.opened(output, about) as journal:
        for done in judge_records(records, journal, parts):
            advance(done, of)
        judged = [one for one in journal.predictions() if one.perturbation in parts.perturbations]
        faults.sort(key=lambda fault: fault.line)
        write_faults(faults, output / FAULTS)
        say_faults(faults, output / FAULTS, say)
        if not any(one.perturbation == CLEAN for one in judged):
            raise ConfigurationError(f"--images: no image of {dataset} could be judged; the first fault: {faults[0]}")
        advance(of, of, "computing the metrics")
        metrics = about | {"records": len(records), "faults": faults.causes}
        metrics = summarise(judged, embeddings, resamples=resamples) | metrics
        journal.write_metrics(metrics)
        write_page(
            "report.html.j2", output / REPORT, metrics=metrics, plots=plots(judged, metrics["confusion"]), paper=PAPER,
            faults=faults, faults_shown=FAULTS_SHOWN, notice=parts.description.notice,
        )  # fmt: skip
    return metrics


def _about(dataset: Path, records: Sequence[Record], parts: EvaluationParts) -> dict[str, Any]:
    """Returns everything that a prediction depends on. run.json guards it, and metrics.json repeats it."""
    detector = parts.description.identity | {"fingerprint": parts.description.fingerprint}
    known = {"trained_on": list(parts.trained_on)} if parts.trained_on else {}
    return {"detector": detector, **known, **_asked(dataset, records, parts.images, parts.explain)}


def _asked(dataset: Path, records: Sequence[Record], images: str, explain: Explain) -> dict[str, Any]:
    return {
        "dataset": {"name": dataset.name, "sha256": digest(dataset, (record.image for record in records))},
        "images": _resolved(images),
        "explain": str(explain),
    }


def _resolved(images: str) -> str:
    """Returns one spelling of a place, independent of the current folder."""
    return images.rstrip("/") if images.startswith("s3://") else str(Path(images).resolve())
