"""The processes that read files: they end in time, and one that crashes takes nothing with it."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from tests import provenance_files as files
from tests.provenance_files import signed, signer, with_texts
from worker.errors import ConfigurationError
from worker.provenance import C2paState, Provenance
from worker.provenance.reader import ProvenanceReader
from worker.provenance.trust import NOBODY, TrustList, trust_lists


def read_hostile(lists: Sequence[TrustList]) -> Callable[[bytes, str], Provenance]:
    """Makes a reader that does what the text in the file says: sleep, crash, or raise."""
    del lists

    def read(data: bytes, kind: str) -> Provenance:
        if b"sleep" in data:
            time.sleep(60)
        if b"crash" in data:
            os.abort()
        if b"raise" in data:
            raise MemoryError(kind)
        return Provenance(faults=("read",))

    return read


@pytest.fixture(scope="module")
def hostile() -> Iterator[ProvenanceReader]:
    with ProvenanceReader(trust_lists(), time_limit_s=0.5, make_read=read_hostile) as reader:
        reader.read(with_texts(do="begin"))
        yield reader


@pytest.mark.parametrize(("does", "detail"), [("sleep", "longer than 0.5 s"), ("crash", "crashed"), ("raise", "PNG")])
def test_a_file_that_stops_its_process_is_unreadable(hostile: ProvenanceReader, does: str, detail: str) -> None:
    said = hostile.read(with_texts(do=does))
    assert said.credentials.state is C2paState.UNREADABLE
    assert detail in (said.credentials.detail or "")
    assert hostile.read(with_texts(do="nothing")).faults == ("read",)


def test_a_file_without_marks_needs_no_process(hostile: ProvenanceReader) -> None:
    assert hostile.read(files.plain("JPEG")) == Provenance()


def test_what_is_no_image_is_a_fault(hostile: ProvenanceReader) -> None:
    assert hostile.read(b"%PDF-1.7").faults == ("file: the content is application/pdf",)


def test_threads_share_the_processes_which_end_with_the_reader() -> None:
    someone = signer("Someone")
    before = psutil.Process().children()
    with ProvenanceReader(trust_lists(), processes=2) as reader:
        data = [signed(kind, someone) for kind in ("JPEG", "PNG", "AVIF")] * 4
        with ThreadPoolExecutor(6) as threads:
            said = list(threads.map(reader.read, data))
        assert {one.credentials.state for one in said} == {C2paState.UNTRUSTED}
        children = [
            one for one in psutil.Process().children() if one not in before and "spawn_main" in str(one.cmdline())
        ]
        assert len(children) == 2
    assert not psutil.wait_procs(children, timeout=5)[1]


def test_the_revision_changes_with_the_trust_list(tmp_path: Path) -> None:
    own = tmp_path / "own.pem"
    own.write_text(signer("Someone").root)
    with ProvenanceReader(trust_lists()) as shipped, ProvenanceReader(trust_lists(own)) as ours:
        assert shipped.revision != ours.revision
        assert ours.read(signed("JPEG", signer("Someone"))).credentials.state is C2paState.TRUSTED


@pytest.mark.parametrize(("text", "fault"), [(None, "cannot be read"), ("hello", "no certificate")])
def test_a_wrong_trust_list_is_refused_with_the_setting(tmp_path: Path, text: str | None, fault: str) -> None:
    own = tmp_path / "own.pem"
    if text is not None:
        own.write_text(text)
    with pytest.raises(ConfigurationError, match=f"FAKESWEEP_TRUST_LIST.*{fault}"):
        trust_lists(own)


def test_nobody_is_no_list() -> None:
    assert trust_lists(NOBODY) == ()
