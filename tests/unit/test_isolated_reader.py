"""The process that reads files: it ends in time, and what happens to it takes nothing with it."""

import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from tests import provenance_files as files
from tests.processes import wait_for
from tests.provenance_files import signed, signer, with_texts
from worker.errors import ConfigurationError
from worker.provenance import C2paState, Provenance
from worker.provenance.isolated import IsolatedReader
from worker.provenance.trust import NOBODY, TrustList, trust_lists

SAYS_READ = Provenance(faults=("read",))


def read_hostile(lists: Sequence[TrustList]) -> Callable[[bytes, str], Provenance]:
    """Makes a reader that does what the text in the file says."""
    del lists

    def read(data: bytes, kind: str) -> Provenance:
        if b"sleep" in data:
            time.sleep(60)
        if b"hang" in data:
            ctypes.PyDLL(None).sleep(60)  # native code that keeps Python's lock
        if b"crash" in data:
            os.abort()
        if b"raise" in data:
            raise MemoryError(kind)
        return SAYS_READ

    return read


@pytest.fixture(scope="module")
def hostile() -> Iterator[IsolatedReader]:
    with IsolatedReader(trust_lists(), time_limit_s=0.5, make_read=read_hostile) as reader:
        reader.read(with_texts(do="begin"))
        yield reader


@pytest.mark.parametrize(
    ("does", "detail"), [("sleep", "longer than 0.5 s"), ("hang", "longer than 0.5 s"), ("crash", "crashed")]
)
def test_a_file_that_stops_its_process_is_unreadable(hostile: IsolatedReader, does: str, detail: str) -> None:
    said = hostile.read(with_texts(do=does))
    assert said is not None
    assert said.credentials.state is C2paState.UNREADABLE
    assert detail in (said.credentials.detail or "")
    assert hostile.read(with_texts(do="nothing")) == SAYS_READ


def test_a_file_for_which_memory_was_missing_is_not_read(hostile: IsolatedReader) -> None:
    assert hostile.read(with_texts(do="raise")) is None
    assert hostile.read(with_texts(do="nothing")) == SAYS_READ


def test_a_process_that_is_killed_between_two_files_is_replaced() -> None:
    with IsolatedReader(trust_lists(), wait_limit_s=3, make_read=read_hostile) as reader:
        before = set(readers())
        reader.read(with_texts(do="begin"))
        (child,) = set(readers()) - before
        child.send_signal(signal.SIGKILL)
        child.wait(10)
        wait_for(lambda: reader.read(with_texts(do="nothing")) == SAYS_READ, 30)


def test_a_process_that_cannot_begin_reads_nothing_and_stops_nobody() -> None:
    with IsolatedReader(trust_lists(), wait_limit_s=5, make_read=refuse) as reader:
        assert reader.read(with_texts(do="nothing")) is None


def refuse(lists: Sequence[TrustList]) -> Callable[[bytes, str], Provenance]:
    raise RuntimeError(f"no reader for {len(lists)} lists")


def test_a_file_that_waits_too_long_for_its_turn_is_not_read() -> None:
    with IsolatedReader(trust_lists(), time_limit_s=60, wait_limit_s=0.5, make_read=read_hostile) as reader:
        with ThreadPoolExecutor(2) as threads:
            said = list(threads.map(reader.read, [with_texts(do="sleep"), with_texts(do="nothing")]))
        assert said == [None, None]


def test_a_file_without_marks_needs_no_process(hostile: IsolatedReader) -> None:
    assert hostile.read(files.plain("JPEG")) == Provenance()


def test_what_is_no_image_is_a_fault(hostile: IsolatedReader) -> None:
    said = hostile.read(b"%PDF-1.7")
    assert said is not None
    assert said.faults == ("file: the content is application/pdf",)


def test_threads_share_the_process_which_ends_with_the_reader() -> None:
    someone = signer("Someone")
    before = set(readers())
    with IsolatedReader(trust_lists()) as reader:
        data = [signed(kind, someone) for kind in ("JPEG", "PNG", "AVIF")] * 4
        with ThreadPoolExecutor(6) as threads:
            said = list(threads.map(reader.read, data))
        assert {one.credentials.state for one in said if one} == {C2paState.UNTRUSTED}
        assert None not in said
        children = set(readers()) - before
        assert len(children) == 1
    assert not psutil.wait_procs(children, timeout=5)[1]


def readers() -> list[psutil.Process]:
    return [one for one in psutil.Process().children() if "spawn_main" in str(one.cmdline())]


def test_the_revision_changes_with_the_trust_list(tmp_path: Path) -> None:
    own = tmp_path / "own.pem"
    own.write_text(signer("Someone").root)
    with IsolatedReader(trust_lists()) as shipped, IsolatedReader(trust_lists(own)) as ours:
        assert shipped.revision != ours.revision
        said = ours.read(signed("JPEG", signer("Someone")))
        assert said is not None
        assert said.credentials.state is C2paState.TRUSTED


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (None, "cannot be read"),
        ("hello", "no certificate"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "damaged"),
    ],
)
def test_a_wrong_trust_list_is_refused_with_the_setting(tmp_path: Path, text: str | None, fault: str) -> None:
    own = tmp_path / "own.pem"
    if text is not None:
        own.write_text(text)
    with pytest.raises(ConfigurationError, match=f"FAKESWEEP_TRUST_LIST.*{fault}"):
        trust_lists(own)


def test_nobody_is_no_list() -> None:
    assert trust_lists(NOBODY) == ()
