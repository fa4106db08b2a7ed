"""S3 listings: one prefix that is cut into ranges of keys, or several prefixes, listed by several threads."""

import hashlib
import json
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from producers.listing import Page, Rules, Warn
from producers.parallel import in_parallel
from producers.sources.objects import S3_ERRORS, THREADS, s3_error
from producers.sources.ranges import MAX_RANGES, Frontier, Range, cut
from producers.sources.rows import Sieve, refs_of
from worker.errors import SourceError, UnknownSourceError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ListObjectsV2OutputTypeDef, ObjectTypeDef

DISCOVERY_REQUESTS = 10
"""The most requests that finding a prefix's ranges may cost. Each lists up to 1,000 folders."""


class Prefix(NamedTuple):
    """The keys of a bucket that begin with `prefix`."""

    bucket: str
    prefix: str

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"


class _Listed(NamedTuple):
    """One answer: (key, ETag, bytes), with None for what the store omits; the last key; and whether the range ends."""

    objects: list[tuple[str, str | None, int | None]]
    last: str | None
    finished: bool


def parsed(source: str) -> Prefix:
    """Returns the prefix in an `s3://bucket/prefix`. Raises UnknownSourceError."""
    bucket, _, prefix = source.removeprefix("s3://").partition("/")
    if not bucket:
        raise UnknownSourceError(f"{source}: no bucket: give s3://bucket/prefix")
    return Prefix(bucket, prefix)


def prefixes(sources: Sequence[str], warn: Warn) -> list[Prefix]:
    """Returns the prefixes sorted, without those inside another one, so that no key comes twice. Raises
    UnknownSourceError.
    """
    kept: list[Prefix] = []
    for prefix in sorted(map(parsed, sources)):
        # Everything that begins with a prefix follows it directly.
        if kept and kept[-1].bucket == prefix.bucket and prefix.prefix.startswith(kept[-1].prefix):
            warn(f"{prefix}: skipped: {kept[-1]} contains it")
        else:
            kept.append(prefix)
    return kept


class S3Source:
    """The objects under some prefixes, from `prefixes()`. An empty prefix gives one empty page.

    Raises UnknownSourceError for a bucket that does not exist, and SourceError for one that may not be listed. `client`
    must allow `threads` requests at once.
    """

    def __init__(
        self, listed: Sequence[Prefix], rules: Rules, warn: Warn, *, client: "S3Client", threads: int = THREADS
    ) -> None:
        self._prefixes, self._rules, self._warn = listed, rules, warn
        self._client, self._threads = client, threads
        self._of = hashlib.blake2b(json.dumps(listed).encode(), digest_size=8).hexdigest()
        for prefix in {prefix.bucket: prefix for prefix in listed}.values():
            self._answer(prefix, MaxKeys=1)

    def pages(self, cursor: str | None) -> Iterator[Page]:
        """See producers.listing.Source. Pages of all ranges come in the order in which they arrive."""
        frontier = self._begun() if cursor is None else self._read(cursor)
        threads = min(self._threads, len(frontier))
        sieve = Sieve(self._rules, self._warn)
        works = list(frontier.works())
        with closing(in_parallel(works, self._listed, threads=threads)) as arriving:
            for number, found in arriving:
                bucket = self._prefixes[works[number].prefix].bucket
                rows = [
                    {"uri": f"s3://{bucket}/{key}", "etag": etag, "size": size} for key, etag, size in found.objects
                ]
                for image in refs_of(rows):
                    sieve.take(image)
                frontier.advance(number, found.last, finished=found.finished)
                yield sieve.page(frontier.cursor(self._of))

    def _read(self, cursor: str) -> Frontier:
        return Frontier.read(cursor, len(self._prefixes), self._of, str(self._prefixes[0]))

    def _begun(self) -> Frontier:
        """Begins a listing. If there are fewer prefixes than threads, they are cut into ranges."""
        if len(self._prefixes) >= self._threads:
            return Frontier(len(self._prefixes))
        share = MAX_RANGES // len(self._prefixes)
        ranges = [part for n, prefix in enumerate(self._prefixes) for part in cut(n, self._folders(prefix), share)]
        return Frontier(len(self._prefixes), ranges, begun=len(self._prefixes))

    def _folders(self, prefix: Prefix) -> list[str]:
        """Returns the sorted folders below a prefix, where it may be cut, or none if one answer holds all its keys."""
        found: list[str] = []
        if not self._answer(prefix).get("IsTruncated"):
            return found
        requests, unread = DISCOVERY_REQUESTS, deque([prefix])
        while unread and requests and len(found) < MAX_RANGES:
            # All images may be in one folder of one folder, so folders below count, too.
            parent, more = unread.popleft(), dict[str, str]()
            while requests:
                answer = self._answer(parent, Delimiter="/", **more)
                requests -= 1
                folders = [folder["Prefix"] for folder in answer.get("CommonPrefixes", ())]
                found += folders
                unread += [Prefix(prefix.bucket, folder) for folder in folders]
                if not answer.get("NextContinuationToken"):
                    break
                more = {"ContinuationToken": answer["NextContinuationToken"]}
        return sorted(found)

    def _listed(self, part: Range) -> Iterator[_Listed]:
        """Yields the answers with the keys of a range, up to its end."""
        prefix = self._prefixes[part.prefix]
        last, more = part.after, {"StartAfter": part.after} if part.after is not None else {}
        while True:
            answer = self._answer(prefix, **more)
            objects = [_facts(found) for found in answer.get("Contents", ())]
            _check_order(prefix, last, objects)
            token, finished = answer.get("NextContinuationToken"), not answer.get("IsTruncated")
            if part.until is not None and objects and objects[-1][0] >= part.until:
                objects, finished = objects[: bisect_right(objects, part.until, key=itemgetter(0))], True
            last = objects[-1][0] if objects else last
            yield _Listed(objects, last, finished)
            if finished:
                return
            if not token:
                raise SourceError(f"{prefix}: the store does not say where to continue: list a manifest instead")
            more = {"ContinuationToken": token}

    def _answer(self, prefix: Prefix, **where: Any) -> "ListObjectsV2OutputTypeDef":
        try:
            return self._client.list_objects_v2(Bucket=prefix.bucket, Prefix=prefix.prefix, **where)
        except S3_ERRORS as error:
            raise s3_error(str(prefix), error) from error


def _facts(found: "ObjectTypeDef") -> tuple[str, str | None, int | None]:
    # Some stores with S3's API omit the ETag or the size.
    return found["Key"], found.get("ETag", "").strip('"') or None, found.get("Size")


def _check_order(prefix: Prefix, last: str | None, objects: list[tuple[str, str | None, int | None]]) -> None:
    """Checks the order of keys, on which ranges and cursors rely. S3's directory buckets and some stores have none."""
    keys = [key for key, _, _ in objects]
    if keys != sorted(keys) or (keys and last is not None and keys[0] <= last):
        raise SourceError(
            f"{prefix}: the store does not list keys in the order of their bytes: list a manifest instead"
        )
