"""Reading many JSON Lines at once gives the same as reading them one by one, or nothing."""

import json
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.sources.formats import json_lines
from producers.sources.plain_lines import TRIES, json_batches, plain_refs
from producers.sources.rows import PAGE_ROWS, refs_of
from worker.messages import ImageRef
from worker.refs import ImageRefs

PLAIN = '{"source-ref": "s3://b/a.jpg", "etag": "e", "size": 3}\n'

NOT_PLAIN = {
    "a blank line": ["\n", PLAIN],
    "no JSON": ["{\n"],
    "no object": ["[]\n", "3\n"],
    "an object over two lines": ['{"source-ref": "s3://b/a"\n', ',"size": 3}\n'],
    "a text over two lines": ['{"source-ref": "s3://b/a}\n', '{", "etag": "e"}\n', PLAIN.strip() + "," + PLAIN],
    "two objects in a line, and a list over two": [
        '{"source-ref": "s3://b/a", "x": [{}\n', "{}]}\n", PLAIN.strip() + "," + PLAIN,
    ],
    "a row over two lines, and another": ['{"source-ref": "s3://b/a"\n', '"size": 3},{"source-ref": "s3://b/c"}\n'],
    "two rows, the second over two lines": ['{"uri":"s3://b/a"},{"uri":"s3://b/b"\n', '"etag":"x"}\n'],
    "a name that hides a value over two lines": [
        '{"uri":"s3://b/1"},{"uri":[{}\n', '{}],"uri":"s3://b/2"}\n',
    ],
    "a brace in a key": ['{"source-ref": "s3://b/{a}"}\n'],
    "two objects in a line": [PLAIN.strip() + "," + PLAIN],
    "a column that is not known": ['{"source-ref": "s3://b/a", "label": 1}\n'],
    "two names of the uri": ['{"source-ref": "s3://b/a"}\n', '{"uri": "s3://b/c"}\n'],
    "no uri": ['{"size": 3}\n'],
    "a uri that is null": ['{"source-ref": null}\n'],
    "a bucket and a key": ['{"bucket": "b", "key": "a"}\n'],
    "a path": ['{"source-ref": "/a"}\n'],
    "an empty key": ['{"source-ref": "s3://b/"}\n'],
    "an empty bucket": ['{"source-ref": "s3:///a"}\n'],
    "white space before it": ['{"source-ref": " s3://b/a"}\n'],
    "a long uri": [json.dumps({"source-ref": "s3://b/" + "a" * 2048}) + "\n"],
    "a line break in the key": [json.dumps({"source-ref": "s3://b/a\nb"}) + "\n"],
    "NUL in the key": [json.dumps({"source-ref": "s3://b/a\0"}) + "\n"],
    "a key that is not ASCII": [json.dumps({"source-ref": "s3://b/ä"}) + "\n"],
    "half of a surrogate pair": ['{"source-ref": "s3://b/\\udce9"}\n'],
    "bytes that are not UTF-8": ['{"source-ref": "s3://b/\udce9"}\n'],
    "an ETag in quotes": ['{"source-ref": "s3://b/a", "etag": "\\"e\\""}\n'],
    "an empty ETag": ['{"source-ref": "s3://b/a", "etag": ""}\n'],
    "an ETag that is a number": ['{"source-ref": "s3://b/a", "etag": 5}\n'],
    "a long ETag": [json.dumps({"source-ref": "s3://b/a", "etag": "e" * 257}) + "\n"],
    "a negative size": ['{"source-ref": "s3://b/a", "size": -1}\n'],
    "a size above all": ['{"source-ref": "s3://b/a", "size": 9223372036854775808}\n'],
    "a size that is a text": ['{"source-ref": "s3://b/a", "size": "3"}\n'],
    "a size that is true": ['{"source-ref": "s3://b/a", "size": true}\n'],
    "a size that is a float": ['{"source-ref": "s3://b/a", "size": 3.0}\n'],
    "a long external id": [json.dumps({"source-ref": "s3://b/a", "external_id": "e" * 1025}) + "\n"],
    "an external id that is a number": ['{"source-ref": "s3://b/a", "external_id": 7}\n'],
}  # fmt: skip


def one_by_one(lines: list[str]) -> list[ImageRef]:
    rows = list(json_lines(lines))
    refs = refs_of([row for row in rows if isinstance(row, dict)])
    assert len(refs) == len(lines)
    return [ref for ref in refs if isinstance(ref, ImageRef)]


@pytest.mark.parametrize("lines", NOT_PLAIN.values(), ids=NOT_PLAIN)
def test_lines_that_are_not_plain_are_read_one_by_one(lines: list[str]) -> None:
    assert plain_refs(lines) is None
    assert plain_refs([PLAIN, *lines, PLAIN]) is None


@pytest.mark.parametrize(
    "line",
    [
        PLAIN,
        PLAIN.strip(),
        '{"uri": "s3://b/a b%20c/", "external-id": "x", "e_tag": "e", "size": null}\r\n',
        '{"url": "s3://b/\\u0001", "etag": null}\n',
        '{"source-ref": "s3://b/first", "source-ref": "s3://b/last"}\n',
    ],
)
def test_plain_lines_give_the_same_as_reading_them_one_by_one(line: str) -> None:
    assert plain_refs([line, line]) == one_by_one([line, line])


names = st.sampled_from(["source-ref", "uri", "etag", "size", "external_id", "label"])
values = (
    st.none() | st.integers() | st.text(max_size=4) | st.text("/ab", min_size=1, max_size=3).map("s3://b/{}".format)
)


@given(entries=st.lists(st.dictionaries(names, values, max_size=4), min_size=1, max_size=4))
def test_both_ways_of_reading_always_agree(entries: list[dict[str, object]]) -> None:
    lines = [json.dumps(entry) + "\n" for entry in entries]
    refs = plain_refs(lines)
    assert refs is None or refs == one_by_one(lines)


@given(
    text=st.lists(st.sampled_from([*'{}[],:"\n', '"uri"', '"s3://b/a"', '"size"', "3", '"x"']), max_size=24).map(
        "".join
    )
)
def test_both_ways_of_reading_agree_on_broken_lines(text: str) -> None:
    lines = [*text.splitlines(keepends=True), PLAIN]
    refs = plain_refs(lines)
    assert refs is None or refs == one_by_one(lines)


def test_a_file_of_another_form_is_tried_only_once() -> None:
    labelled = PLAIN.replace("}", ', "label": 1}')
    lines = [labelled] * PAGE_ROWS * TRIES + [PLAIN] * PAGE_ROWS
    assert not any(isinstance(batch, ImageRefs) for batch in json_batches(iter(lines)))
    assert isinstance(next(islice(json_batches(iter(lines[PAGE_ROWS:])), TRIES - 1, None)), ImageRefs)


def test_columns_are_a_sequence_of_refs() -> None:
    refs = [ImageRef(uri=f"s3://b/{n}", etag=str(n) if n else None, size=n, external_id=f"x{n}") for n in range(4)]
    columns = ImageRefs.of(refs)
    assert columns == refs
    assert (columns[1], columns[-1], list(columns[1:3])) == (refs[1], refs[3], refs[1:3])
    assert columns.where([True, False, False, True]) == [refs[0], refs[3]]
    assert ImageRefs.joined([refs[:1], columns[1:]]) == refs
    with pytest.raises(IndexError):
        columns[4]
