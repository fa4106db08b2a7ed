"""Only the owner of the tables may forget a picture, and nobody can change anything else that way."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy.exc import DBAPIError, ProgrammingError

from producers.forgetting import find_picture, forget
from tests.persons import SECRET, URI, Person, dump, pointing
from tests.roles import home, with_all_logins
from worker.database import Database, connect

CHANGES = (
    "UPDATE verdicts SET explanation = 'x'",
    "SET fakesweep.forgetting = 'yes'; UPDATE verdicts SET uri = forgotten_uri(uri), score = 0",
    "SET fakesweep.forgetting = 'yes'; UPDATE reviews SET uri = forgotten_uri(uri), statement = 'real'",
    "SET fakesweep.forgetting = 'yes'; UPDATE verdicts SET uri = 's3://b/other'",
    "SET fakesweep.forgetting = 'yes'; UPDATE reviews SET statement = 'real', uri = 'forgotten:1'",
    "SET fakesweep.forgetting = 'yes'; UPDATE verdicts SET uri = 'forgotten:1'",
    "SET fakesweep.forgetting = 'yes'; UPDATE verdicts SET uri = forgotten_uri(uri), explanation = 'she drew it'",
    "SET fakesweep.forgetting = 'yes'; UPDATE reviews SET uri = forgotten_uri(uri), note = 'she agreed'",
    "SET fakesweep.forgetting = 'yes'; DELETE FROM reviews",
    "SET fakesweep.forgetting = 'yes'; TRUNCATE reviews CASCADE",
    "SET fakesweep.forgetting = 'yes'; UPDATE events SET kind = 'x'",
)


def test_verdicts_reviews_and_events_are_still_append_only(database: Database, database_url: str) -> None:
    Person(database)
    with psycopg.connect(database_url) as connection:
        for change in CHANGES:
            with pytest.raises(psycopg.errors.RaiseException, match="append-only"):
                connection.execute(change.encode())
            connection.rollback()


@pytest.fixture
def roles(postgres_server_url: str, template: str) -> Iterator[Any]:
    with home(postgres_server_url, template) as made:
        with_all_logins(made)
        yield made


def test_only_the_owner_may_forget(roles: Any) -> None:
    database = connect(roles.url)
    Person(database)
    picture = find_picture(database, URI)
    database.dispose()
    # A login that may change verdicts still cannot say that it forgets a picture.
    roles.sql(f'GRANT SELECT, UPDATE ON verdicts TO "{roles.login("worker")}"')
    with pytest.raises(psycopg.errors.RaiseException, match="append-only"):
        roles.sql(
            "SET fakesweep.forgetting = 'yes'; UPDATE verdicts SET uri = forgotten_uri(uri)", roles.url_of("worker")
        )
    for role in ("worker", "producer", "reviewer", "web", "dashboard"):
        other = connect(roles.url_of(role))
        with pytest.raises((ProgrammingError, DBAPIError), match="permission denied for function forget_pictures"):
            forget(other, picture)
        other.dispose()
    assert SECRET in dump(roles.url)
    owner = connect(roles.url_of("owner"))
    assert forget(owner, find_picture(owner, URI)).rows["findings"] == 2
    owner.dispose()
    assert pointing(roles.url) == []


def test_without_roles_nobody_but_the_owner_may_forget(postgres_server_url: str, template: str) -> None:
    """The right is taken from everybody by the migration, and not only by `fakesweep roles`."""
    with home(postgres_server_url, template) as made:
        said = "SELECT bool_or(has_function_privilege('public', oid, 'EXECUTE')) FROM pg_proc"
        assert made.sql(f"{said} WHERE proname = 'forget_pictures'") == [(False,)]
