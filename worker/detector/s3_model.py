"""A detector that lies under s3://bucket/prefix: its description, and its model in the cache of this machine."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import structlog
from boto3.exceptions import Boto3Error
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,  # noqa: A004
    HTTPClientError,
    IncompleteReadError,
)
from filelock import FileLock
from s3transfer.exceptions import S3DownloadFailedError

from worker.errors import ConfigurationError, StorageUnavailableError
from worker.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

log = structlog.get_logger(__name__)

SCHEME = "s3://"
MODEL_FILES = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja")
"""What an engine reads of a model's files."""

_Listing = list[tuple[str, str, int]]
"""Key, ETag and size of every file, in the order of the keys."""

_TRANSIENT = (Boto3Error, S3DownloadFailedError, ConnectionError, HTTPClientError, IncompleteReadError)


class S3Model:
    """The files directly under s3://bucket/prefix. `setting` is the variable that names it, for messages.

    Methods raise ConfigurationError when it is not there or not to be read, StorageUnavailableError when that may pass.
    """

    def __init__(self, uri: str, settings: Settings, *, setting: str) -> None:
        self._uri, self._setting = uri, setting
        self._bucket, _, prefix = uri.removeprefix(SCHEME).rstrip("/").partition("/")
        self._prefix = f"{prefix}/" if prefix else ""
        self._config = Config(
            connect_timeout=min(settings.fetch_timeout_s, 5),
            read_timeout=settings.fetch_timeout_s,
            retries={"mode": "standard", "total_max_attempts": 4},
        )

    def read(self, name: str) -> str:
        """One small file, as text."""
        with self._errors(name):
            return self._client().get_object(Bucket=self._bucket, Key=self._prefix + name)["Body"].read().decode()

    def download(self, cache: Path) -> Path:
        """The folder in `cache` that holds the model's files; what is there already is not fetched again.

        It is named after what lies in the bucket now, and gets its name only when complete: a process that dies in
        between leaves no half model. Of several that start at once, one downloads. Nothing is ever removed.
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
                    partial.rename(folder)
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
        # The name promises these ETags; a model that is replaced file by file must not get it.
        if self._list(client) != listing:
            raise StorageUnavailableError(f"{self._setting}: {self._uri} changed while it was downloaded")

    def _client(self) -> "S3Client":
        return boto3.session.Session().client("s3", config=self._config)

    @contextmanager
    def _errors(self, name: str = "") -> Iterator[None]:
        where = f"{self._setting}: {self._uri.rstrip('/')}{'/' if name else ''}{name}"
        try:
            yield
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", "unknown"))
            if error.response["ResponseMetadata"]["HTTPStatusCode"] >= HTTPStatus.INTERNAL_SERVER_ERROR:
                raise StorageUnavailableError(f"{where}: S3 answered {code}") from error
            raise ConfigurationError(
                f"{where}: S3 answered {code}; check the name, and the credentials and AWS_ENDPOINT_URL_S3"
            ) from error
        except _TRANSIENT as error:
            raise StorageUnavailableError(f"{where}: {type(error).__name__}: {error}") from error
        except BotoCoreError as error:
            raise ConfigurationError(f"{where}: {error}; set the AWS_… variables that boto3 knows") from error
        except OSError as error:
            raise ConfigurationError(f"FAKESWEEP_MODEL_CACHE: {error}; give a writable folder with room") from error
