"""bytes -> what they say: reads the file's metadata, then its C2PA manifest."""

import warnings
from collections.abc import Callable, Sequence

from worker.provenance.credentials import CredentialsReader
from worker.provenance.generators import find_generator
from worker.provenance.metadata import read_metadata
from worker.provenance.says import Provenance
from worker.provenance.trust import TrustList


def read_with(lists: Sequence[TrustList]) -> Callable[[bytes, str], Provenance]:
    """Returns a function that reads a file of a format, one of worker.images.FORMATS. It raises nothing."""
    manifests = CredentialsReader(lists)
    warnings.simplefilter("ignore")  # Pillow warns about every broken tag

    def read(data: bytes, kind: str) -> Provenance:
        metadata = read_metadata(data, kind)
        generator = find_generator(metadata)
        return Provenance(
            credentials=manifests.read(data, kind),
            iptc=metadata.iptc(),
            generator=generator,
            camera=metadata.camera(),
            faults=tuple(metadata.faults[:10]),
        )

    return read
