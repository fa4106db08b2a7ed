"""The description of the API against the API: Schemathesis asks whatever the description allows, and what it does not.

No answer is a 5xx, none is one that the description does not have, and each has the shape that is described.
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
"""Of each operation, and as many again that do not fit its description."""

OPERATIONS = [key for key in TABLE if key[1] != "/openapi.json"]
MODES = [
    (*key, mode)
    for key in OPERATIONS
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    if (key[1], mode) != ("/health", GenerationMode.NEGATIVE)  # there is nothing that could be wrong
]
MAY_REFUSE = {("POST", "/scans"), ("POST", "/submissions")}
"""What fits the description may be refused all the same: a source that is not there, or a uri that comes twice."""


@pytest.fixture(scope="module")
def served(postgres_server_url: str, template: str, redis_url: str) -> Iterator[tuple[Any, str]]:
    """The description of an API over a database with a scan, and a token that may do all."""
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
