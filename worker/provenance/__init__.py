"""What an image file says about its own origin. It stands beside the verdict, and never changes it.

`read` looks at the bytes of one file, without any network. `ProvenanceReader` does so in a process of its own, which
it ends when a file takes too long. That a file says nothing proves nothing: anybody can remove what a file says.
"""

from worker.provenance.reader import ProvenanceReader
from worker.provenance.says import C2paState, Camera, Credentials, Generator, Iptc, Provenance

__all__ = ["C2paState", "Camera", "Credentials", "Generator", "Iptc", "Provenance", "ProvenanceReader"]
