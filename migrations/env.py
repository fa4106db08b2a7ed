"""Runs the migrations on the connection that worker.migrate holds the lock on."""

from typing import Any

from alembic import context
from sqlmodel import SQLModel

from worker import tables  # noqa: F401 - declares the tables
from worker.database.partitions import TABLE_PREFIX


def include_object(_object: Any, name: str | None, kind: str, *_: Any) -> bool:
    """Leaves out the partitions of `findings`: they come and go with scans, not with migrations."""
    return not (kind == "table" and (name or "").startswith(TABLE_PREFIX))


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=SQLModel.metadata,
    include_object=include_object,
    compare_type=True,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
