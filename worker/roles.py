"""Makes the roles of the database and gives each what `grants.py` says.

roles -> ownership -> grants -> roles that include others -> members -> time-outs of dashboards

Each step is a transaction. A step that has nothing to change is left out.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from worker.database import Database
from worker.errors import ConfigurationError
from worker.grants import FUNCTIONS, INCLUDES, TABLES, VIEWS, Role
from worker.revisions import newest
from worker.role_queries import (
    Place,
    Rights,
    dashboards,
    has_rights_of,
    look,
    members_of_each_other,
    objects_not_of,
    prefixes,
    quoted,
    rights,
)
from worker.role_steps import Step, do_step, recording, refused

IDLE_TIMEOUT_S = 60
"""A dashboard that leaves its transaction open would keep retention from dropping findings."""


@dataclass(frozen=True)
class Wanted:
    """What the command asks for.

    `members`: a role, and a login that becomes its member. `take_over`: the owner role gets tables that belong to
    another role. `missing`: roles that do not exist, and get nothing.
    """

    prefix: str = "fakesweep"
    members: Sequence[tuple[Role, str]] = field(default=())
    dashboard_timeout_s: float = 30
    take_over: bool = False
    missing: frozenset[Role] = frozenset()

    def name(self, role: Role) -> str:
        """The role's name in Postgres."""
        return f"{self.prefix}_{role}"


def make_roles(database: Database, wanted: Wanted, *, dry_run: bool = False) -> Iterator[Step]:
    """Makes everything that is missing, and yields each step when it is done. With `dry_run`, it only yields the steps.

    Raises ConfigurationError if Postgres refuses a step.
    """
    parts: tuple[Callable[[Connection, Wanted], Iterator[Step]], ...] = (
        _roles, _ownership, _grants, _includes, _members, _timeouts,
    )  # fmt: skip
    for part in parts:
        # Each part sees the result of the one before.
        for step in _read(database, part, wanted):
            if not dry_run:
                do_step(database, step)
            yield step


def renew_grants(database: Database) -> list[Step]:
    """Renews the grants of all roles that this database has, so that new tables have their grants after a migration.

    If a new release brings a role, it is made, if the login may make roles. Otherwise a step without statements says
    what to do, and the other roles have their grants. Raises the same errors as make_roles.
    """
    with database.connect() as connection:
        found = prefixes(connection)
    done: list[Step] = []
    for wanted in map(Wanted, found):
        new = _read(database, _new_roles, wanted)
        lacking = [step for step in new if not _could_do(database, step)]
        done += [step for step in new if step not in lacking]
        done += [Step(f"{step.what} could not be made: run `fakesweep roles` (docs/roles.md)", ()) for step in lacking]
        missing = frozenset(role for role in Role if any(step.what == _named(wanted, role) for step in lacking))
        for step in _read(database, _grants, replace(wanted, missing=missing)):
            do_step(database, step)
            done.append(step)
    return done


def _could_do(database: Database, step: Step) -> bool:
    try:
        do_step(database, step)
    except ConfigurationError:
        return False
    return True


def _new_roles(connection: Connection, wanted: Wanted) -> Iterator[Step]:
    """Yields one step for each missing role. It makes the role and gives it the rights of those that it includes."""
    for role, found in zip(Role, rights(connection, [wanted.name(role) for role in Role]), strict=True):
        if not found.there:
            included = [f"GRANT {quoted(wanted.name(one))} TO {quoted(found.name)}" for one in INCLUDES.get(role, ())]
            yield Step(_named(wanted, role), [*_making(look(connection), role, found), *included])


def _named(wanted: Wanted, role: Role) -> str:
    return f"role {wanted.name(role)}"


def _read(database: Database, part: Callable[[Connection, Wanted], Iterator[Step]], wanted: Wanted) -> list[Step]:
    try:
        with database.connect() as connection:
            return list(part(connection, wanted))
    except SQLAlchemyError as error:
        raise refused("the roles cannot be read", str(getattr(error, "orig", None) or error)) from error


def _roles(connection: Connection, wanted: Wanted) -> Iterator[Step]:
    """Makes the roles, and lets them connect and look up names."""
    place = look(connection)
    schema = quoted(place.schema)
    for role, found in zip(Role, rights(connection, [wanted.name(role) for role in Role]), strict=True):
        if statements := _making(place, role, found):
            yield Step(_named(wanted, role), statements)
    (anybody,) = rights(connection, ["public"])
    if anybody.creates:
        # Needed in databases from before Postgres 15: there, anybody can create a function that is called instead of
        # one of our functions.
        yield Step(
            f"only the owner creates in schema {place.schema}", [f"REVOKE CREATE ON SCHEMA {schema} FROM PUBLIC"]
        )


def _making(place: Place, role: Role, found: Rights) -> list[str]:
    """Returns the missing statements that make a role, and let it connect and look up names."""
    name, schema = quoted(found.name), quoted(place.schema)
    statements = [] if found.there else [f"CREATE ROLE {name} NOLOGIN"]
    if not found.connects:
        statements.append(f"GRANT CONNECT ON DATABASE {quoted(place.database)} TO {name}")
    if not found.uses:
        statements.append(f"GRANT USAGE ON SCHEMA {schema} TO {name}")
    if role is Role.OWNER and not found.creates:
        statements.append(f"GRANT CREATE ON SCHEMA {schema} TO {name}")
    return statements


