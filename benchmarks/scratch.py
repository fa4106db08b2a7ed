"""What benchmarks share: a database of their own, a description of the machine, and the place of results."""

import json
import os
import platform
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import psycopg
from sqlalchemy.engine import make_url

from worker.cpus import usable_cpus
from worker.database import Database, connect
from worker.migrate import upgrade

RESULTS = Path(__file__).parent / "results"
SERVER = os.environ.get("TEST_DATABASE_URL", "postgresql:///postgres")
AMQP = os.environ.get("TEST_AMQP_URL", "amqp://guest:guest@127.0.0.1:5672//")


@contextmanager
def empty_database() -> Iterator[str]:
    """Gives the URL of a database without tables on the server TEST_DATABASE_URL. It is dropped at the end."""
    name = f"fakesweep_benchmark_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(SERVER, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    try:
        yield make_url(SERVER).set(database=name).render_as_string(hide_password=False)
    finally:
        with psycopg.connect(SERVER, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@contextmanager
def scratch_database() -> Iterator[tuple[str, Database]]:
    """Gives the URL of a migrated database on that server, and its handle. It is dropped at the end."""
    with empty_database() as url:
        database = connect(url)
        try:
            upgrade(database)
            yield url, database
        finally:
            database.dispose()


def know_images(url: str, detector_id: int, count: int) -> None:
    """Adds the objects and verdicts that a first scan of the first `count` uris would leave. Every tenth is fake."""
    rows = (
        "SELECT md5(n::text) || md5('x' || n) AS sha256,"
        " 's3://archive/2026/' || lpad(n::text, 12, '0') || '.jpg' AS uri,"
        f" lpad(to_hex(n), 32, '0') AS etag, n FROM generate_series(0, {count - 1}) n"
    )
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO verdicts (sha256, detector_id, uri, width, height, explain, answer, score, completion,"
            " contradicts, prompt_tokens, completion_tokens, latency_ms)"
            f" SELECT sha256, {detector_id}, uri, 1024, 768, 'all', CASE WHEN n % 10 = 0 THEN 'fake' ELSE 'real' END,"
            " CASE WHEN n % 10 = 0 THEN 0.9 ELSE 0.1 END, 'This is a real image.', false, 590, 7, 20"
            f" FROM ({rows}) known".encode()
        )
        connection.execute(
            "INSERT INTO objects (uri, etag, sha256, size, verdict_id) SELECT known.uri, known.etag, known.sha256,"
            f" 1000, v.id FROM ({rows}) known JOIN verdicts v USING (sha256)".encode()
        )
        connection.execute("VACUUM ANALYZE")


def uri_of(number: int) -> str:
    """Returns the uri of an image of the benchmark's archive."""
    return f"s3://archive/2026/{number:012d}.jpg"


def etag_of(number: int) -> str:
    """Returns the ETag of that image."""
    return f"{number:032x}"


def machine() -> dict[str, Any]:
    """Returns a description of the machine."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    try:
        with psycopg.connect(SERVER) as connection:
            postgres = connection.info.server_version // 10000
    except psycopg.OperationalError:
        postgres = None  # this benchmark needs no Postgres
    return {
        "processor": next(models, platform.processor()),
        "cores": usable_cpus(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "load_average": [round(value, 2) for value in os.getloadavg()],
        "python": platform.python_version(),
        "postgres": postgres,
    }


def write_result(name: str, figures: dict[str, Any]) -> None:
    """Prints the figures and writes them to benchmarks/results/NAME.json."""
    result = {"measured_at": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine(), **figures}
    text = json.dumps(result, indent=1)
    print(text)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(text + "\n")
