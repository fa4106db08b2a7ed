"""Rows about the files of a model, and about its revision. Each row is about one model that the worker loads."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from producers.checking.rows import Row, ok, warning, wrong
from worker.errors import ConfigurationError

if TYPE_CHECKING:
    from worker.detector.description import DetectorDescription

_S3 = "s3://"


@dataclass(frozen=True)
class Model:
    """A model that the worker loads. `name` is what a row calls it: "" for that of the main detector, or the stage of a
    cascade, or the name of a further detector.
    """

    name: str
    description: "DetectorDescription"

    @property
    def from_s3(self) -> bool:
        """Whether its files are in S3."""
        return self.description.model.startswith(_S3)

    @property
    def _set_model(self) -> str:
        # FAKESWEEP_MODEL and FAKESWEEP_REVISION are for the main detector only, and a cascade refuses them.
        return "correct model in its detector.toml" if self.name else "correct FAKESWEEP_MODEL"

    def files(self, environment: Mapping[str, str], timeout_s: float) -> Row:
        """Says whether the files are where the description says. `timeout_s` is for S3, in seconds."""
        if self.from_s3:
            row = _in_s3(self.description.model, timeout_s)
        elif Path(self.description.model).is_absolute():
            row = self._in_folder(Path(self.description.model))
        else:
            row = self._on_hub(environment)
        return replace(row, name=self.name)

    def folder(self) -> Path | None:
        """Returns where its files are on this machine. None if they are in S3, or have not been fetched yet."""
        if self.from_s3:
            return None
        path = Path(self.description.model)
        cached = path / "config.json" if path.is_absolute() else self._cached()
        return cached.parent if cached and cached.is_file() else None

    def revision(self) -> Row:
        """Says whether two starts are sure to load the same model."""
        from worker.detector.hub import is_commit

        found = self.description
        if self.from_s3 or Path(found.model).is_absolute():
            return ok("the checksum of the model's files", self.name)
        if is_commit(found.revision):
            return ok(f"the commit {found.revision}", self.name)
        remedy = "set FAKESWEEP_REVISION to a commit, or revision in the description"
        if self.name:
            remedy = "set revision to a commit in its own detector.toml"
        return warning(
            f"{found.revision or 'main'} of the model hub, which may change between two starts", remedy, self.name
        )

    def _in_folder(self, folder: Path) -> Row:
        from worker.detector.further import without_variable

        try:
            return self._inspected(folder)
        except ConfigurationError as error:
            found = without_variable(error) if self.name else str(error)
            return wrong(found, f"{self._set_model}, or fetch the model again")

    def _inspected(self, folder: Path) -> Row:
        from worker.detector.weights import read_header, read_json, weight_files

        if not folder.is_dir():
            return wrong(f"{folder} is not a folder", f"{self._set_model}, or fetch the model into it")
        if not (folder / "config.json").is_file():
            return wrong(f"{folder} has no config.json", "give the folder with config.json and the weights")
        read_json(folder / "config.json")
        files = weight_files(folder)
        for path in files:
            read_header(path)
        size = sum(path.stat().st_size for path in files)
        return ok(f"{len(files)} files of weights, {_size(size)}, in {folder}")

    def _on_hub(self, environment: Mapping[str, str]) -> Row:
        model = self.description.model
        if cached := self._cached():
            return ok(f"in the cache of the model hub: {cached.parent}")
        if environment.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
            remedy = "set FAKESWEEP_MODEL to a folder"
            if self.name:
                remedy = "set model to a folder in its detector.toml"
            return wrong(
                f"{model} is not in the cache, and HF_HUB_OFFLINE forbids fetching it",
                f"fetch the model beforehand, or {remedy}",
            )
        return warning(
            f"{model} is not in the cache", "nothing: the first worker fetches it from the model hub, in minutes"
        )

    def _cached(self) -> Path | None:
        """Returns config.json in the cache of the model hub."""
        from huggingface_hub import try_to_load_from_cache

        owner, name, *folder = [*self.description.model.split("/"), ""][:3]
        file = "/".join([*(part for part in folder if part), "config.json"])
        cached = try_to_load_from_cache(f"{owner}/{name}", file, revision=self.description.revision)
        return Path(cached) if isinstance(cached, str) else None


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


def _size(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"
