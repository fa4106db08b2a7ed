"""What each role of the database may do, and what is refused to it. Postgres and the logins are real."""

from collections.abc import Iterator
from uuid import UUID

import psycopg
import pytest
from psycopg.errors import (
    InsufficientPrivilege,
    InvalidParameterValue,
    QueryCanceled,
    RaiseException,
    SerializationFailure,
)

from producers import reviews
from producers.reviews import Stated
from tests.integration.test_scans import Archive
from tests.processes import fakesweep
from tests.roles import Home, home, with_all_logins
from worker.database import connect
from worker.errors import ConfigurationError
from worker.grants import FUNCTIONS, INCLUDES, TABLES, VIEWS, Role
from worker.tables import Statement

OTHERS = [role for role in Role if role is not Role.OWNER]
APPEND_ONLY = ("verdicts", "reviews")


@pytest.fixture(scope="module")
def roles(postgres_server_url: str, template: str) -> Iterator[Home]:
    """A database with a scan, a review and a login for each role."""
    with home(postgres_server_url, template) as made:
        with_all_logins(made)
        database = connect(made.url)
        archive = Archive(database)
        archive.fill(6)
        archive.images["s3://b/text.png"] = b"text"
        scan = UUID(archive.sweep()["scan"])
        reviews.add_reviewer(database, "r1")
        reviews.review(database, Stated(scan, "s3://b/00000.png", Statement.FAKE, "r1"))
        database.dispose()
        yield made


def run(roles: Home, role: str, statement: str) -> None:
    """Runs a statement as the login with this role, and rolls it back."""
    with psycopg.connect(roles.url_of(role)) as connection:
        connection.execute(statement.encode())
        connection.rollback()


