"""The table of what contents say about their origin."""

from datetime import datetime
from typing import Any

from sqlalchemy import Index, String, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

from worker.tables.columns import long_text, timestamp


class ContentProvenance(SQLModel, table=True):
    """What a content says about its origin, as a revision of the reader understood it. Written once, never changed.

    `c2pa` is a C2paState and `declared` a Declared (worker.provenance). `signer` is the organisation in the certificate
    of the C2PA manifest. `source_type` is a digital source type of IPTC's vocabulary. `says` holds all that was read.
    A content that says nothing has a row, too.
    """

    __tablename__ = "provenance"
    __table_args__ = (Index("ix_provenance_declared", "declared", postgresql_where=text("declared IS NOT NULL")),)

    sha256: str = Field(sa_type=String(64), primary_key=True)
    revision: str = Field(sa_type=String(32), primary_key=True)
    c2pa: str = Field(sa_type=String(16))
    declared: str | None = Field(default=None, sa_type=String(16))
    signer: str | None = long_text(default=None)
    source_type: str | None = long_text(default=None)
    generator: str | None = long_text(default=None)
    camera: str | None = long_text(default=None)
    says: dict[str, Any] | None = Field(default=None, sa_type=JSONB)
    read_at: datetime = timestamp()
