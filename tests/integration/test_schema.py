"""Models and migrations say the same, and the schema refuses what would lose its meaning."""

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Column, Engine, Integer, MetaData, text
from sqlmodel import SQLModel

from worker.tables import Scan


def drift(postgres: Engine, metadata: MetaData) -> list[object]:
    options = {"compare_type": True, "include_object": _no_partition}
    with postgres.connect() as connection:
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))


def _no_partition(_object: object, name: str | None, kind: str, *_: object) -> bool:
    return not (kind == "table" and (name or "").startswith("findings_"))


def test_models_and_migrations_do_not_drift_apart(postgres: Engine) -> None:
    assert drift(postgres, SQLModel.metadata) == []


def test_a_drift_would_be_seen(postgres: Engine) -> None:
    metadata = MetaData()
    for table in SQLModel.metadata.sorted_tables:
        table.to_metadata(metadata)
    metadata.tables[str(Scan.__tablename__)].append_column(Column("forgotten", Integer))
    assert len(drift(postgres, metadata)) == 1


def test_the_views_that_dashboards_read(postgres: Engine) -> None:
    with postgres.connect() as connection:
        for view in ("finding_details", "flagged_findings", "scan_progress"):
            assert connection.execute(text(f"SELECT count(*) FROM {view}")).scalar() == 0
