"""The services that the tests use: those of this machine if they run, or embedded ones.

TEST_DATABASE_URL, TEST_AMQP_URL, TEST_REDIS_URL and TEST_S3_URL name them. Without these variables, the usual local
addresses are tried; S3 is then always embedded. Without RabbitMQ, the tests that need it are skipped with a reason, but
never in CI. `make test` runs the tests in two processes: see tests.two_processes.
"""

import os
import signal
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import boto3
import psycopg
import pytest
import redis
from kombu import Connection
from sqlalchemy.engine import make_url

from deploy.demo import services
from tests.two_processes import PROCESS, WholeModules, group_of, keep_to_one_core
from worker.database import Database, connect
from worker.detector.description import VlmDescription, vlm_only
from worker.detector.engine import Engine
from worker.detector.loading import load_description
from worker.detector.supply import supply
from worker.migrate import upgrade
from worker.settings import Settings
from worker.testing import ScriptedEngine

pytest_plugins = ("tests.chromium", "tests.reports")
DEMO_DETECTOR = Path(__file__).parents[1] / "deploy" / "demo" / "detector"
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")  # GiB
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

IN_CI = bool(os.environ.get("CI"))
keep_to_one_core()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> WholeModules:
    """See tests.two_processes."""
    return WholeModules(config, log)


