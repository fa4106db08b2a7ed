"""Puts every file below a folder into an S3 bucket, with any name, and reports each one that cannot be read."""

import codecs
import itertools
import os
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

THREADS = 8
AT_ONCE = 1000
"""How many files the threads get at a time, so that a folder of millions is not held in memory as tasks."""


@dataclass
class Upload:
    """What happened to the files: how many were stored, and a line for each name or file worth reporting."""

    stored: int = 0
    renamed: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def upload_folder(folder: Path, bucket: str, *, endpoint: str, without: Path, stored: Callable[[int], None]) -> Upload:
    """Uploads the files below `folder`, except those below `without`, with their relative path as key.

    Links are followed, but each folder is entered only once. `stored` is called with the count so far.
    """
    result = Upload()
    s3 = boto3.session.Session(
        aws_access_key_id="demo", aws_secret_access_key="demo", region_name="us-east-1"
    ).client("s3", endpoint_url=endpoint, config=Config(max_pool_connections=THREADS, proxies={}))  # fmt: skip
    s3.create_bucket(Bucket=bucket)
    taken: set[str] = set()
    files = _files(folder, without, result.left_out)
    with ThreadPoolExecutor(THREADS) as pool:
        while paths := list(itertools.islice(files, AT_ONCE)):
            keys = [_key(path.relative_to(folder), taken, result) for path in paths]
            for fault in pool.map(lambda path, key: _store(s3, bucket, path, key), paths, keys):
                if fault:
                    result.left_out.append(fault)
                    continue
                result.stored += 1
                stored(result.stored)
    return result


def _files(folder: Path, without: Path, left_out: list[str]) -> Iterator[Path]:
    entered = {_identity(folder)}
    for parent, folders, names in os.walk(
        folder, followlinks=True, onerror=lambda error: left_out.append(f"{error.filename}: {error.strerror}")
    ):
        for name in sorted(folders):
            child = Path(parent, name)
            identity = _identity(child)
            if identity in entered or child.resolve() == without.resolve():
                folders.remove(name)
                left_out.append(f"{child}: a folder that was entered already, or the demo's own")
            entered.add(identity)
        folders.sort()
        yield from (Path(parent, name) for name in sorted(names))


def _identity(folder: Path) -> tuple[int, int]:
    facts = folder.stat()
    return facts.st_dev, facts.st_ino


def _percent(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return "".join(f"%{byte:02X}" for byte in error.object[error.start : error.end]), error.end


codecs.register_error("fakesweep-percent", _percent)


def _key(path: Path, taken: set[str], result: Upload) -> str:
    """Returns the path as a key in UTF-8. Other bytes, and line breaks, which moto refuses, are written as %XX."""
    raw = os.fsencode(path)
    key = raw.decode("utf-8", errors="fakesweep-percent").replace("\n", "%0A").replace("\r", "%0D")
    while key in taken:
        key += "_"
    taken.add(key)
    if key.encode() != raw:
        result.renamed.append(f"{key}: the file's name is not UTF-8 or has line breaks; those bytes are written as %XX")
    return key


def _store(s3: "S3Client", bucket: str, path: Path, key: str) -> str | None:
    """Stores a file. Returns None, or why it could not be stored."""
    try:
        # Non-blocking, because opening a named pipe would otherwise wait forever for a writer.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return f"{path}: not a regular file"
            s3.put_object(Bucket=bucket, Key=key, Body=file)
    except OSError as error:
        return f"{path}: {error.strerror or error}"
    except (BotoCoreError, ClientError) as error:
        return f"{path}: {error}"
    return None
