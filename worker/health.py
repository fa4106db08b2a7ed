"""Whether a worker does its work: a watchdog on its engine, and an HTTP endpoint for those who ask.

GET /health        200 while it takes messages; 503 while it starts or stops, and when its engine is dead or hung
GET /health/live   503 only when its engine is dead or hung
GET /metrics       the process's and vLLM's metrics, in Prometheus's text format

For Kubernetes: /health is the readiness probe, /health/live the liveness probe. A start takes minutes and a stop lasts
until the images in hand are judged; /health/live answers 200 during both, so that neither needs a probe of its own.
"""

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from http import HTTPStatus
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.types import StartResponse, WSGIEnvironment

import prometheus_client
import structlog

from worker.detector.engine import Engine
from worker.errors import ConfigurationError, EngineDeadError

log = structlog.get_logger(__name__)


class Status(StrEnum):
    """What a worker says of itself."""

    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    DEAD = "dead"  # seen for a moment at most: the process ends


class Health:
    """The worker's status, kept by the composition root, and DEAD by the watchdog.

    `on_engine_death` ends the process. `interval_s`: between two looks at the engine.
    """

    def __init__(self, on_engine_death: Callable[[EngineDeadError], object], *, interval_s: float = 2) -> None:
        self.status = Status.STARTING
        self._reason: str | None = None
        self._on_engine_death = on_engine_death
        self._interval_s = interval_s
        self._metrics = prometheus_client.make_wsgi_app()

    @contextmanager
    def watching(self, engine: Engine) -> Iterator[None]:
        """Looks after the engine while the body runs, also when no message waits for it. Close the engine afterwards:
        a closed one looks dead.
        """
        ended = threading.Event()
        watchdog = threading.Thread(target=self._watch, args=(engine, ended), name="watchdog", daemon=True)
        watchdog.start()
        try:
            yield
        finally:
            ended.set()
            watchdog.join()

    def _watch(self, engine: Engine, ended: threading.Event) -> None:
        while not ended.wait(self._interval_s):
            try:
                engine.check()
            except Exception as error:  # noqa: BLE001 - an engine that cannot be asked is as good as dead
                dead = error if isinstance(error, EngineDeadError) else EngineDeadError(repr(error))
                self.status, self._reason = Status.DEAD, str(dead)
                self._on_engine_death(dead)
                return

    @contextmanager
    def served(self, port: int | None) -> Iterator[int | None]:
        """Answers over HTTP while the body runs, on that port or, for 0, on any free one; the port, None without one.

        Raises ConfigurationError when it cannot listen there.
        """
        if port is None:
            yield None
            return
        try:
            server = make_server("", port, self._answer, _Server, _Handler)
        except OSError as error:
            raise ConfigurationError(
                f"FAKESWEEP_HEALTH_PORT: cannot listen on port {port}: {error.strerror}; give another, or 0 for any"
            ) from error
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, name="health", daemon=True).start()
        log.info("health_listening", port=server.server_port)
        try:
            yield server.server_port
        finally:
            server.shutdown()
            server.server_close()

    def _answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        fits: tuple[Status, ...]
        match environ["PATH_INFO"]:
            case "/metrics":
                answer: Iterable[bytes] = self._metrics(environ, start_response)
                return answer
            case "/health":
                fits = (Status.READY,)
            case "/health/live":
                fits = (Status.STARTING, Status.READY, Status.STOPPING)
            case _:
                start_response("404 Not Found", [("Content-Type", "text/plain")])
                return [b"GET /health, /health/live or /metrics\n"]
        status, reason = self.status, self._reason
        code = HTTPStatus.OK if status in fits else HTTPStatus.SERVICE_UNAVAILABLE
        start_response(f"{code.value} {code.phrase}", [("Content-Type", "application/json")])
        said = {"status": status} if reason is None else {"status": status, "reason": reason}
        return [json.dumps(said).encode()]


class _Server(ThreadingMixIn, WSGIServer):
    """A thread for each request: one that is slow delays no other."""

    daemon_threads = True


class _Handler(WSGIRequestHandler):
    """Gives up on who connects and asks nothing, and logs no requests: probes come every few seconds."""

    timeout = 10

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Logs nothing."""
