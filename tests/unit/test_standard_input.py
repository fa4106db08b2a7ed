"""Standard input: its forms, that a scan continues only with the same lines, and that no process hangs."""

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

import pytest

from producers.listing import Page, Rules, SkipReason
from producers.sources import open_source
from producers.sources.manifests import StandardInput
from producers.sources.piped import lines
from producers.sources.rows import PAGE_ROWS
from worker.errors import SourceError, UnknownSourceError


def uris(pages: Sequence[Page]) -> list[str]:
    return [ref.uri for page in pages for ref in page.refs]


def skipped(pages: Sequence[Page], why: SkipReason) -> int:
    return sum(page.skipped.get(why, 0) for page in pages)


def read_from(text: bytes, cursor: str | None = None, lines: list[str] | None = None) -> list[Page]:
    warn = print if lines is None else lines.append
    return list(open_source(["-"], Rules(), warn, stdin=io.BytesIO(text)).pages(cursor))


def test_standard_input_takes_uris_and_json_lines() -> None:
    lines: list[str] = []
    text = 's3://b/a b.jpg\r\n{"source-ref": "s3://b/2", "external_id": "two"}\nfile:///x y\n\nx\ns3://b/2\n'
    pages = read_from(text.encode(), lines=lines)
    assert uris(pages) == ["s3://b/a b.jpg", "s3://b/2", "file:///x%20y"]
    assert lines == ["standard input line 5: not a JSON object with source-ref"]
    assert skipped(pages, SkipReason.DUPLICATE) == 1


def test_standard_input_continues_when_it_is_piped_again() -> None:
    text = "".join(f"s3://b/{number % 1500}\n" for number in range(2500)).encode()
    whole = read_from(text)
    assert len(uris(whole)) == 1500
    for place, page in enumerate(whole):
        assert uris(read_from(text, page.cursor)) == uris(whole[place + 1 :])


def test_by_default_the_processs_own_standard_input_is_read() -> None:
    program = (
        "from producers.listing import Rules\nfrom producers.sources import open_source\n"
        "print([ref.uri for page in open_source(['-'], Rules(), print).pages(None) for ref in page.refs])"
    )
    done = subprocess.run([sys.executable, "-c", program], input=b"s3://b/1\n", capture_output=True, check=True)
    assert done.stdout == b"['s3://b/1']\n"


def test_a_page_is_read_as_soon_as_its_lines_are_there() -> None:
    """The first page does not wait until the source has ended."""

    class Endless(io.RawIOBase):
        def __next__(self) -> bytes:
            self.count = getattr(self, "count", 0) + 1
            return b"s3://b/%d\n" % self.count

    pages = StandardInput(Endless(), Rules(), print).pages(None)
    assert len(next(pages).refs) == PAGE_ROWS


def numbered(count: int) -> bytes:
    return b"".join(b"s3://b/%d\n" % number for number in range(count))


@pytest.mark.parametrize("count", [0, 1, PAGE_ROWS - 1])
def test_standard_input_that_ends_before_the_place_of_the_cursor(count: int) -> None:
    first, _ = read_from(numbered(PAGE_ROWS + 1))
    with pytest.raises(SourceError, match=f"standard input ends before line {PAGE_ROWS}, .*: pipe the same input in"):
        read_from(numbered(count), first.cursor)


def test_other_standard_input_is_refused() -> None:
    text = numbered(2 * PAGE_ROWS)
    first, second = read_from(text)
    for other in (text.replace(b"b/7\n", b"c/7\n"), b"s3://b/0\n" + text, text[::-1].replace(b"\n", b"", 1) + b"\n"):
        with pytest.raises(
            SourceError, match=f"first {PAGE_ROWS} lines are not those .*: pipe the same input in again"
        ):
            read_from(other, first.cursor)
    assert uris(read_from(text, first.cursor)) == uris([second])


def test_line_endings_and_new_lines_at_the_end_do_not_matter() -> None:
    (page,) = read_from(b"s3://b/1\ns3://b/2")
    assert uris(read_from(b"s3://b/1\r\ns3://b/2\ns3://b/3\n", page.cursor)) == ["s3://b/3"]


def test_a_cursor_without_a_digest_still_works() -> None:
    assert uris(read_from(numbered(3), '{"rows": 2}')) == ["s3://b/2"]


def test_a_line_of_any_length_is_given_as_soon_as_it_is_there() -> None:
    reading, writing = os.pipe()

    def write() -> None:
        os.write(writing, b"y" * 200_000)
        os.close(writing)

    with io.FileIO(reading) as raw:
        found = lines(raw)
        os.write(writing, b"one\ntw")
        assert next(found) == b"one\n"
        os.write(writing, b"o\n\n" + b"x" * 60_000)
        assert [next(found), next(found)] == [b"two\n", b"\n"]
        threading.Thread(target=write).start()
        assert list(found) == [b"x" * 60_000 + b"y" * 200_000]


def test_a_non_blocking_pipe_without_data_has_not_ended() -> None:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)

    def write() -> None:
        time.sleep(0.2)
        os.write(writing, b"late\n")
        os.close(writing)

    threading.Thread(target=write).start()
    with io.FileIO(reading) as raw:
        assert list(lines(raw)) == [b"late\n"]


def test_closed_standard_input_is_no_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(UnknownSourceError, match="standard input: is closed: pipe"):
        open_source(["-"], Rules(), print)


LISTING = """
import producers.__main__ as command
from producers.listing import Rules, ahead, chunks
from producers.sources import open_source

def listed(**_):
    print("listing", flush=True)
    for _ in ahead(chunks(open_source(["-"], Rules(), print).pages(None), 5000)):
        pass

command.app = listed
command.main()
"""


@pytest.mark.parametrize("signals", [1, 3])
def test_an_interrupt_ends_a_listing_that_waits_for_standard_input(signals: int) -> None:
    """Users repeat an interrupt. If one comes while the interpreter ends, the process may end by the signal."""
    process = subprocess.Popen(
        [sys.executable, "-c", LISTING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin
    assert process.stdout
    try:
        process.stdin.write(numbered(3))
        process.stdin.flush()
        assert process.stdout.readline() == b"listing\n"
        for _ in range(signals):
            time.sleep(0.4)
            process.send_signal(signal.SIGINT)
        assert process.wait(5) in ([130] if signals == 1 else [130, -signal.SIGINT])
        assert process.stderr
        assert process.stderr.readline() == b"fakesweep: interrupted\n"
        assert signals > 1 or process.stderr.read() == b""
    finally:
        process.kill()
        process.communicate()
