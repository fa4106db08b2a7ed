"""Runs the migrations on the connection that worker.migrate passes in."""

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa
from alembic import context
from alembic.migration import MigrationContext
from sqlmodel import SQLModel

from worker import tables  # noqa: F401 - declares the tables
from worker.database.partitions import TABLE_PREFIX
from worker.revisions import comment


def include_object(_object: Any, name: str | None, kind: str, *_: Any) -> bool:
    """Leaves out the partitions of `findings`: they come and go with scans, not with migrations."""
    return not (kind == "table" and (name or "").startswith(TABLE_PREFIX))


def mark(ctx: MigrationContext, step: object, heads: Collection[Any], run_args: object) -> None:  # noqa: ARG001
    """Writes the oldest release that works with the schema into the schema, in the transaction of the revision."""
    found = [getattr(one.module, "works_from", None) for one in context.script.get_revisions(tuple(heads))]
    ctx.impl.execute(sa.text(comment(found[0] if found else None)))


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=SQLModel.metadata,
    include_object=include_object,
    compare_type=True,
    transaction_per_migration=True,
    on_version_apply=mark,
)
with context.begin_transaction():
    context.run_migrations()