COPY_FINDING = "INSERT INTO findings (partition, scan_id, uri, outcome, reason, attempts) \
SELECT partition, scan_id, 's3://b/new.png', 'failed', 'corrupt', 1 FROM findings LIMIT 1"
COPY_VERDICT = "INSERT INTO verdicts (sha256, detector_id, uri, width, height, explain, answer, score, completion, \
contradicts, prompt_tokens, completion_tokens, latency_ms) SELECT sha256, detector_id, uri, width, height, explain, \
answer, score, completion, contradicts, 1, 1, 1 FROM verdicts LIMIT 1"
REVIEW = "INSERT INTO reviews (scan_id, uri, statement, reviewer) SELECT scan_id, 's3://b/00003.png', 'real', 'r1' \
FROM finding_details LIMIT 1"
CLAIM = "INSERT INTO claims (sha256, id, reviewer, until) VALUES (repeat('0', 64), gen_random_uuid(), 'r1', now()); \
UPDATE claims SET until = now(); DELETE FROM claims"
LOGIN = "INSERT INTO logins (identity, reviewer) VALUES ('proxy:mallory', 'r1')"
TOKEN = "INSERT INTO api_tokens (name, token_sha256, scopes) VALUES ('t', repeat('0', 64), '{read}')"
OUTBOX = "SELECT secret FROM webhook_endpoints; UPDATE webhook_endpoints SET disabled_at = now(); \
UPDATE outbox SET state = 'dead', ended_at = now(); DELETE FROM outbox; SELECT * FROM drift"
ALLOWED = [
    ("webhooks", OUTBOX),
    ("worker", COPY_VERDICT),
    ("worker", COPY_FINDING),
    ("worker", "DELETE FROM findings WHERE outcome = 'failed'"),
    ("worker", "UPDATE scans SET judged = judged + 1, status = 'running', policy = policy"),
    ("worker", "INSERT INTO message_tries (message_id, tries) VALUES (gen_random_uuid(), 1)"),
    ("worker", "SELECT ensure_findings_partition('live_2031_01')"),
    ("producer", COPY_FINDING),
    ("producer", "UPDATE scans SET cursor = 'c', dropped_at = now()"),
    ("producer", "UPDATE scans SET dropped_at = now(); DELETE FROM findings"),
    ("producer", "SELECT ensure_findings_partition('scan_' || repeat('0', 32))"),
    ("producer", "SELECT count(*) FROM reviews, contents, finding_details, review_queue"),
    ("reviewer", REVIEW),
    ("web", REVIEW),
    ("web", COPY_FINDING),
    ("web", "SELECT * FROM reviewers, logins, api_tokens, review_queue, content_places, finding_details"),
    ("web", CLAIM),
    ("web", "INSERT INTO skips (reviewer, sha256, until) VALUES ('r1', repeat('0', 64), now())"),
    ("web", "INSERT INTO second_looks (sha256, first_reviewer) VALUES (repeat('0', 64), 'r1')"),
    ("web", "SELECT ensure_findings_partition('scan_' || repeat('0', 32))"),
    ("worker", "UPDATE content_hashes SET in_question = true"),
    ("web", "SELECT count(*) FROM content_hashes, contents WHERE 1 = ANY (pdq_near_words(1))"),
    ("owner", "TRUNCATE findings"),
    ("owner", "DELETE FROM findings"),
    ("owner", "UPDATE reviewers SET active = false"),
    ("owner", "CREATE TABLE more (id int)"),
]
REFUSED = [
    *((role, f"TRUNCATE {table}") for role in OTHERS for table in ("verdicts", "reviews", "findings", "scans")),
    *(
        (role, f"DELETE FROM {table}")
        for role in OTHERS
        for table in (*APPEND_ONLY, "scans", "objects", "contents", "content_hashes")
    ),
    *((role, f"UPDATE {table} SET uri = uri") for role in OTHERS for table in (*APPEND_ONLY, "findings")),
    *((role, "DELETE FROM findings WHERE outcome <> 'failed'") for role in OTHERS),
    *((role, "DELETE FROM findings") for role in OTHERS),
    *((role, "CREATE TABLE more (id int)") for role in OTHERS),
    *((role, "DROP TABLE findings") for role in OTHERS),
    *((role, "ALTER TABLE verdicts DISABLE TRIGGER append_only") for role in OTHERS),
    *((role, "INSERT INTO findings_hourly SELECT * FROM findings_hourly") for role in OTHERS),
    *((role, "UPDATE contents SET statement = 'real'") for role in OTHERS),
    *((role, "INSERT INTO reviewers (name) VALUES ('r2')") for role in OTHERS),
    *((role, "UPDATE alembic_version SET version_num = '0001'") for role in OTHERS),
    *((role, "UPDATE scans SET source = 's3://other/'") for role in OTHERS),
    *((role, "UPDATE detectors SET name = 'other'") for role in OTHERS),
    *((role, REVIEW.replace("finding_details", "findings")) for role in ("worker", "producer", "dashboard")),
    ("reviewer", REVIEW.replace("reviewer)", "reviewer, created_at)").replace("'r1'", "'r1', now() - interval '1 y'")),
    *((role, LOGIN) for role in OTHERS),
    *((role, TOKEN) for role in OTHERS),
    *((role, "UPDATE reviewers SET role = 'admin'") for role in OTHERS),
    *((role, "UPDATE api_tokens SET withdrawn_at = NULL") for role in OTHERS),
    *((role, "SELECT secret FROM webhook_endpoints") for role in OTHERS if role is not Role.WEBHOOKS),
    *((role, "SELECT data FROM outbox") for role in OTHERS if role is not Role.WEBHOOKS),
    ("webhooks", "UPDATE webhook_endpoints SET url = 'https://example.org/'"),
    ("webhooks", "INSERT INTO webhook_endpoints (name, url, kinds, secret) VALUES ('e', 'u', '{}', 's')"),
    ("webhooks", "UPDATE outbox SET data = '{}'"),
    ("webhooks", "SELECT * FROM findings"),
    *((role, "SELECT * FROM logins") for role in OTHERS if role is not Role.WEB),
    *((role, "SELECT * FROM api_tokens") for role in OTHERS if role is not Role.WEB),
    *((role, CLAIM) for role in OTHERS if role is not Role.WEB),
    ("web", COPY_VERDICT),
    ("web", "UPDATE idempotency_keys SET request_sha256 = ''"),
    ("worker", "UPDATE scans SET dropped_at = now()"),
    ("worker", "UPDATE content_hashes SET pdq = pdq"),
    ("worker", "SELECT * FROM reviews"),
    ("worker", "SELECT * FROM contents"),
    ("worker", "SELECT drop_findings_partition(partition) FROM scans"),
    ("producer", "SELECT drop_findings_partition(partition) FROM scans"),
    ("producer", COPY_VERDICT),
    ("producer", "UPDATE scans SET dropped_at = now(); UPDATE scans SET dropped_at = NULL"),
    ("producer", "UPDATE scans SET status = 'running'; UPDATE scans SET dropped_at = now()"),
    *((role, "SELECT ensure_findings_partition('live_2031_01')") for role in ("reviewer", "dashboard")),
    *((role, "SELECT drop_findings_partition('live_2031_01')") for role in ("reviewer", "dashboard")),
]


@pytest.mark.parametrize(("role", "statement"), ALLOWED)
def test_what_a_role_may_do(roles: Home, role: str, statement: str) -> None:
    run(roles, role, statement)


