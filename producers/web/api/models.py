"""Models of requests and answers that several endpoints share."""

import re
from datetime import datetime
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from worker.messages import MAX_ALSO, DetectorName, ETag, Explain, Policy, Text, Uri
from worker.provenance import C2paState, Declared
from worker.tables import Outcome, ScanStatus, Stage, Verdict

_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)

EXAMPLE_ID = "7d1f0c1e-3a43-4a64-9f6c-0c1b8b7f2f55"
EXAMPLE_SHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
EXAMPLE_URI = "s3://photos/2026/cat.jpg"

ApiUri = Annotated[
    Uri,
    WithJsonSchema(
        {"type": "string", "pattern": r"^(s3://[^/\u0000]+/[^\u0000]+|file:///[^\u0000]*)$", "maxLength": 2048}
    ),
    Field(
        description="s3://bucket/key, with the key exactly as in S3; or file:///path, percent-encoded, where the "
        "server allows it. 2,048 bytes at most.",
        examples=[EXAMPLE_URI],
    ),
]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$", description="In hexadecimal.", examples=[EXAMPLE_SHA256])]


def _is_number(value: object) -> object:
    if isinstance(value, str | bool):
        raise ValueError("must be a number")  # noqa: TRY004 - pydantic takes ValueErrors
    return value


Number = BeforeValidator(_is_number)
"""Refuses "5" and true, which pydantic would accept as 5 and 1. It accepts 5.0, because JSON has no integers."""

RowId = Annotated[int, Field(ge=1, lt=2**63), Number]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False), Number]
ShortText = Annotated[Text, Field(min_length=1, max_length=200)]


def _is_rfc_3339(value: object) -> object:
    if isinstance(value, str) and not _RFC_3339.fullmatch(value):
        raise ValueError("must be a time with its offset, such as 2026-07-01T12:00:00Z")
    return value


Moment = Annotated[AwareDatetime, BeforeValidator(_is_rfc_3339), Field(examples=["2026-07-01T12:00:00Z"])]
"""A time as in RFC 3339. pydantic would also accept a number, as seconds since 1970."""


