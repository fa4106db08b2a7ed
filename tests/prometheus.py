"""Runs a Prometheus for the tests, from Debian's package."""

import json
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.processes import free_port, wait_for

PROMETHEUS, PROMTOOL = shutil.which("prometheus"), shutil.which("promtool")


class Prometheus:
    """A client of the Prometheus at this URL."""

    def __init__(self, url: str) -> None:
        self._url = url

    def ask(self, path: str, **values: str) -> Any:
        """Returns the answer of its API. Raises AssertionError with the reason if it refuses."""
        query = urllib.parse.urlencode(values)
        try:
            with urllib.request.urlopen(f"{self._url}/api/v1/{path}?{query}", timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{values}: {error.read().decode()}") from None

    def series(self, expression: str) -> list[dict[str, Any]]:
        """Returns the current series of an expression."""
        found: list[dict[str, Any]] = self.ask("query", query=expression)["result"]
        return found

    def answers(self) -> bool:
        """Whether it has started. Before that, it refuses queries."""
        try:
            with urllib.request.urlopen(f"{self._url}/-/ready", timeout=10):
                return True
        except OSError:
            return False


@contextmanager
def scraping(ports: Mapping[str, int], folder: Path) -> Iterator[Prometheus]:
    """Runs a Prometheus that scrapes these ports of this machine every second. `ports`: by the name of the job."""
    assert PROMETHEUS, "install prometheus"
    jobs = [{"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]} for job, port in ports.items()]
    (folder / "prometheus.yml").write_text(json.dumps({"global": {"scrape_interval": "1s"}, "scrape_configs": jobs}))
    port = free_port()
    log = folder / "prometheus.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [
                PROMETHEUS, f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=file, stderr=file,
        )  # fmt: skip
    try:
        prometheus = Prometheus(f"http://127.0.0.1:{port}")
        wait_for(prometheus.answers, 30, process, log)
        began = time.monotonic()
        wait_for(lambda: time.monotonic() - began > 2 and _scraped(prometheus, len(ports)), 30, process, log)
        yield prometheus
    finally:
        process.terminate()
        process.wait(30)


def _scraped(prometheus: Prometheus, targets: int) -> bool:
    """Whether each target was scraped three times. A rate needs two scrapes."""
    return len(prometheus.series("count_over_time(up[1m]) >= 3")) == targets