@pytest.mark.parametrize(("role", "statement"), REFUSED)
def test_what_a_role_may_not_do(roles: Home, role: str, statement: str) -> None:
    with pytest.raises(InsufficientPrivilege):
        run(roles, role, statement)


def test_a_dropped_scan_gets_no_findings(roles: Home) -> None:
    with pytest.raises(SerializationFailure, match="is dropped"):
        run(roles, "producer", f"UPDATE scans SET dropped_at = now(); {COPY_FINDING}")


@pytest.mark.parametrize("statement", ["TRUNCATE {}", "DELETE FROM {}", "UPDATE {} SET uri = 's3://b/other.png'"])
@pytest.mark.parametrize("table", APPEND_ONLY)
def test_even_the_owner_changes_no_append_only_table_by_mistake(roles: Home, table: str, statement: str) -> None:
    with pytest.raises(RaiseException, match="append-only"):
        run(roles, "owner", statement.format(table))


@pytest.mark.parametrize("role", OTHERS)
@pytest.mark.parametrize("table", TABLES)
def test_each_role_has_exactly_the_rights_that_are_listed(roles: Home, role: Role, table: str) -> None:
    asked = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")
    columns = ("SELECT", "INSERT", "UPDATE", "REFERENCES")
    told = " ".join(TABLES[table].get(one, "") for one in (role, *INCLUDES.get(role, ())))
    for privilege in asked:
        function = "has_any_column_privilege" if privilege in columns else "has_table_privilege"
        statement = f"SELECT {function}('{roles.prefix}_{role}', '{table}', '{privilege}')"
        assert roles.sql(statement) == [(privilege in told,)], privilege


@pytest.mark.parametrize("role", ["dashboard", "reviewer"])
@pytest.mark.parametrize("view", VIEWS)
def test_views_are_read_without_a_right_on_a_table(roles: Home, role: str, view: str) -> None:
    run(roles, role, f"SELECT * FROM {view}")


@pytest.mark.parametrize("table", [*TABLES, "pg_authid"])
def test_a_dashboard_reads_only_views(roles: Home, table: str) -> None:
    with pytest.raises(InsufficientPrivilege):
        run(roles, "dashboard", f"SELECT * FROM {table}")


def test_a_slow_statement_of_a_dashboard_is_ended(roles: Home) -> None:
    assert roles.make_roles(dashboard_timeout_s=0.2)[-1].what.endswith("end after 0.2 s")
    with pytest.raises(QueryCanceled, match="statement timeout"):
        run(roles, "dashboard", "SELECT pg_sleep(20)")
    run(roles, "producer", "SELECT pg_sleep(0.3)")
    roles.make_roles()
    assert roles.sql("SHOW statement_timeout", roles.url_of("dashboard")) == [("30s",)]
    assert roles.sql("SHOW idle_in_transaction_session_timeout", roles.url_of("dashboard")) == [("1min",)]
    assert roles.sql("SHOW jit", roles.url_of("dashboard")) == [("off",)]


def test_a_login_that_is_a_worker_too_has_no_timeout(roles: Home) -> None:
    both = roles.make_login("both")
    roles.make_roles((Role.DASHBOARD, both), (Role.WORKER, both))
    assert roles.sql("SHOW statement_timeout", roles.url_of("both")) == [("0",)]


def test_every_object_of_the_schema_has_its_entry(roles: Home) -> None:
    found = roles.sql(
        "SELECT relkind::text, relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        " AND relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT relispartition"
    )
    assert {name for kind, name in found if kind == "v"} == set(VIEWS)
    assert {name for kind, name in found if kind != "v"} == set(TABLES)
    functions = roles.sql("SELECT proname, prosecdef FROM pg_proc WHERE pronamespace = 'public'::regnamespace")
    assert {name for name, _ in functions} == set(FUNCTIONS)
    assert {name for name, definer in functions if definer} == {
        name for name in FUNCTIONS if FUNCTIONS[name] is not None
    }


def test_functions_with_the_owners_rights_have_a_safe_search_path(roles: Home) -> None:
    for name, settings in roles.sql("SELECT proname, proconfig FROM pg_proc WHERE prosecdef"):
        assert "search_path=public, pg_temp" in settings, name
    views = roles.sql("SELECT relname FROM pg_class WHERE relkind = 'v' AND reloptions::text ~ 'security_invoker'")
    assert views == []


NO_TRIGGER = "forget_pictures"  # tests/integration/test_forget.py tries who may call it


