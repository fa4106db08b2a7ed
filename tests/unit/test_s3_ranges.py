"""Ranges of keys: threads list them at the same time, and a listing can continue from them."""

import threading
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.listing import Page, Rules, SkipReason
from producers.sources.cursors import read_cursor
from producers.sources.ranges import MAX_RANGES, Frontier, Range, _Left, cut
from producers.sources.s3 import S3Source, prefixes
from tests.listing_server import BUCKET, ListedKeys
from worker.errors import SourceError, UnknownSourceError


def source(listed: ListedKeys, names: Sequence[str] = ("",), rules: Rules | None = None, **options: Any) -> S3Source:
    sorted_prefixes = prefixes([f"s3://{BUCKET}/{name}" for name in names], lambda _: None)
    client: Any = listed
    return S3Source(sorted_prefixes, rules or Rules(), lambda _: None, client=client, **options)


def keys_of(pages: Sequence[Page]) -> list[str]:
    return [ref.uri.removeprefix(f"s3://{BUCKET}/") for page in pages for ref in page.refs]


def listing_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("listing-")]


def test_ranges_are_half_open_and_the_last_has_no_end() -> None:
    assert cut(3, ["a/", "b/", "c/"]) == [Range(3, None, "b/"), Range(3, "b/", "c/"), Range(3, "c/", None)]
    assert cut(0, []) == [Range(0)]
    assert len(cut(0, [f"{n:05d}/" for n in range(10_000)])) == MAX_RANGES


PARTS = st.text(alphabet="ab/é\U0001f600%+ ", min_size=1, max_size=8)


@given(st.sets(PARTS, max_size=60), st.integers(1, 5), st.lists(st.integers(0, 12), max_size=4), st.data())
def test_every_key_comes_once_wherever_a_listing_is_stopped_and_resumed(
    keys: set[str], page: int, cuts: list[int], data: st.DataObject
) -> None:
    names = data.draw(st.sampled_from([("",), ("a",), ("a", "b", "é", "/"), ("a", "ab", "b"), tuple("ab/é%+ ac")]))
    listed, found, cursor = ListedKeys(keys, page=page), [], None
    for count in [*cuts, 10_000]:
        pages = source(listed, names, threads=3).pages(cursor)
        taken = [taken for _, taken in zip(range(count), pages, strict=False)]
        pages.close()  # type: ignore[attr-defined]
        found += keys_of(taken)
        cursor = taken[-1].cursor if taken else cursor
    assert sorted(found) == sorted(key for key in keys if key.startswith(names))


def test_new_folders_do_not_change_the_ranges_of_a_listing() -> None:
    keys = [f"{folder}/{n}" for folder in "bdfhj" for n in range(4)]
    listed = ListedKeys(keys, page=3)
    pages = source(listed).pages(None)
    taken = [next(pages) for _ in range(3)]
    pages.close()  # type: ignore[attr-defined]
    listed.keys = sorted([*keys, *(f"{folder}/0" for folder in "acegik")])
    rest = keys_of(list(source(listed).pages(taken[-1].cursor)))
    assert len(rest) == len(set(rest))
    assert set(keys) == set(keys_of(taken)) | (set(rest) & set(keys))
    assert not set(keys_of(taken)) & set(rest)
    assert "k/0" in rest


def test_the_cursor_stays_small_with_ten_thousand_prefixes() -> None:
    names = [f"{n:05d}/" for n in range(10_000)]
    listed = ListedKeys([f"{name}{k}.jpg" for name in names[::2] for k in "ab"], page=1)
    first = list(zip(range(7_000), source(listed, names).pages(None), strict=False))
    taken = [page for _, page in first]
    assert max(len(read_cursor(_Left, page.cursor, "").open) for page in taken) <= 16
    assert max(len(page.cursor) for page in taken) < 1000
    rest = list(source(listed, names).pages(taken[-1].cursor))
    assert sorted(keys_of(taken) + keys_of(rest)) == listed.keys


def test_ten_thousand_folders_need_few_requests() -> None:
    listed = ListedKeys(f"{n:05d}/x.jpg" for n in range(10_000))
    assert sorted(keys_of(list(source(listed).pages(None)))) == listed.keys
    assert listed.requests <= 1 + 1 + 10 + MAX_RANGES


def test_a_small_prefix_needs_three_requests() -> None:
    listed = ListedKeys(f"{n}/x.jpg" for n in range(200))
    assert len(keys_of(list(source(listed).pages(None)))) == 200
    assert listed.requests == 3


