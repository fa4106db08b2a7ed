"""What all tables share: the names of constraints and indexes, and kinds of columns."""

from enum import StrEnum
from typing import Any

from sqlalchemy import CheckConstraint, DateTime, Text, func
from sqlmodel import Field, SQLModel

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
SQLModel.metadata.naming_convention = NAMING


def one_of(column: str, values: type[StrEnum]) -> CheckConstraint:
    """Returns a check that a column has one of these values."""
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


def timestamp(*, nullable: bool = False) -> Any:
    """A time with its time zone. The default is the current time, unless the column is nullable."""
    default = None if nullable else func.now()
    return Field(
        default=None, sa_type=DateTime(timezone=True), nullable=nullable, sa_column_kwargs={"server_default": default}
    )


def long_text(**options: Any) -> Any:
    """A text of any length."""
    return Field(sa_type=Text, **options)
