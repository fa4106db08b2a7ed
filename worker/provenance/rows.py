"""What is stored of a provenance: the columns of the table `provenance`."""

from dataclasses import asdict, dataclass
from typing import Any

from worker.provenance.declares import declared, source_types
from worker.provenance.says import Provenance


@dataclass(frozen=True)
class ReadProvenance:
    """What a content says about its origin, and the revision of the reader that understood it so."""

    revision: str
    provenance: Provenance

    def row(self) -> dict[str, Any]:
        """Returns the columns of `provenance`, without the SHA-256."""
        said = self.provenance
        credentials, camera = said.credentials, said.camera
        return {
            "revision": self.revision,
            "c2pa": credentials.state,
            "declared": declared(said),
            "signer": credentials.signer,
            "source_type": next(iter(source_types(said)), None),
            "generator": said.generator.name if said.generator else None,
            "camera": " ".join(filter(None, (camera.make, camera.model))) if camera else None,
            "says": _filled(asdict(said)) or None,
        }


def _filled(values: dict[str, Any]) -> dict[str, Any]:
    """Returns only what has a value: most files say little. The state `absent` is a column, and is left out here."""
    filled = {name: _filled(value) if isinstance(value, dict) else value for name, value in values.items()}
    return {name: value for name, value in filled.items() if value and value != "absent"}
