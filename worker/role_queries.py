"""Reads from the database which roles there are, who owns what, and who is connected."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

from worker.database.partitions import TABLE_PREFIX
from worker.errors import ConfigurationError
from worker.grants import FIRST, FUNCTIONS, TABLES, VIEWS

_LOOK = """
SELECT current_schema() AS schema, current_database() AS database, current_user AS user, me.rolsuper AS superuser,
       owner.rolname AS owner, owner.rolsuper AS owner_is_superuser
FROM pg_roles me, pg_class JOIN pg_roles owner ON owner.oid = relowner
WHERE me.rolname = current_user AND pg_class.oid = to_regclass('alembic_version')
"""

_RIGHTS = """
SELECT name, exists(SELECT FROM pg_roles WHERE rolname = name) AS there,
       has_database_privilege(known, current_database(), 'CONNECT') AS connects,
       has_schema_privilege(known, current_schema(), 'USAGE') AS uses,
       has_schema_privilege(known, current_schema(), 'CREATE') AS creates
FROM (SELECT name, coalesce((SELECT rolname FROM pg_roles WHERE rolname = name), 'public') AS known
      FROM unnest(CAST(:names AS text[])) WITH ORDINALITY AS given (name, n) ORDER BY n) named
"""

_MEMBER = """
SELECT EXISTS (SELECT FROM pg_roles member, pg_roles role WHERE member.rolname = :member AND role.rolname = :role
               AND pg_has_role(member.oid, role.oid, 'USAGE'))
"""

_MEMBERSHIPS = """
SELECT DISTINCT member.rolname AS member, role.rolname AS role
FROM pg_auth_members JOIN pg_roles member ON member.oid = pg_auth_members.member
JOIN pg_roles role ON role.oid = roleid
WHERE member.rolname = ANY(:names) AND role.rolname = ANY(:names)
ORDER BY 1, 2
"""

_RELATIONS = """
SELECT CASE relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END AS kind, relname AS name
FROM pg_class LEFT JOIN pg_inherits ON inhrelid = pg_class.oid AND inhparent = 'findings'::regclass
WHERE relnamespace = current_schema()::regnamespace AND relowner <> coalesce(to_regrole(quote_ident(:owner))::oid, 0)
  AND (relname = ANY(:names) OR inhrelid IS NOT NULL AND starts_with(relname, :prefix)) AND relkind IN ('r', 'p', 'v')
ORDER BY relkind = 'v', relname
"""

_FUNCTIONS = """
SELECT 'FUNCTION' AS kind, proname AS name FROM pg_proc
WHERE pronamespace = current_schema()::regnamespace AND proname = ANY(:names)
  AND proowner <> coalesce(to_regrole(quote_ident(:owner))::oid, 0)
ORDER BY proname
"""

# A role that created another role is a member of it, but without its rights. Such a member is not a dashboard, and
# neither is a superuser.
_DASHBOARDS = """
SELECT login.rolname AS name, setconfig
FROM pg_roles login JOIN pg_roles dashboard ON dashboard.rolname = :dashboard
LEFT JOIN pg_db_role_setting
    ON setrole = login.oid AND setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
WHERE login.rolcanlogin AND NOT login.rolsuper
  AND pg_has_role(login.oid, dashboard.oid, CASE WHEN login.rolinherit THEN 'USAGE' ELSE 'MEMBER' END)
  AND NOT EXISTS (SELECT FROM pg_roles other WHERE other.rolname = ANY(:others)
                  AND pg_has_role(login.oid, other.oid, 'USAGE'))
ORDER BY login.rolname
"""

_PREFIXES = """
SELECT left(rolname, -length('_worker')) AS prefix
FROM pg_class, aclexplode(relacl) JOIN pg_roles ON pg_roles.oid = grantee
WHERE pg_class.oid = to_regclass('alembic_version') AND rolname LIKE '%\\_worker'
ORDER BY rolname
"""


@dataclass(frozen=True)
class Place:
    """Where the connection leads, as whom, and who owns the tables."""

    schema: str
    database: str
    user: str
    superuser: bool
    owner: str
    owner_is_superuser: bool


@dataclass(frozen=True)
class Rights:
    """Whether a role exists, and what it may do. For a role that does not exist: what anybody may do."""

    name: str
    there: bool
    connects: bool
    uses: bool
    creates: bool


@dataclass(frozen=True)
class Object:
    """A TABLE, VIEW or FUNCTION."""

    kind: str
    name: str


def quoted(name: str) -> str:
    """The name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def look(connection: Connection) -> Place:
    """Raises ConfigurationError if our tables do not exist."""
    found = connection.execute(text(_LOOK)).mappings().one_or_none()
    if found is None:
        raise ConfigurationError("DATABASE_URL: the schema is empty: run `fakesweep migrate` first")
    return Place(**found)


def rights(connection: Connection, names: Sequence[str]) -> list[Rights]:
    """Returns the rights of each of these roles. `public` means anybody."""
    return [Rights(**row) for row in connection.execute(text(_RIGHTS), {"names": list(names)}).mappings()]


def has_rights_of(connection: Connection, member: str, role: str) -> bool:
    """Returns whether both roles exist, and `member` has the rights of `role`."""
    return bool(connection.execute(text(_MEMBER), {"member": member, "role": role}).scalar())


def objects_not_of(connection: Connection, owner: str) -> Iterator[Object]:
    """Returns our objects that belong to somebody else: tables, then views, then functions, which use both."""
    names = {"names": [*TABLES, *VIEWS], "prefix": TABLE_PREFIX, "owner": owner}
    for row in connection.execute(text(_RELATIONS), names):
        yield Object(row.kind, row.name)
    for row in connection.execute(text(_FUNCTIONS), {"names": list(FUNCTIONS), "owner": owner}):
        yield Object(row.kind, row.name)


def dashboards(connection: Connection, dashboard: str, others: Sequence[str]) -> dict[str, list[str]]:
    """Returns the logins that are dashboards and nothing else, each with its settings in this database, as
    `name=value`.
    """
    rows = connection.execute(text(_DASHBOARDS), {"dashboard": dashboard, "others": list(others)})
    return {row.name: row.setconfig or [] for row in rows}


def prefixes(connection: Connection) -> list[str]:
    """Returns the prefix of the roles that have grants in this database, or an empty text if there are none.

    A release may bring roles that such a database does not have yet.
    """
    found = list(connection.execute(text(_PREFIXES)).scalars())
    return [one for one in found if all(role.there for role in rights(connection, [f"{one}_{role}" for role in FIRST]))]


def members_of_each_other(connection: Connection, names: Sequence[str]) -> list[tuple[str, str]]:
    """Returns which of these roles are members of others among them: pairs of a member and a role."""
    return [(row.member, row.role) for row in connection.execute(text(_MEMBERSHIPS), {"names": list(names)})]
