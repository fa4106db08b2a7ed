"""What a file can say about its origin. Every text is short, and Postgres can store it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from worker.texts import storable

MAX_TEXT, MAX_PROMPT = 200, 2000
"""Characters that are kept of a text, and of a prompt. A page of results holds 1,000 contents."""


class C2paState(StrEnum):
    """Whether the C2PA manifest of a file can be trusted. `worker.provenance.credentials.state_of` has the rules."""

    ABSENT = "absent"
    """The file has no manifest."""
    REMOTE = "remote"
    """The file only names the address of a manifest. We do not fetch it."""
    UNREADABLE = "unreadable"
    """The file has a manifest that cannot be read, or not within the time."""
    INVALID = "invalid"
    """The manifest or the content was changed after the signature, or the manifest breaks the specification."""
    UNTRUSTED = "untrusted"
    """Nothing was changed, but the signer is not on our trust list: anybody can make such a signature."""
    VALID = "valid"
    """Nothing was changed. There is no trust list, so nobody looked whether the signer is on it."""
    TRUSTED = "trusted"
    """Nothing was changed, and the signer is on our trust list."""


@dataclass(frozen=True)
class Credentials:
    """The C2PA manifest of a file ("Content Credentials").

    `signer` is the organisation in the certificate. Believe it only if the state is trusted. `actions` are those of the
    active manifest, and of the manifests of what the image was made from, if they are intact. `source_types` are the
    digital source types of these actions. `codes` are all validation codes that mean a failure. Those about what the
    image was made from begin with `ingredient: `. `detail` says in one line why a manifest is unreadable, or where a
    remote one is.
    """

    state: C2paState = C2paState.ABSENT
    signer: str | None = None
    claim_generator: str | None = None
    actions: tuple[str, ...] = ()
    source_types: tuple[str, ...] = ()
    software: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()
    trust_list: str | None = None
    detail: str | None = None


@dataclass(frozen=True)
class Iptc:
    """IPTC's fields about origin (Photo Metadata Standard 2025.1), from XMP or from the older IPTC block.

    Nothing protects these fields: anybody can write them.
    """

    source_type: str | None = None
    credit: str | None = None
    ai_system: str | None = None
    ai_system_version: str | None = None
    ai_prompt: str | None = None
    ai_prompt_writer: str | None = None


@dataclass(frozen=True)
class Generator:
    """The program that generated the image, as its own parameters in the file say. `name` is as in GENERATORS."""

    name: str
    model: str | None = None
    prompt: str | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Camera:
    """The camera that EXIF names. Anybody can write it."""

    make: str
    model: str | None = None


class Declared(StrEnum):
    """What a file declares about how its image came to be. `worker.provenance.declares.declared` finds it."""

    GENERATED = "generated"
    """Made by a trained model as a whole."""
    COMPOSITE = "composite"
    """Partly made by a trained model, or composed of parts one of which is."""
    CAPTURED = "captured"
    """Captured by a camera or a scanner."""
    OTHER = "other"
    """Made in another way, such as drawn by a person."""


@dataclass(frozen=True)
class Provenance:
    """Everything that a file says about its origin. `faults` names the parts that could not be read, and why."""

    credentials: Credentials = Credentials()
    iptc: Iptc = Iptc()
    generator: Generator | None = None
    camera: Camera | None = None
    faults: tuple[str, ...] = ()


class ProvenanceReader(Protocol):
    """Reads what files say about their origin. Several threads call it."""

    @property
    def revision(self) -> str:
        """What the result depends on beside the file. Results of another revision are read again."""
        ...

    def read(self, data: bytes) -> Provenance | None:
        """Returns what the file says, or None if it cannot be read now: then nothing is stored. Raises nothing."""
        ...

    def close(self) -> None:
        """Frees what the reader holds."""
        ...


def text_of(value: object, longest: int = MAX_TEXT) -> str | None:
    """Returns a value from a file as a text of at most `longest` characters, or None if there is nothing in it."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if value is None:
        return None
    text = storable(str(value)[: 2 * longest]).strip(" \t\r\n\x00")
    return text[:longest] or None
