"""The API does what its description says. Schemathesis sends requests that fit the description, and others that do not.

No answer is a 5xx. Each answer has a status and a shape that the description names.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.api import mounted, token_for
from tests.desk import settings as web_settings
from tests.integration.test_api_scopes import TABLE
from tests.integration.test_scans import Archive
from tests.roles import home
from worker import broker
from worker.database import connect
from worker.tables import Scope

EXAMPLES = 40
"""How many requests fit each operation's description, and how many do not."""

OPERATIONS = [key for key in TABLE if key[1] != "/openapi.json"]
MODES = [
    (*key, mode)
    for key in OPERATIONS
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    if (key[1], mode) != ("/health", GenerationMode.NEGATIVE)  # it has no parameter that could be wrong
]
MAY_REFUSE = {("POST", "/scans"), ("POST", "/submissions")}
"""These may refuse a request that fits the description: a source may not exist, or a uri may come twice."""


@pytest.fixture(scope="module")
def served(postgres_server_url: str, template: str, redis_url: str) -> Iterator[tuple[Any, str]]:
    """The description of an API whose database has a scan, and a token that may do everything."""
    with home(postgres_server_url, template) as made:
        database = connect(made.url)
        archive = Archive(database)
        archive.fill(6)
        archive.sweep()
        own = web_settings(api_rate_per_minute=1_000_000, api_max_wait_s=0, FAKESWEEP_ALLOWED_FOLDERS="/")
        app = mounted(database, broker=broker.create_app(redis_url), settings=own)
        yield schemathesis.openapi.from_asgi("/v1/openapi.json", app), token_for(database, *Scope)
        database.dispose()


@pytest.mark.parametrize(("method", "path", "mode"), MODES)
def test_every_answer_is_described(served: tuple[Any, str], method: str, path: str, mode: GenerationMode) -> None:
    schema, token = served
    asked = 0
    excluded = [positive_data_acceptance] if (method, path) in MAY_REFUSE else []

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=schema[path][method].as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        nonlocal asked
        case.call_and_validate(headers={"Authorization": f"Bearer {token}"}, excluded_checks=excluded)
        asked += 1

    ask()
    assert asked


def test_the_description_has_every_operation(served: tuple[Any, str]) -> None:
    found = {(one.ok().method.upper(), one.ok().path) for one in served[0].get_all_operations()}
    assert found == set(OPERATIONS)
