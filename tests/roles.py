"""A database with roles and a login for each, as an operator sets it up.

Roles belong to the whole server, so each database of a test has its own names for them.
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
    """A migrated database. The names of its roles begin with `prefix`. `url` is that of a superuser."""

    url: str
    prefix: str

    def login(self, role: str) -> str:
        """Returns the name of a login, for example of the login that has this role."""
        return f"{self.prefix}_{role}_login"

    def url_of(self, role: str) -> str:
        """Returns the DATABASE_URL of a login."""
        parsed = make_url(self.url).set(username=self.login(role), password=PASSWORD)
        return parsed.render_as_string(hide_password=False)

    def make_login(self, role: str, options: str = "", url: str | None = None) -> str:
        """Makes a login that has no role yet. Returns its name."""
        self.sql(f"CREATE ROLE \"{self.login(role)}\" LOGIN PASSWORD '{PASSWORD}' {options}", url)
        return self.login(role)

    def make_roles(self, *members: tuple[Role, str], url: str | None = None, **more: Any) -> Sequence[Step]:
        """Makes the roles, as `fakesweep roles` does."""
        database = connect(url or self.url)
        try:
            return list(make_roles(database, Wanted(self.prefix, members, **more)))
        finally:
            database.dispose()

    def sql(self, statement: str, url: str | None = None) -> list[tuple[Any, ...]]:
        """Runs a statement and commits. Returns its rows."""
        with psycopg.connect(url or self.url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []


@contextmanager
def home(server_url: str, template: str) -> Iterator[Home]:
    """A database without roles, cloned from the template. At the end, it and all roles with the prefix are dropped."""
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
    """Drops every role whose name begins with the prefix. The databases of these roles must not exist any more."""
    with psycopg.connect(server_url, autocommit=True) as connection:
        roles = "SELECT rolname FROM pg_roles WHERE starts_with(rolname, %s)"
        # A role that has granted a membership can only be dropped after its members.
        while left := connection.execute(roles, [prefix]).fetchall():
            for (role,) in left:
                with suppress(psycopg.errors.DependentObjectsStillExist):
                    connection.execute(f'DROP ROLE "{role}"')


def with_all_logins(made: Home) -> None:
    """Makes a login for each role, as docs/roles.md shows."""
    made.make_roles(*((role, made.make_login(role)) for role in Role))
