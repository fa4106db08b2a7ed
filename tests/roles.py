"""A database with roles and a login for each, as an operator sets it up. Roles belong to the whole server, so that the
names of each one are its own.
"""

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import psycopg
from sqlalchemy.engine import make_url

from tests.conftest import drop_database, url_of
from worker.database import connect
from worker.grants import Role
from worker.role_steps import Step
from worker.roles import Wanted, make_roles

PASSWORD = "secret"


@dataclass(frozen=True)
class Home:
    """A migrated database. `prefix` begins the names of its roles; `url` is that of a superuser."""

    url: str
    prefix: str

    def login(self, role: str) -> str:
        """The name of a login; of a role, it is the login that has the role."""
        return f"{self.prefix}_{role}_login"

    def url_of(self, role: str) -> str:
        """The DATABASE_URL of a login."""
        parsed = make_url(self.url).set(username=self.login(role), password=PASSWORD)
        return parsed.render_as_string(hide_password=False)

    def make_login(self, role: str, options: str = "", url: str | None = None) -> str:
        """A login that has no role yet; its name."""
        self.sql(f"CREATE ROLE \"{self.login(role)}\" LOGIN PASSWORD '{PASSWORD}' {options}", url)
        return self.login(role)

    def make_roles(self, *members: tuple[Role, str], url: str | None = None, **more: Any) -> Sequence[Step]:
        """As `fakesweep roles` does it."""
        database = connect(url or self.url)
        try:
            return list(make_roles(database, Wanted(self.prefix, members, **more)))
        finally:
            database.dispose()

    def sql(self, statement: str, url: str | None = None) -> list[tuple[Any, ...]]:
        """Runs a statement and commits; its rows."""
        with psycopg.connect(url or self.url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []


@contextmanager
def home(server_url: str, template: str) -> Iterator[Home]:
    """A database without roles, cloned from the template; at the end it and every role of the prefix are dropped."""
    prefix = f"fs{uuid.uuid4().hex[:8]}"
    name = f"fakesweep_test_{prefix}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    try:
        yield Home(url_of(server_url, name), prefix)
    finally:
        drop_database(server_url, name)
        drop_roles(server_url, prefix)


def drop_roles(server_url: str, prefix: str) -> None:
    """Drops every role whose name begins so. Their databases must be gone."""
    with psycopg.connect(server_url, autocommit=True) as connection:
        roles = "SELECT rolname FROM pg_roles WHERE starts_with(rolname, %s)"
        # A role that has granted a membership is dropped after the members.
        while left := connection.execute(roles, [prefix]).fetchall():
            for (role,) in left:
                with suppress(psycopg.errors.DependentObjectsStillExist):
                    connection.execute(f'DROP ROLE "{role}"')


def with_all_logins(made: Home) -> None:
    """A login for each role, in the way that docs/roles.md shows."""
    made.make_roles(*((role, made.make_login(role)) for role in Role))
