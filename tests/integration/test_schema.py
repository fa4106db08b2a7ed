"""Models and migrations describe the same schema, and migrations keep what an older release wrote."""

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Column, Integer, MetaData, text
from sqlmodel import SQLModel

from worker.database import Database
from worker.database.partitions import TABLE_PREFIX
from worker.grants import VIEWS
from worker.migrate import alembic_config, newest
from worker.tables import Scan


def drift(database: Database, metadata: MetaData) -> list[object]:
    options = {"compare_type": True, "include_object": _no_partition}
    with database.connect() as connection:
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))


def _no_partition(_object: object, name: str | None, kind: str, *_: object) -> bool:
    return not (kind == "table" and (name or "").startswith(TABLE_PREFIX))


def test_models_and_migrations_describe_the_same_schema(database: Database) -> None:
    assert drift(database, SQLModel.metadata) == []


def test_a_difference_is_found(database: Database) -> None:
    metadata = MetaData()
    for table in SQLModel.metadata.sorted_tables:
        table.to_metadata(metadata)
    metadata.tables[str(Scan.__tablename__)].append_column(Column("forgotten", Integer))
    assert len(drift(database, metadata)) == 1


def test_the_newest_revision_by_file_name_is_alembics(database: Database) -> None:
    assert newest() == ScriptDirectory.from_config(alembic_config()).get_current_head()


def test_all_views_can_be_read_from_an_empty_database(database: Database) -> None:
    with database.connect() as connection:
        for view in VIEWS:
            rows = connection.execute(text(f"SELECT * FROM {view}")).all()
            assert len(rows) == (1 if view == "review_backlog" else 0), view


def test_what_the_first_release_wrote_survives_every_migration(database: Database) -> None:
    config = alembic_config()
    with database.connect() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0001")
        connection.execute(text(_OLD_ROWS))
        connection.execute(text("CREATE VIEW dashboard AS SELECT uri, explanation FROM flagged_findings"))
        connection.execute(text("GRANT SELECT ON finding_details TO PUBLIC"))
        connection.commit()
        command.upgrade(config, "head")
        connection.commit()
        row = connection.execute(text("SELECT answer, log_odds, cut_off FROM verdicts")).one()
        granted = connection.execute(text("SELECT relacl FROM pg_class WHERE relname = 'finding_details'")).scalar()
        assert connection.execute(text("SELECT count(*) FROM dashboard")).scalar() == 0
        described = connection.execute(text("SELECT description FROM detectors")).scalar()
    assert tuple(row) == ("fake", None, False)
    assert described is None
    assert "=r/" in str(granted)


_OLD_ROWS = """
INSERT INTO detectors (fingerprint, name, model, revision, prompt_revision, preprocessing_revision, dtype)
VALUES ('f', 'old', 'm', 'r', 'p', 'q', 'float16');
INSERT INTO verdicts (sha256, detector_id, uri, width, height, explain, answer, score, completion, contradicts,
                      prompt_tokens, completion_tokens, latency_ms)
SELECT 's', id, 's3://b/1', 1, 1, 'all', 'fake', 0.9, 'This is a fake image.', false, 1, 1, 1 FROM detectors;
"""
