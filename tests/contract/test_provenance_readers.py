"""What every reader of provenance does: the fake one and the real one."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests import provenance_files as files
from worker.provenance import Camera, Provenance, ProvenanceReader
from worker.provenance.isolated import IsolatedReader
from worker.provenance.trust import trust_lists
from worker.testing import ScriptedProvenance

PHOTO, PLAIN = files.with_exif("JPEG", {0x010F: "Canon"}), files.plain("JPEG")
SAYS = Provenance(camera=Camera("Canon"))


@pytest.fixture(params=["scripted", "isolated"], scope="module")
def reader(request: pytest.FixtureRequest) -> Iterator[ProvenanceReader]:
    made = ScriptedProvenance({PHOTO: SAYS}) if request.param == "scripted" else IsolatedReader(trust_lists())
    yield made
    made.close()


def test_a_file_says_the_same_in_every_thread(reader: ProvenanceReader) -> None:
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(reader.read, [PHOTO, PLAIN] * 10)) == [SAYS, Provenance()] * 10


def test_the_revision_stays_the_same(reader: ProvenanceReader) -> None:
    assert 0 < len(reader.revision) <= 32
    assert reader.revision == reader.revision


def test_what_is_no_image_says_nothing(reader: ProvenanceReader) -> None:
    said = reader.read(b"text")
    assert said is not None
    assert said.camera is None