class Asked(BaseModel):
    """The body of a request. Unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")


class WithPolicy(Asked):
    """How images are judged, as the options of `fakesweep submit` say it."""

    explain: Explain = Field(Explain.FLAGGED, description="For which images the model writes its reasons.")
    fake_from: Share | None = Field(None, description="Fake from this score up. Default: the detector's threshold.")
    real_to: Share | None = Field(None, description="Real from this score down. Default: the detector's threshold.")
    max_tokens: Annotated[int, Field(ge=8, lt=2**31), Number] | None = Field(
        None, description="Longest answer in tokens, below the detector's limit."
    )

    also: list[DetectorName] = Field(
        [],
        max_length=MAX_ALSO,
        description="Further detectors of the workers that give second opinions, by name.",
        examples=[["siglip"]],
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if len(set(self.also)) < len(self.also):
            raise ValueError("also must not name a detector twice")
        if self.fake_from is not None and self.real_to is not None and self.real_to > self.fake_from:
            raise ValueError("real_to must not be above fake_from")
        return self

    def policy(self) -> Policy:
        """Returns the policy for the scan."""
        return Policy(
            explain=self.explain, fake_from=self.fake_from, real_to=self.real_to, max_tokens=self.max_tokens,
            also=tuple(self.also),
        )  # fmt: skip


class SubmittedImage(Asked):
    """An image to judge."""

    uri: ApiUri
    etag: Annotated[ETag, WithJsonSchema({"type": "string", "maxLength": 256, "pattern": r"^[^\u0000]*$"})] | None = (
        Field(
            None,
            description="Without quotes. If the object has another one when it is fetched, it fails: `changed`.",
        )
    )
    size: Annotated[int, Field(ge=0, lt=2**63), Number] | None = Field(None, description="In bytes.")
    external_id: Annotated[Text, Field(max_length=1024)] | None = Field(
        None, description="Your own id of the image, given back with its finding.", examples=["post 7"]
    )


class Counted(BaseModel):
    """How far a scan or a submission is. `judged + reused + unchanged + failed` reaches `listed` when it is done."""

    id: UUID = Field(examples=[EXAMPLE_ID])
    status: ScanStatus = Field(
        description="It has ended when it is done or cancelled. A paused one waits for a person."
    )
    note: str | None = Field(description="Why it is paused or cancelled.")
    listed: int = Field(description="Images so far.")
    judged: int = Field(description="Images that the detector has judged.")
    reused: int = Field(description="Images whose content it had judged before.")
    unchanged: int = Field(description="Images that are as they were last time, and so have no finding.")
    failed: int = Field(description="Images that have no verdict: their findings say why.")
    fake: int
    uncertain: int
    real: int
    created_at: datetime
    finished_at: datetime | None


class DetectorNamed(BaseModel):
    """A detector: everything that can change a score."""

    name: str
    model: str
    revision: str
    prompt_revision: str | None = Field(description="Null if it gives no reasons, and so has no prompt.")
    preprocessing_revision: str
    dtype: str
    quantization: str | None
    gives_reasons: bool = Field(description="False for a classifier: it gives a score, and never an explanation.")


class MadeBy(BaseModel):
    """The software and the card that made a verdict. Versions are null where that software took no part."""

    release: str = Field(description="Of Fakesweep.")
    engine: str
    vllm: str | None
    torch: str | None
    transformers: str | None
    driver: str | None = Field(description="Of NVIDIA.")
    card: str | None


class ProvenanceRead(BaseModel):
    """What the file says about its own origin. Anybody can write or remove it; only a trusted signature proves who."""

    c2pa: C2paState = Field(description="Whether the C2PA manifest can be trusted.")
    declared: Declared | None = Field(description="How the file says that the picture came to be.")
    signer: str | None = Field(description="The organisation in the certificate. Believe it only if c2pa is trusted.")
    source_type: str | None = Field(description="A digital source type of IPTC's vocabulary.")
    generator: str | None
    camera: str | None
    says: dict[str, Any] | None = Field(description="All that was read.")


class SecondOpinion(BaseModel):
    """What a further detector says about the image."""

    detector: str
    verdict: Verdict | None = Field(description="By the detector's own thresholds. Null if it is missing.")
    score: float | None
    missing: bool = Field(description="Whether no worker with this detector has judged the image in this scan.")


class Combined(BaseModel):
    """One score of several detectors, by a stack."""

    stack: str = Field(description="The stack's name.")
    fingerprint: str = Field(description="The stack's fingerprint.")
    score: float | None = Field(description="P(fake) between 0 and 1; null if a detector was undecided.")
    verdict: Verdict
    from_elsewhere: list[str] = Field(
        description="Detectors whose verdict is not of this scan: their newest one stands in, so the score may change."
    )


class Finding(BaseModel):
    """What was found at a uri."""

    uri: str = Field(examples=[EXAMPLE_URI])
    external_id: str | None = Field(description="Your own id.")
    outcome: Outcome
    verdict: Verdict | None = Field(description="Null when it failed.")
    score: float | None = Field(
        description="P(fake) between 0 and 1; null when the answer was undecided, or it failed."
    )
    answer: str | None = Field(description="The detector's own word: fake, real or undecided.")
    explanation: str | None = Field(description="The detector's reasons; null if it gave none.")
    contradicts: bool = Field(description="Whether the explanation contradicts the verdict.")
    cut_off: bool | None = Field(description="Whether the limit on its length ended the answer.")
    stage: Stage | None = Field(
        description="Which stage of a cascade gave the verdict: first (it cleared the image, and gives no reasons), "
        "judge, or audit (the judge, to check what the first stage would have cleared). Null for other detectors."
    )
    first_score: float | None = Field(description="What the first stage of a cascade said; null for other detectors.")
    second_opinions: list[SecondOpinion] = Field(description="Of further detectors, if the scan asks for some.")
    detectors_differ: bool = Field(description="Whether one of its detectors says fake and another one real.")
    combined: Combined | None = Field(
        description="The score of the stack that was stored last, of those in use. Null if none applies."
    )
    reason: str | None = Field(description="Why it failed, such as not_found. New codes may appear.")
    detail: str | None
    etag: str | None
    sha256: str | None = Field(description="SHA-256 of the image's bytes: see /v1/contents/{sha256}.")
    width: int | None = Field(description="In pixels.")
    height: int | None = Field(description="In pixels.")
    detector: DetectorNamed | None
    maker: MadeBy | None = Field(description="What made the verdict. Null for verdicts of releases before this one.")
    reused_from: str | None = Field(description="The uri whose judgement was reused.")
    attempts: int
    decided_at: datetime
    provenance: ProvenanceRead | None = Field(description="Null if no worker has read it.")


def strictly(model: type[BaseModel], row: dict[str, Any]) -> dict[str, Any]:
    """Returns the fields of the row that the model has."""
    return {name: row[name] for name in model.model_fields}
