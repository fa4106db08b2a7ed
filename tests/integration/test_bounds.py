"""A worker limits the images that it holds for a message: by bytes of files, by bytes of pixels, and by lane."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from uuid import uuid4

import pytest

from tests.integration.test_moderate import BRIGHT, DARK, counts, findings, job, make_parts, png, start
from worker.budget import HELD_BYTES, Budget, Held
from worker.database import Database
from worker.image_memory import decode_bytes
from worker.images import SizeLimits
from worker.messages import ImageRef
from worker.moderate import moderate
from worker.path import Parts
from worker.testing import InMemoryImageStore, ScriptedEngine

__all__ = ["make_parts"]


class WatchedBudget(Budget):
    """A budget that records what was requested."""

    def __init__(self, total: int) -> None:
        super().__init__(total)
        self.asked: list[tuple[int, bool]] = []

    @contextmanager
    def take(self, size: int, *, live: bool = False) -> Iterator[Held]:
        """See Budget."""
        self.asked.append((size, live))
        with super().take(size, live=live) as held:
            yield held


def test_an_image_that_needs_too_much_memory_to_decode_fails_and_says_so(
    database: Database, make_parts: Callable[..., Parts]
) -> None:
    objects = {"s3://b/1": png(BRIGHT), "s3://b/2": png(DARK, size=(2000, 2000))}
    needed = decode_bytes(objects["s3://b/2"])
    parts = replace(make_parts(objects), pixels=Budget(needed))  # scans may use three quarters of it
    scan = start(database, 2)
    moderate(job(scan, *objects), uuid4(), parts)
    rows = findings(database, scan.id)
    assert rows["s3://b/1"].verdict == "fake"
    assert rows["s3://b/2"].reason == "too_many_pixels"
    detail = rows["s3://b/2"].detail or ""
    assert f"{needed >> 20} MiB" in detail
    assert "FAKESWEEP_IMAGE_MEMORY_MIB" in detail
    assert counts(database, scan.id)["status"] == "done"


def test_an_image_below_the_smallest_size_is_not_judged(database: Database, make_parts: Callable[..., Parts]) -> None:
    objects = {"s3://b/1": png(BRIGHT, size=(1, 1)), "s3://b/2": png(DARK, size=(20, 30))}
    parts = replace(make_parts(objects), limits=SizeLimits(min_edge=20))
    scan = start(database, 2)
    moderate(job(scan, *objects), uuid4(), parts)
    rows = findings(database, scan.id)
    assert rows["s3://b/1"].reason == "too_small"
    assert "FAKESWEEP_MIN_EDGE" in (rows["s3://b/1"].detail or "")
    assert rows["s3://b/2"].verdict == "real"
    scan = start(database, 2)
    moderate(job(scan, *objects), uuid4(), replace(parts, limits=SizeLimits(min_edge=1)))
    assert findings(database, scan.id)["s3://b/1"].verdict == "fake"


def test_a_live_image_may_use_what_scans_leave_free(database: Database, make_parts: Callable[..., Parts]) -> None:
    objects = {"s3://b/2": png(DARK, size=(2000, 2000))}
    parts = replace(make_parts(objects), pixels=Budget(decode_bytes(objects["s3://b/2"])), live=True)
    scan = start(database, 1)
    moderate(job(scan, *objects), uuid4(), parts)
    assert findings(database, scan.id)["s3://b/2"].verdict == "real"


@pytest.mark.parametrize("live", [False, True])
def test_the_lane_decides_what_is_live(database: Database, make_parts: Callable[..., Parts], live: bool) -> None:
    engine, files, pixels = ScriptedEngine(), WatchedBudget(2**30), WatchedBudget(2**30)
    parts = replace(make_parts({"s3://b/1": png(BRIGHT)}, engine), files=files, pixels=pixels, live=live)
    moderate(job(start(database, 1), "s3://b/1"), uuid4(), parts)
    assert engine.lives == [live]
    assert [one for _, one in files.asked + pixels.asked] == [live, live]


def test_memory_for_files_is_requested_before_they_are_fetched(
    database: Database, make_parts: Callable[..., Parts]
) -> None:
    objects = {"s3://b/1": png(BRIGHT), "s3://b/2": png(DARK)}
    files, parts = WatchedBudget(2**30), make_parts(objects)
    parts = replace(parts, files=files)
    assert isinstance(parts.store, InMemoryImageStore)
    listed = [ImageRef(uri=uri, etag=parts.store.etag(uri), size=len(objects[uri])) for uri in objects]
    moderate(job(start(database, 2), *listed), uuid4(), parts)
    assert files.asked == [(sum(len(file) for file in objects.values()), False)]


def test_a_listed_size_without_an_etag_is_not_trusted(database: Database, make_parts: Callable[..., Parts]) -> None:
    """Without an ETag, the object may now be larger than the one that was listed."""
    files = WatchedBudget(2**30)
    parts = replace(make_parts({f"s3://b/{n}": png(f"rgb({n},0,0)") for n in range(3)}), files=files)
    refs = [ImageRef(uri="s3://b/0", size=1), ImageRef(uri="s3://b/1", etag=None), ImageRef(uri="s3://b/2", size=0)]
    moderate(job(start(database, 3), *refs), uuid4(), parts)
    assert files.asked == [(HELD_BYTES + parts.max_bytes, False)]


def test_wrong_sizes_let_one_file_at_a_time_pass(database: Database, make_parts: Callable[..., Parts]) -> None:
    """Each file is larger than the listed sizes of all of them together."""
    objects = {f"s3://b/{n}": png(f"rgb({n},0,0)") for n in range(3)}
    files, parts = WatchedBudget(2**30), make_parts(objects)
    parts = replace(parts, files=files)
    assert isinstance(parts.store, InMemoryImageStore)
    scan = start(database, 3)
    refs = [ImageRef(uri=uri, etag=parts.store.etag(uri), size=1) for uri in objects]
    moderate(job(scan, *refs), uuid4(), parts)
    assert [size for size, _ in files.asked] == [3, 2, 1], "one group for each file"
    assert counts(database, scan.id)["judged"] == 3


def test_a_suspect_image_of_a_scan_is_judged_first_because_others_wait_for_it(
    database: Database, make_parts: Callable[..., Parts]
) -> None:
    engine = ScriptedEngine()
    parts = make_parts({"s3://b/1": png(BRIGHT)}, engine)
    moderate(job(start(database, 1), "s3://b/1"), uuid4(), parts, deaths=2)
    assert engine.lives == [True]