def pytest_configure() -> None:
    """Handles the signals of a terminal as in one. `nohup` and background jobs ignore them, and children would, too."""
    for number, handler in ((signal.SIGHUP, signal.SIG_DFL), (signal.SIGINT, signal.default_int_handler)):
        if signal.getsignal(number) == signal.SIG_IGN and threading.current_thread() is threading.main_thread():
            signal.signal(number, handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Coverage is measured in unit tests only: it makes code 50 % slower, and other tests start other processes."""
    for item in items:
        if "unit" not in item.path.parts:
            item.add_marker(pytest.mark.no_cover)


@pytest.fixture(scope="session")
def parts_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("parts")


@pytest.fixture(scope="session")
def embedded_postgres_url(parts_folder: Path) -> Iterator[str]:
    with services.embedded_postgres(parts_folder / "postgres") as url:
        yield url


@pytest.fixture(scope="session")
def embedded_redis_url(parts_folder: Path) -> Iterator[str]:
    with services.embedded_redis(parts_folder / "redis") as url:
        yield url


@pytest.fixture(scope="session")
def postgres_server_url(request: pytest.FixtureRequest) -> str:
    """A Postgres server on which databases may be made: that of this machine, or the embedded one."""
    for url in (
        os.environ.get("TEST_DATABASE_URL"),
        "postgresql:///postgres",
        "postgresql://postgres@127.0.0.1/postgres",
    ):
        if url:
            try:
                psycopg.connect(url, connect_timeout=3).close()
            except psycopg.OperationalError:
                continue
            return url
    return str(request.getfixturevalue("embedded_postgres_url"))


@pytest.fixture(scope="session")
def redis_url(request: pytest.FixtureRequest) -> str:
    url = database_of_process(os.environ.get("TEST_REDIS_URL", "redis://127.0.0.1:6379/15"))
    try:
        with redis.Redis.from_url(url, socket_connect_timeout=3) as client:
            client.ping()
    except redis.RedisError:
        return str(request.getfixturevalue("embedded_redis_url"))
    return url


def database_of_process(url: str) -> str:
    """Returns the URL for the first process. Other processes get a database with a lower number."""
    if PROCESS == 0:
        return url
    parts = urlsplit(url)
    number = int(parts.path.lstrip("/") or "0") - PROCESS
    assert number >= 0, f"TEST_REDIS_URL must name database {PROCESS} or higher: each test process has its own"
    return urlunsplit(parts._replace(path=f"/{number}"))


@pytest.fixture(scope="session")
def amqp_url() -> str:
    url = os.environ.get("TEST_AMQP_URL", "amqp://guest:guest@127.0.0.1:5672//")
    try:
        with Connection(url, connect_timeout=3) as connection:
            connection.connect()
    except OSError:
        if IN_CI:
            raise
        pytest.skip("there is no RabbitMQ here (TEST_AMQP_URL)")
    return url


@pytest.fixture
def clean_broker_url(request: pytest.FixtureRequest) -> str:
    """The broker that the test's parameter names ("amqp" or "redis"), with our queues empty."""
    return str(request.getfixturevalue(f"clean_{request.param}_url"))


@pytest.fixture
def clean_redis_url(redis_url: str) -> str:
    empty_queues(redis_url)
    return redis_url


@pytest.fixture
def clean_amqp_url(request: pytest.FixtureRequest, amqp_url: str) -> str:
    assert group_of(request.path) == "rabbitmq", "all tests that use RabbitMQ share its queues: add the module there"
    empty_queues(amqp_url)
    return amqp_url


def empty_queues(url: str) -> None:
    from worker.broker import declare_queues
    from worker.messages import DEAD_QUEUE, LIVE_QUEUE, SCAN_QUEUE

    if url.startswith("redis"):
        with redis.Redis.from_url(url) as client:
            client.flushdb()
        return
    with Connection(url) as connection:
        declare_queues(connection)
        for queue in (LIVE_QUEUE, SCAN_QUEUE, DEAD_QUEUE):
            connection.default_channel.queue_purge(queue)


def make_template(server_url: str) -> tuple[str, Callable[[], None]]:
    """Makes a migrated database to clone. Returns its name, and the function that drops it."""
    name = f"fakesweep_template_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    database = connect(url_of(server_url, name))
    upgrade(database)
    database.dispose()
    return name, lambda: drop_database(server_url, name)


def url_of(server_url: str, name: str) -> str:
    return make_url(server_url).set(database=name).render_as_string(hide_password=False)


def drop_database(server_url: str, name: str) -> None:
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


@pytest.fixture(scope="session")
def template(postgres_server_url: str) -> Iterator[str]:
    name, drop = make_template(postgres_server_url)
    yield name
    drop()


@pytest.fixture
def database_url(postgres_server_url: str, template: str) -> Iterator[str]:
    """A migrated database for one test, cloned from the template."""
    name = f"fakesweep_test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres_server_url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    yield url_of(postgres_server_url, name)
    drop_database(postgres_server_url, name)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    handle = connect(database_url)
    yield handle
    handle.dispose()


@pytest.fixture(scope="session")
def s3_url(parts_folder: Path) -> Iterator[str]:
    if url := os.environ.get("TEST_S3_URL"):
        yield url
        return
    with services.s3_server(parts_folder / "s3") as url:
        yield url


@pytest.fixture
def s3_environment(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Sets the environment in which boto3 uses the tests' S3 server. Returns the server's URL."""
    for name, value in {
        "AWS_ENDPOINT_URL_S3": s3_url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    return s3_url


@pytest.fixture
def bucket(s3_environment: str) -> str:
    name = f"test-{uuid.uuid4().hex[:12]}"
    boto3.client("s3", endpoint_url=s3_environment).create_bucket(Bucket=name)
    return name


@pytest.fixture(scope="session")
def description() -> VlmDescription:
    return demo_detector()[0]


def demo_detector(**settings: Any) -> tuple[VlmDescription, Path, Settings]:
    """Returns the description and the folder of the demo detector, with settings for a small machine."""
    sizes = {"max_num_seqs": 64, "gpu_memory_utilization": 0.2}
    given = Settings(detector=str(DEMO_DETECTOR), **(sizes | settings))
    return *supply(vlm_only(load_description(given), "a test"), given), given


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """With tensors as small as those of the tests, several threads would mostly wait for each other."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def scripted() -> Engine:
    return ScriptedEngine()


@pytest.fixture(scope="session")
def transformers() -> Iterator[Engine]:
    from worker.detector.transformers_engine import TransformersEngine

    description, folder, _ = demo_detector()
    engine = TransformersEngine(description, folder)
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def vllm() -> Iterator[Engine]:
    from worker.detector.vllm_engine import VllmEngine

    engine = VllmEngine(*demo_detector())
    yield engine
    engine.close()
