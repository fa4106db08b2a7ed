"""The table of PDQ hashes, which find near duplicates of contents."""

from sqlalchemy import Boolean, Column, Index, SmallInteger, String, text
from sqlalchemy.dialects.postgresql import BIT
from sqlmodel import Field, SQLModel

PDQ_WORDS = 16
"""A hash of 256 bits is looked up by its 16 words of 16 bits each."""

MIN_QUALITY = 50
"""The authors of PDQ do not compare hashes of lower quality: such images are nearly flat and resemble everything."""

SEARCHED = f"in_question AND quality >= {MIN_QUALITY}"
"""The condition for hashes that are searched. Each index on a word holds only these."""


def word_of(pdq: str, number: int) -> str:
    """Returns the SQL of one word of a hash, as a number. `number` is from 0 to PDQ_WORDS - 1."""
    return f"(substring({pdq}, {16 * number + 1}, 16)::int)"


class ContentHash(SQLModel, table=True):
    """The PDQ hash of a content, and its quality from 0 to 100. It is written once and never changed.

    `in_question`: a detector called the content fake or uncertain. Triggers set it, too.
    """

    __tablename__ = "content_hashes"
    __table_args__ = tuple(
        Index(
            f"ix_content_hashes_word_{number}",
            text(word_of("pdq", number)),
            postgresql_include=["pdq"],
            postgresql_where=text(SEARCHED),
        )
        for number in range(PDQ_WORDS)
    )

    sha256: str = Field(sa_type=String(64), primary_key=True)
    pdq: str = Field(sa_column=Column(BIT(256), nullable=False))
    quality: int = Field(sa_column=Column(SmallInteger, nullable=False))
    in_question: bool = Field(default=False, sa_column=Column(Boolean, nullable=False, server_default=text("false")))
