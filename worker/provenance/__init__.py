"""What an image file says about its own origin. It stands beside the verdict, and never changes it.

`reading` looks at the bytes of one file, without any network. `isolated` does so in a process of its own, which it ends
when a file takes too long. That a file says nothing proves nothing: anybody can remove what a file says.
"""

from worker.provenance.declares import declared
from worker.provenance.rows import ReadProvenance
from worker.provenance.says import (
    C2paState,
    Camera,
    Credentials,
    Declared,
    Generator,
    Iptc,
    Provenance,
    ProvenanceReader,
)

__all__ = [
    "C2paState",
    "Camera",
    "Credentials",
    "Declared",
    "Generator",
    "Iptc",
    "Provenance",
    "ProvenanceReader",
    "ReadProvenance",
    "declared",
]
