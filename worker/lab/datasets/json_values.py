"""Reads a JSON file value by value, with their lines: an array, JSON Lines, or several of these in a row.

Neither json nor ijson continues after a broken record or knows its line, and large datasets often have one comma too
few. So this module takes an array apart with the standard library's own decoder, one record at a time.
"""

import json
import re
from bisect import bisect_left
from collections.abc import Generator, Iterator
from typing import Any

from worker.lab.datasets.records import Cause, Fault

_BLANK = re.compile(r"[\s\ufeff]*")  # joined files have byte order marks in the middle
_BETWEEN = re.compile(r"[ \t\r\n,]*")
_NOT_UTF_8 = re.compile("[\udc80-\udcff]")
_DECODER = json.JSONDecoder()

_Values = Generator[tuple[int, Any], None, int]
"""Positions with a value, or with the exception that says why there is none. Returns the position after the last."""


def values_of(text: str) -> Iterator[tuple[int, Any]]:
    """Yields each value with its line, from 1 on. A value that cannot be read is replaced by a Fault (broken_json).

    `text` is decoded with errors="surrogateescape": a value with a byte that is not UTF-8 cannot be read.
    """
    newlines = [found.start() for found in re.finditer("\n", text)]
    for place, value in _values(text):
        line = bisect_left(newlines, place) + 1
        yield line, Fault(line, None, Cause.BROKEN_JSON, str(value)) if isinstance(value, Exception) else value


def _values(text: str) -> Iterator[tuple[int, Any]]:
    place = 0
    while (place := _after(_BLANK, text, place)) < len(text):
        place = yield from (_in_array if text[place] == "[" else _in_line)(text, place)


def _after(passed: re.Pattern[str], text: str, place: int) -> int:
    found = passed.match(text, place)
    return found.end() if found else place


def _in_array(text: str, place: int) -> _Values:
    """Yields the elements of the array that begins here. After a fault, continues at the next object with an image."""
    start, place = place, place + 1
    while (place := _after(_BETWEEN, text, place)) < len(text):
        if text[place] == "]":
            return place + 1
        start = place
        try:
            value, place = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError) as error:
            yield start, error
            place = _next_object(text, start + 1)
        else:
            yield start, _not_utf_8(text, start, place) or value
    yield start, ValueError("the array does not end: is the file complete?")
    return place


def _next_object(text: str, place: int) -> int:
    while (place := text.find("{", place)) != -1:
        try:
            value, _ = _DECODER.raw_decode(text, place)
            if "image" in value:
                return place
        except (ValueError, RecursionError):
            pass
        place += 1
    return len(text)


def _in_line(text: str, place: int) -> _Values:
    """Yields the value that begins here, up to the end of the line."""
    end = text.find("\n", place)
    end = len(text) if end == -1 else end
    if error := _not_utf_8(text, place, end):
        yield place, error
        return end
    try:
        yield place, json.loads(text[place:end])
    except json.JSONDecodeError as error:
        if whole := _object_over_lines(text, place, end):
            yield place, ValueError("an object over several lines: DATASET must be a JSON array or JSON Lines")
            return whole
        column = place - text.rfind("\n", 0, place) + error.pos
        yield place, ValueError(f"{error.msg}: column {column}")
    except (ValueError, RecursionError) as error:
        yield place, error
    return end


def _object_over_lines(text: str, place: int, end: int) -> int | None:
    """Returns where an object ends that begins in this line and ends in a later one, or None."""
    # Only a line with such an end can begin such an object. This check saves time, because for each failure the decoder
    # reads all text before it to count lines.
    if not text[place:end].rstrip().endswith(("{", "[", ",")):
        return None
    try:
        value, after = _DECODER.raw_decode(text, place)
    except (ValueError, RecursionError):
        return None
    return after if isinstance(value, dict) and after > end else None


def _not_utf_8(text: str, start: int, end: int) -> ValueError | None:
    if not (found := _NOT_UTF_8.search(text, start, end)):
        return None
    return ValueError(f"the byte 0x{ord(found[0]) - 0xDC00:02x} is not UTF-8: write the file as UTF-8")
