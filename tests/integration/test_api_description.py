"""The description of the API against the API: Schemathesis asks whatever the description allows, and what it does not.

No answer is a 5xx, none is one that the description does not have, and each has the shape that is described.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, settings

from tests.api import mounted, token_for
from tests.desk import settings as web_settings
from tests.integration.test_scans import Archive
from tests.roles import home
from worker import broker
from worker.database import connect
from worker.tables import Scope

EXAMPLES = 25
"""Of each operation, and as many again that do not fit its description."""


@pytest.fixture(scope="module")
def served(postgres_server_url: str, template: str, redis_url: str) -> Iterator[tuple[FastAPI, str]]:
    """The API over a database with a scan, and a token that may do all."""
    with home(postgres_server_url, template) as made:
        database = connect(made.url)
        archive = Archive(database)
        archive.fill(6)
        archive.sweep()
        given = web_settings(api_rate_per_minute=1_000_000, api_max_wait_s=0, FAKESWEEP_ALLOWED_FOLDERS="/")
        app = mounted(database, broker=broker.create_app(redis_url), settings=given)
        yield app, token_for(database, *Scope)
        database.dispose()


@pytest.fixture
def described(served: tuple[FastAPI, str]) -> Any:
    return schemathesis.openapi.from_asgi("/v1/openapi.json", served[0])


schema = schemathesis.pytest.from_fixture("described")


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_described(case: Any, served: tuple[FastAPI, str]) -> None:
    headers = {"Authorization": f"Bearer {served[1]}"}
    case.call_and_validate(headers=headers)
