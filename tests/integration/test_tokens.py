"""`fakesweep token` makes, lists and withdraws tokens: what is stored, and who may do it."""

import json

import psycopg
import pytest
from psycopg.errors import InsufficientPrivilege

from producers.reviews import add_reviewer
from producers.tokens import digest, find_token
from tests.processes import fakesweep
from tests.roles import home, with_all_logins
from worker.database import Database, connect


def test_a_token_is_shown_once_and_stored_as_its_hash(database: Database, database_url: str) -> None:
    add_reviewer(database, "heron")
    given = {"DATABASE_URL": database_url}
    scopes = ("--scope", "submit", "--scope", "review", "--reviewer", "heron", "--days", "90")
    made = fakesweep("token", "add", "client", *scopes, environment=given)
    assert made.returncode == 0, made.stderr
    token = made.stdout.strip()
    assert token.startswith("fakesweep_")
    with psycopg.connect(database_url) as connection:
        ((row, hashed),) = connection.execute("SELECT t::text, token_sha256 FROM api_tokens t").fetchall()
    assert token not in row
    assert hashed == digest(token)
    found = find_token(database, token)
    assert found is not None
    assert (found.name, found.scopes, found.reviewer) == ("client", ["submit", "review"], "heron")
    (listed,) = json.loads(fakesweep("token", "list", "--json", environment=given).stdout)["tokens"]
    assert (listed["state"], "token_sha256" in listed) == ("active", False)
    assert fakesweep("token", "withdraw", "client", "--yes", environment=given).returncode == 0
    assert "client  withdrawn  submit,review  as heron" in fakesweep("token", "list", environment=given).stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("add", "x"), "--scope"),
        (("add", "x", "--scope", "all"), "submit, read, review, scan"),
        (("add", "x", "--scope", "review"), "--reviewer"),
        (("add", "x", "--scope", "read", "--reviewer", "heron"), "--scope review"),
        (("add", "x", "--scope", "review", "--reviewer", "nobody"), "nobody"),
        (("add", "x", "--scope", "read", "--days", "0"), "--days"),
        (("add", " x", "--scope", "read"), "name"),
        (("add", "twice", "--scope", "read"), "take another name"),
        (("withdraw", "nobody"), "nobody"),
        (("withdraw",), "the name of a token"),
        (("list", "x"), "no name"),
        (("list", "--days", "1"), "belong to add"),
    ],
)
def test_bad_usage_of_token_gives_one_line(database_url: str, arguments: tuple[str, ...], said: str) -> None:
    given = {"DATABASE_URL": database_url}
    if "twice" in arguments:
        assert fakesweep("token", *arguments, environment=given).returncode == 0
    done = fakesweep("token", *arguments, environment=given)
    assert done.returncode in {1, 2}
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_only_the_owner_makes_tokens(postgres_server_url: str, template: str) -> None:
    with home(postgres_server_url, template) as made:
        with_all_logins(made)
        add = ("token", "add", "x", "--scope", "read")
        owner = {"DATABASE_URL": made.url_of("owner")}
        token = fakesweep(*add, environment=owner).stdout.strip()
        web = connect(made.url_of("web"))
        assert find_token(web, token) is not None
        web.dispose()
        with psycopg.connect(made.url_of("web")) as connection, pytest.raises(InsufficientPrivilege):
            connection.execute("UPDATE api_tokens SET scopes = '{scan}'")
        for role in ("web", "producer", "worker", "reviewer", "dashboard"):
            assert fakesweep(*add, environment={"DATABASE_URL": made.url_of(role)}).returncode != 0