@pytest.mark.parametrize("function", [name for name in FUNCTIONS if FUNCTIONS[name] == () and name != NO_TRIGGER])
def test_nobody_else_can_put_our_triggers_on_a_table(roles: Home, function: str) -> None:
    """Such a trigger would write made-up rows, with the owner's rights."""
    with pytest.raises(InsufficientPrivilege):
        run(
            roles, "dashboard",
            "CREATE TEMP TABLE made_up (id int); CREATE TRIGGER mine AFTER INSERT ON made_up"
            f" REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION {function}()",
        )  # fmt: skip


def test_a_temporary_table_does_not_replace_one_of_ours(roles: Home) -> None:
    """In a worker's temporary table `scans`, all scans are dropped."""
    with pytest.raises(InsufficientPrivilege, match="only failed findings"):
        run(
            roles, "worker",
            "CREATE TEMP TABLE scans AS SELECT id, now() AS dropped_at FROM public.scans; DELETE FROM findings",
        )  # fmt: skip


@pytest.mark.parametrize(
    "name", ["x", "live_2026_11'); DROP TABLE scans; --", 'scan_"x', "scan_0", "", "live_2026_11\n"]
)
def test_a_partition_with_a_wrong_name_is_refused(roles: Home, name: str) -> None:
    quoted = name.replace("'", "''")
    with pytest.raises(InvalidParameterValue):
        run(roles, "worker", f"SELECT ensure_findings_partition('{quoted}')")


def test_findings_of_a_scan_at_work_are_not_dropped(roles: Home) -> None:
    for change in ("dropped_at = NULL", "dropped_at = now(), status = 'running'"):
        with pytest.raises(InsufficientPrivilege, match="not over"):
            run(roles, "producer", f"UPDATE scans SET {change}; SELECT drop_findings_partition(partition) FROM scans")
    run(roles, "producer", "UPDATE scans SET dropped_at = now(); SELECT drop_findings_partition(partition) FROM scans")


def test_a_second_run_only_repeats_the_grants(roles: Home) -> None:
    assert [step.what for step in roles.make_roles()] == [f"grants on {counts()} to {roles.prefix}_…"]
    roles.sql(f"GRANT TRUNCATE ON verdicts TO {roles.prefix}_worker; REVOKE SELECT ON scans FROM {roles.prefix}_worker")
    roles.make_roles(url=roles.url_of("owner"))
    run(roles, "worker", "SELECT * FROM scans")
    with pytest.raises(InsufficientPrivilege):
        run(roles, "worker", "TRUNCATE verdicts")


def counts() -> str:
    return f"{len(TABLES)} tables, {len(VIEWS)} views and {len(FUNCTIONS)} functions"


def test_the_command(roles: Home) -> None:
    environment = {"DATABASE_URL": roles.url}
    dry = fakesweep("roles", "--prefix", f"{roles.prefix}x", "--dry-run", environment=environment)
    assert dry.returncode == 0, dry.stderr
    assert f'CREATE ROLE "{roles.prefix}x_owner" NOLOGIN;\n' in dry.stdout
    assert roles.sql(f"SELECT FROM pg_roles WHERE rolname = '{roles.prefix}x_owner'") == []
    for login, code, said in (("board", 0, "is a dashboard"), ("nobody", 2, "there is no role")):
        if code == 0:
            roles.make_login(login)
        arguments = ("roles", "--prefix", roles.prefix, "--grant", f"dashboard={roles.login(login)}")
        done = fakesweep(*arguments, environment=environment)
        assert (done.returncode, said in done.stdout + done.stderr) == (code, True), done.stderr
    for wrong in ("grafana", "boss=grafana"):
        assert fakesweep("roles", "--grant", wrong, environment=environment).returncode == 2
    refused = fakesweep("roles", "--prefix", f"{roles.prefix}y", environment={"DATABASE_URL": roles.url_of("owner")})
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "permission denied to create role" in refused.stderr


def test_a_reviewer_reviews_and_the_statement_counts(roles: Home) -> None:
    uri = "s3://b/00003.png"
    ((scan,),) = roles.sql(f"SELECT scan_id FROM finding_details WHERE uri = '{uri}'")
    database = connect(roles.url_of("reviewer"))
    reviews.review(database, Stated(scan, uri, Statement.REAL, "r1"))
    database.dispose()
    stands = roles.sql(f"SELECT statement FROM review_status JOIN objects USING (sha256) WHERE uri = '{uri}'")
    assert stands == [("real",)]


def test_a_step_that_postgres_refuses_is_a_configuration_error(roles: Home) -> None:
    with pytest.raises(ConfigurationError, match=r"docs/roles\.md"):
        roles.make_roles(url=roles.url_of("worker"))