def test_folders_in_a_single_folder_are_listed_in_parallel() -> None:
    listed = ListedKeys(f"data/all/{n:03d}/{k}" for n in range(100) for k in range(30))
    (first, *_) = pages = list(source(listed).pages(None))
    assert len(read_cursor(_Left, first.cursor, "").open) > 20
    assert sorted(keys_of(pages)) == listed.keys


def test_few_prefixes_are_split_too() -> None:
    listed = ListedKeys(f"{name}/{n:03d}/{k}" for name in "ab" for n in range(100) for k in range(30))
    (first, *_) = pages = list(source(listed, ("a/", "b/")).pages(None))
    assert 20 < len(read_cursor(_Left, first.cursor, "").open) <= MAX_RANGES
    assert sorted(keys_of(pages)) == listed.keys


def test_prefixes_within_another_one_are_skipped() -> None:
    lines: list[str] = []
    kept = prefixes(["s3://b/y/", "s3://b/x", "s3://b/x/1", "s3://a/x", "s3://b/x", "s3://c/y/1"], lines.append)
    assert [str(prefix) for prefix in kept] == ["s3://a/x", "s3://b/x", "s3://b/y/", "s3://c/y/1"]
    assert len(lines) == 2
    with pytest.raises(UnknownSourceError):
        prefixes(["s3:///x"], lines.append)


def test_rules_count_what_they_skip() -> None:
    listed = ListedKeys(["a.jpg", "b.PNG", "c.txt", "nul\x00.jpg"])
    (page,) = source(listed, rules=Rules(suffixes=(".jpg", ".png"))).pages(None)
    assert keys_of([page]) == ["a.jpg", "b.PNG"]
    assert page.skipped == {SkipReason.SUFFIX: 1, SkipReason.INVALID: 1}


def test_a_cursor_of_other_prefixes_or_kinds() -> None:
    listed = ListedKeys(["a/1", "b/1"])
    (page,) = source(listed, ["a/"]).pages(None)
    for names, cursor in ((["b/"], page.cursor), (["a/"], '{"rows": 3}'), (["a/"], "?")):
        with pytest.raises(SourceError, match="cursor"):
            list(source(listed, names).pages(cursor))
    assert list(source(listed, ["a/"]).pages(page.cursor)) == []


class Unordered(ListedKeys):
    """Lists as S3's directory buckets do."""

    def list_objects_v2(self, **asked: Any) -> dict[str, Any]:
        answer = super().list_objects_v2(**asked)
        return answer | {"Contents": answer["Contents"][::-1]}


def test_a_store_that_does_not_keep_the_order_is_refused() -> None:
    with pytest.raises(SourceError, match="order"):
        list(source(Unordered(["a", "b"])).pages(None))


class Terse(ListedKeys):
    """Lists as some other stores with S3's API do."""

    def list_objects_v2(self, **asked: Any) -> dict[str, Any]:
        answer = super().list_objects_v2(**asked)
        return answer | {"Contents": [{"Key": found["Key"]} for found in answer["Contents"]]}


def test_a_store_that_gives_neither_etag_nor_size() -> None:
    (page,) = source(Terse(["a", "b"]), rules=Rules(min_bytes=1)).pages(None)
    assert [(ref.uri, ref.etag, ref.size) for ref in page.refs] == [
        (f"s3://{BUCKET}/{key}", None, None) for key in "ab"
    ]


class WithoutStartAfter(ListedKeys):
    """Ignores StartAfter, and begins each listing at the first key."""

    def list_objects_v2(self, **asked: Any) -> dict[str, Any]:
        return super().list_objects_v2(**{name: value for name, value in asked.items() if name != "StartAfter"})


def test_a_store_that_ignores_start_after_is_refused() -> None:
    listed = WithoutStartAfter([f"{n:02d}" for n in range(20)], page=5)
    pages = source(listed).pages(None)
    cursor = next(pages).cursor
    with pytest.raises(SourceError, match="order"):
        list(source(listed).pages(cursor))


def test_closing_early_ends_the_threads() -> None:
    listed = ListedKeys([f"{n:03d}/{k}" for n in range(100) for k in range(50)], page=5)
    pages = source(listed).pages(None)
    next(pages)
    assert listing_threads()
    pages.close()  # type: ignore[attr-defined]
    assert not listing_threads()
    assert listed.requests < 200


def test_a_frontier_continues_ranges_that_were_begun() -> None:
    frontier = Frontier(5)
    frontier.advance(2, "k", finished=False)
    frontier.advance(0, None, finished=True)
    again = Frontier.read(frontier.cursor("x"), 5, "x", "s")
    assert list(again.works()) == [Range(1), Range(2, "k"), Range(3), Range(4)]