def _ownership(connection: Connection, wanted: Wanted) -> Iterator[Step]:
    """Gives our tables, views and functions to the owner role, or to the role that has them already."""
    place, own = look(connection), wanted.name(Role.OWNER)
    moves = wanted.take_over or place.owner_is_superuser or place.owner in {own, place.user}
    owner = own if moves else place.owner
    if moves:
        # So that a login which connected as the owner until now keeps its rights. ALTER … OWNER requires it, too.
        former = [(place.user, place.superuser), (place.owner, place.owner_is_superuser)]
        joining = {name for name, is_superuser in former if not is_superuser and name != own}
        for name in sorted(joining):
            if not has_rights_of(connection, name, own):
                # Without --take-over it was the other way round, and a role cannot be a member of its own member.
                back = [f"REVOKE {quoted(name)} FROM {quoted(own)}"] if has_rights_of(connection, own, name) else []
                yield Step(f"{name} has the rights of {own}", [*back, f"GRANT {quoted(own)} TO {quoted(name)}"])
    elif not has_rights_of(connection, own, owner):
        what = f"the tables stay with {owner}, and {own} has its rights; --take-over moves them"
        yield Step(what, [f"GRANT {quoted(owner)} TO {quoted(own)}"])
    for one in objects_not_of(connection, owner):
        place_of = f"{quoted(place.schema)}.{quoted(one.name)}"
        yield Step(f"{one.name} belongs to {owner}", [f"ALTER {one.kind} {place_of} OWNER TO {quoted(owner)}"])


def _grants(connection: Connection, wanted: Wanted) -> Iterator[Step]:
    """Grants what is in grants.py, and revokes everything else."""
    place = look(connection)
    statements = [*_as_owner(place), *_grant_all(place, wanted)]
    statements.append(recording(quoted(place.schema), wanted.prefix, {"release": newest()}))
    count = f"{len(TABLES)} tables, {len(VIEWS)} views and {len(FUNCTIONS)} functions"
    yield Step(f"grants on {count} to {wanted.prefix}_…", statements)


def _as_owner(place: Place) -> list[str]:
    own = place.superuser or place.user == place.owner
    return [] if own else [f"SET LOCAL ROLE {quoted(place.owner)}"]


def _grant_all(place: Place, wanted: Wanted) -> Iterator[str]:
    schema = quoted(place.schema)
    others = ", ".join(quoted(wanted.name(one)) for one in Role if one is not Role.OWNER and one not in wanted.missing)
    for name, granted in {**TABLES, **VIEWS}.items():
        yield f"REVOKE ALL ON {schema}.{quoted(name)} FROM {others}"
        for role, privileges in granted.items():
            if role not in wanted.missing:
                yield f"GRANT {privileges} ON {schema}.{quoted(name)} TO {quoted(wanted.name(role))}"
    for name, callers in FUNCTIONS.items():
        if callers is not None:
            yield f"REVOKE ALL ON FUNCTION {schema}.{quoted(name)} FROM PUBLIC, {others}"
            for role in callers:
                if role not in wanted.missing:
                    yield f"GRANT EXECUTE ON FUNCTION {schema}.{quoted(name)} TO {quoted(wanted.name(role))}"


def _includes(connection: Connection, wanted: Wanted) -> Iterator[Step]:
    """Gives each role the rights of those that it includes, and revokes those of others."""
    intended = {(wanted.name(role), wanted.name(one)) for role, included in INCLUDES.items() for one in included}
    for member, role in members_of_each_other(connection, [wanted.name(role) for role in Role]):
        if (member, role) not in intended:
            yield Step(f"{member} no longer has the rights of {role}", [f"REVOKE {quoted(role)} FROM {quoted(member)}"])
    for member, role in sorted(intended):
        if not has_rights_of(connection, member, role):
            yield Step(f"{member} has the rights of {role}", [f"GRANT {quoted(role)} TO {quoted(member)}"])


def _members(connection: Connection, wanted: Wanted) -> Iterator[Step]:
    place = look(connection)
    for role, login in wanted.members:
        (found,) = rights(connection, [login])
        if not found.there:
            raise ConfigurationError(f"there is no role {login}: CREATE ROLE {quoted(login)} LOGIN PASSWORD '…'")
        if not has_rights_of(connection, login, wanted.name(role)):
            what = f"{login} is a {role}"
            granted = f"GRANT {quoted(wanted.name(role))} TO {quoted(login)}"
            told = recording(quoted(place.schema), login, {"role": wanted.name(role)})
            yield Step(what, [granted, *_as_owner(place), told])


def _timeouts(connection: Connection, wanted: Wanted) -> Iterator[Step]:
    """A setting of a role does not apply to its members, so each login needs its own."""
    place = look(connection)
    others = [wanted.name(role) for role in Role if role is not Role.DASHBOARD]
    settings = {
        "statement_timeout": f"{round(wanted.dashboard_timeout_s * 1000)}ms",
        "idle_in_transaction_session_timeout": f"{IDLE_TIMEOUT_S * 1000}ms",
        # Compiling the query of a large view takes five times as long as answering it.
        "jit": "off",
    }
    for login, there in dashboards(connection, wanted.name(Role.DASHBOARD), others).items():
        of = f"ALTER ROLE {quoted(login)} IN DATABASE {quoted(place.database)}"
        missing = [name for name, value in settings.items() if f"{name}={value}" not in there]
        if missing:
            what = f"statements of {login} end after {wanted.dashboard_timeout_s:g} s"
            yield Step(what, [f"{of} SET {name} = '{settings[name]}'" for name in missing])
