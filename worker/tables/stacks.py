"""The tables of stacks: how several detectors make one score, and which stacks are in use."""

from datetime import datetime
from typing import Any

from sqlalchemy import ARRAY, BigInteger, CheckConstraint, Column, Float, Identity, Index, String
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

from worker.tables.columns import long_text, timestamp


class StoredStack(SQLModel, table=True):
    """A worker.stacking.Stack. Append-only: another fit is another row. StackChoice says which are in use.

    `weights` belong to `detector_ids`, in this order. The view `combined_scores` computes the scores. `description` is
    the whole stack, with where it was fitted.
    """

    __tablename__ = "stacks"
    __table_args__ = (
        CheckConstraint("cardinality(detector_ids) >= 2", name="several"),
        CheckConstraint("cardinality(weights) = cardinality(detector_ids)", name="a_weight_each"),
        CheckConstraint("real_to <= fake_from", name="thresholds"),
    )

    id: int | None = Field(default=None, sa_column=Column(BigInteger, Identity(), primary_key=True))
    fingerprint: str = Field(sa_type=String(64), unique=True)
    name: str = long_text()
    detector_ids: list[int] = Field(sa_type=ARRAY(BigInteger))
    weights: list[float] = Field(sa_type=ARRAY(Float))
    offset: float
    fake_from: float
    real_to: float
    description: dict[str, Any] = Field(sa_type=JSONB)
    created_at: datetime = timestamp()


class StackChoice(SQLModel, table=True):
    """Somebody stored a stack, or withdrew it. Append-only. The newest row of a stack says whether it is in use.

    Of several stacks in use that fit a finding, the one that was stored last is shown: the one with the highest `id`.
    """

    __tablename__ = "stack_choices"
    __table_args__ = (Index("ix_stack_choices_stack_id_id", "stack_id", "id"),)

    id: int | None = Field(default=None, sa_column=Column(BigInteger, Identity(), primary_key=True))
    stack_id: int = Field(sa_type=BigInteger)
    in_use: bool
    created_at: datetime = timestamp()
