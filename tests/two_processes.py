"""How `make test` divides the tests among two processes: which modules stay together, and what each process has alone.

The processes share Postgres, where each test has its own database, and the Redis server, where each process uses one
database and empties it: 15 and 14, unless TEST_REDIS_URL names another one. The modules that use RabbitMQ run in one
process, because they share its queues.
"""

import os
from pathlib import Path

from xdist.scheduler import LoadScopeScheduling

from worker.cpus import usable_cpus

TOGETHER = {
    "rabbitmq": (
        "acceptance/test_api_client.py",
        "acceptance/test_production_document.py",
        "acceptance/test_service.py",
        "contract/test_publishers.py",
        "integration/test_broker.py",
        "integration/test_check.py",
        "integration/test_door.py",
        "integration/test_document_snippets.py",
        "integration/test_listen.py",
        "integration/test_listeners.py",
        "integration/test_web_dead_letters.py",
    ),
    "vllm": (  # one engine, which takes half a minute to start
        "acceptance/test_held_out.py",
        "contract/test_detectors.py",
        "contract/test_engines.py",
        "contract/test_parity.py",
        "contract/test_ready_inputs.py",
    ),
}
"""Modules that run in the same process, by what they share. Every other module may run in either process."""

PROCESS = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
"""The number of this process, from 0."""

_GROUPS = {f"tests/{module}": group for group, modules in TOGETHER.items() for module in modules}


class WholeModules(LoadScopeScheduling):  # type: ignore[misc]  # pytest-xdist is not typed
    """Gives an idle process the next module, with all modules that must run with it."""

    # pytest-xdist has marks for such groups, which do nothing with pytest 9.2 (pytest-xdist issue 1386).
    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.partition("::")[0]
        return _GROUPS.get(module, module)


def group_of(module: Path) -> str | None:
    """Returns what the module shares with others, or None if it shares nothing."""
    return _GROUPS.get(module.relative_to(Path(__file__).parents[1]).as_posix())


def keep_to_one_core() -> None:
    """Lets models compute on one core, which is a different one in each process. Call it before torch is imported.

    If the threads of two models wait for each other on the same cores, both models become many times slower.
    """
    if "PYTEST_XDIST_WORKER" in os.environ:
        os.environ["OMP_NUM_THREADS"] = "1"
        os.environ["VLLM_CPU_OMP_THREADS_BIND"] = str(sorted(os.sched_getaffinity(0))[PROCESS % usable_cpus()])
