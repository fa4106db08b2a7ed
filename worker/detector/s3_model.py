"""Reads a detector under s3://bucket/prefix: its description, and its model through the cache of this machine."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from filelock import FileLock

from worker.aws import AWS_ERRORS, Diagnosis, Kind, diagnose, s3_client
from worker.errors import ConfigurationError, StorageUnavailableError
from worker.files import move_into_place
from worker.texts import encoding_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

log = structlog.get_logger(__name__)

SCHEME = "s3://"
MODEL_FILES = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja")
"""The files of a model that an engine reads."""

_Listing = list[tuple[str, str, int]]
"""Key, ETag and size of every file, in the order of the keys."""


class S3Model:
    """The files directly under s3://bucket/prefix. `setting` is the variable that names it, for error messages.

    `timeout_s` is the longest wait for an answer from S3.

    Methods raise ConfigurationError if the files are missing or reading them is not allowed, and
    StorageUnavailableError for temporary errors.
    """

    def __init__(self, uri: str, *, setting: str, timeout_s: float) -> None:
        self._uri, self._setting, self._timeout_s = uri, setting, timeout_s
        self._bucket, _, prefix = uri.removeprefix(SCHEME).rstrip("/").partition("/")
        self._prefix = f"{prefix}/" if prefix else ""

    def read(self, name: str) -> str:
        """Returns one small file as text. Raises ConfigurationError, also if it is not text."""
        with self._errors(name):
            content = self._client().get_object(Bucket=self._bucket, Key=self._prefix + name)["Body"].read()
        try:
            return content.decode(encoding_of(content[:4]))
        except UnicodeDecodeError as error:
            raise ConfigurationError(f"{self._setting}: {self._uri}/{name}: {error}: save it as UTF-8") from None

    def download(self, cache: Path) -> Path:
        """Returns the folder in `cache` that holds the model's files. Downloads them if they are not there yet.

        The folder's name is made from the files that are in the bucket now. The folder gets it only when it is
        complete, so a process that dies leaves no half model. If several workers start at the same time, one of them
        downloads the model. Nothing is ever deleted.
        """
        with self._errors():
            client = self._client()
            listing = self._list(client)
            name = hashlib.sha256(json.dumps([self._bucket, listing]).encode()).hexdigest()
            folder, partial = cache / name, cache / f"{name}.partial"
            cache.mkdir(parents=True, exist_ok=True)
            with FileLock(cache / f"{name}.lock"):
                if not folder.is_dir():
                    shutil.rmtree(partial, ignore_errors=True)
                    partial.mkdir()
                    self._fetch(client, listing, partial)
                    move_into_place({partial: folder})
            return folder

    def _list(self, client: "S3Client") -> _Listing:
        pages = client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=self._prefix, Delimiter="/"
        )
        found = [item for page in pages for item in page.get("Contents", [])]
        listing = sorted(
            (item["Key"], item["ETag"], item["Size"])
            for item in found
            if any(Path(item["Key"]).match(pattern) for pattern in MODEL_FILES)
        )
        if not listing:
            raise ConfigurationError(f"{self._setting}: there is no model under {self._uri}; give the prefix of one")
        return listing

    def _fetch(self, client: "S3Client", listing: _Listing, folder: Path) -> None:
        log.info("model_downloading", model=self._uri, bytes=sum(size for _, _, size in listing))
        for key, _, _ in listing:
            client.download_file(self._bucket, key, str(folder / Path(key).name))
        # The name is made from these ETags. A model whose files were replaced during the download must not get it.
        if self._list(client) != listing:
            raise StorageUnavailableError(f"{self._setting}: {self._uri} changed while it was downloaded")

    def _client(self) -> "S3Client":
        return s3_client(timeout_s=self._timeout_s)

    @contextmanager
    def _errors(self, name: str = "") -> Iterator[None]:
        where = f"{self._setting}: {self._uri.rstrip('/')}{'/' if name else ''}{name}"
        try:
            yield
        except AWS_ERRORS as error:
            raise _error(where, diagnose(error)) from error
        except OSError as error:
            raise ConfigurationError(f"FAKESWEEP_MODEL_CACHE: {error}; give a writable folder with space") from error


def _error(where: str, found: Diagnosis) -> ConfigurationError | StorageUnavailableError:
    """Makes the error. A person reads it at the start, and must correct what is not temporary."""
    if found.kind in {Kind.MAY_PASS, Kind.CHANGED}:
        said = f"S3 answered {found.code}" if found.answered else f"{found.code}: {found.text}"
        return StorageUnavailableError(f"{where}: {said}")
    if found.answered:
        remedy = "check the name, and the credentials and AWS_ENDPOINT_URL_S3"
        return ConfigurationError(f"{where}: S3 answered {found.code}; {remedy}")
    return ConfigurationError(f"{where}: {found.text}; set the AWS_… variables that boto3 knows")
