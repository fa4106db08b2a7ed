"""The role of the web process: a login with it can do all that the process does, and an upgrade creates it."""

from collections.abc import Iterator

import pytest
from psycopg.errors import InsufficientPrivilege

from producers import reviews, submissions
from producers.reviews import Stated
from tests.desk import desk_app, logged_in
from tests.processes import fakesweep
from tests.roles import Home, home, with_all_logins
from worker.broker import create_app
from worker.database import connect
from worker.messages import ImageRef
from worker.tables import DeskRole, Statement


@pytest.fixture
def bare(postgres_server_url: str, template: str) -> Iterator[Home]:
    with home(postgres_server_url, template) as made:
        yield made


@pytest.fixture
def roles(bare: Home) -> Home:
    with_all_logins(bare)
    return bare


def test_the_web_process_can_do_its_work(roles: Home, clean_redis_url: str) -> None:
    owner = connect(roles.url_of("owner"))
    reviews.add_reviewer(owner, "heron", DeskRole.LEAD, ["proxy:anna"])
    owner.dispose()
    web = connect(roles.url_of("web"))
    client = logged_in(desk_app(web), "heron")
    assert client.get("/pictures/x").status_code == 404, "somebody is logged in"
    refs = [ImageRef(uri="s3://photos/a.jpg")]
    scan = submissions.submit(create_app(clean_redis_url), web, refs)
    assert roles.sql(f"SELECT listed FROM scans WHERE id = '{scan}'") == [(1,)]
    web.dispose()
    environment = {"DATABASE_URL": roles.url_of("web"), "BROKER_URL": clean_redis_url}
    for command in (["status", "--json"], ["pause", str(scan)], ["flagged"], ["dead", "list", "--json"]):
        done = fakesweep(*command, environment=environment)
        assert "permission denied" not in done.stderr, (command, done.stderr)
    for command in (["reviewer", "add", "mallory"], ["reviewer", "disable", "heron"]):
        done = fakesweep(*command, environment=environment)
        assert (done.returncode, "permission denied" in done.stderr) == (1, True), done.stderr
        assert "Use a login whose role may do this in DATABASE_URL" in done.stderr


def test_the_web_process_reviews(roles: Home) -> None:
    from tests.integration.test_scans import Archive

    owner = connect(roles.url_of("owner"))
    archive = Archive(owner)
    archive.fill(2)
    scan = archive.sweep()["scan"]
    reviews.add_reviewer(owner, "heron")
    owner.dispose()
    web = connect(roles.url_of("web"))
    row = reviews.review(web, Stated(scan, "s3://b/00001.png", Statement.REAL, "heron"))
    assert row.statement == "real"
    web.dispose()
    with pytest.raises(InsufficientPrivilege):
        roles.sql("UPDATE reviews SET note = 'x'", roles.url_of("web"))


def without_web(made: Home) -> None:
    """Removes the role `web`, which a database of the release before does not have."""
    web = f"{made.prefix}_web"
    made.sql(f'DROP ROLE IF EXISTS "{made.login("web")}"; DROP OWNED BY "{web}"; DROP ROLE "{web}"')


def test_a_migration_creates_the_role(bare: Home) -> None:
    bare.make_roles()
    without_web(bare)
    done = fakesweep("migrate", environment={"DATABASE_URL": bare.url})
    assert (done.returncode, f"role {bare.prefix}_web\n" in done.stdout) == (0, True), done.stdout + done.stderr
    held = f"SELECT pg_has_role('{bare.prefix}_web', '{bare.prefix}_producer', 'USAGE')"
    assert bare.sql(held) == [(True,)]
    assert bare.sql(f"SELECT has_table_privilege('{bare.prefix}_web', 'logins', 'SELECT')") == [(True,)]
    assert len(bare.make_roles()) == 1, "only the grants are repeated"


def test_a_login_that_may_make_no_roles_still_migrates_and_is_warned(bare: Home) -> None:
    with_all_logins(bare)
    without_web(bare)
    bare.sql(f'REVOKE SELECT ON scans FROM "{bare.prefix}_worker"')
    done = fakesweep("migrate", environment={"DATABASE_URL": bare.url_of("owner")})
    assert done.returncode == 0, done.stderr
    assert f"role {bare.prefix}_web could not be made: run `fakesweep roles`" in done.stdout
    bare.sql("SELECT * FROM scans", bare.url_of("worker"))


def test_a_role_that_has_the_rights_of_another_by_mistake_loses_them(bare: Home) -> None:
    bare.make_roles()
    bare.sql(f'GRANT "{bare.prefix}_worker" TO "{bare.prefix}_dashboard"')
    said = [step.what for step in bare.make_roles()]
    assert f"{bare.prefix}_dashboard no longer has the rights of {bare.prefix}_worker" in said
    held = f"SELECT pg_has_role('{bare.prefix}_dashboard', '{bare.prefix}_worker', 'MEMBER')"
    assert bare.sql(held) == [(False,)]


def test_the_command_lists_roles_and_logins(database_url: str) -> None:
    environment = {"DATABASE_URL": database_url}

    def ran(*arguments: str) -> tuple[int, str]:
        done = fakesweep("reviewer", *arguments, environment=environment)
        return done.returncode, done.stdout or done.stderr

    login = "oidc:https://accounts.example.org|u 17|x"
    assert ran("add", "heron", "--role", "lead", "--login", login, "--login", "proxy:anna") == (0, "")
    assert ran("list") == (0, f"heron  active  lead  {login}  proxy:anna\n")
    assert ran("add", "heron")[0] == 0
    assert "heron  active  lead" in ran("list")[1], "their role stays"
    code, said = ran("add", "crane", "--login", "proxy:anna")
    assert (code, "is the login of heron" in said, "crane" in ran("list")[1]) == (2, True, False)
    assert ran("unlink", "heron", "--yes") == (0, "")
    assert ran("list") == (0, "heron  active  lead\n")
    for wrong in (
        ("add", "crane", "--login", "anna"),
        ("disable", "heron", "--role", "lead"),
        ("list", "--role", "lead"),
    ):
        assert ran(*wrong)[0] == 2, wrong
    assert ran("unlink", "nobody")[0] == 1
