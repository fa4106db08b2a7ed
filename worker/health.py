"""Says whether a worker works: a watchdog checks its engine, and an HTTP endpoint answers probes.

GET /health        200 while it takes messages; 503 while it starts or stops, and when its engine is dead or hung
GET /health/live   503 only when its engine is dead or hung
GET /metrics       our own metrics (docs/metrics.md), the process's and vLLM's, in Prometheus's text format

For Kubernetes: /health is the readiness probe, /health/live the liveness probe. A start takes minutes, and a stop lasts
until the fetched images are judged. /health/live answers 200 during both, so no start-up probe is needed.
"""

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from http import HTTPStatus
from wsgiref.types import StartResponse, WSGIEnvironment

import structlog
from prometheus_client import CollectorRegistry

from worker import endpoint
from worker.detector.detector import Detector
from worker.errors import EngineDeadError

log = structlog.get_logger(__name__)


class Status(StrEnum):
    """The state of a worker, as /health names it."""

    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    DEAD = "dead"  # for a moment only: then the process ends


class Health:
    """The worker's status. worker.__main__ sets it, and the watchdog sets it to DEAD.

    `on_engine_death` ends the process. `registry` holds our own metrics. `interval_s` is the time between two checks of
    the engine.
    """

    def __init__(
        self,
        on_engine_death: Callable[[EngineDeadError], object],
        registry: CollectorRegistry | None = None,
        *,
        interval_s: float = 2,
    ) -> None:
        self.status = Status.STARTING
        self._reason: str | None = None
        self._on_engine_death = on_engine_death
        self._interval_s = interval_s
        self._metrics = endpoint.metrics_page(registry or CollectorRegistry())

    @contextmanager
    def watching(self, *detectors: Detector) -> Iterator[None]:
        """Checks the detectors while the body runs, also when no message waits for them.

        Close a detector only after the body: a closed detector looks dead.
        """
        ended = threading.Event()
        watchdog = threading.Thread(target=self._watch, args=(detectors, ended), name="watchdog", daemon=True)
        watchdog.start()
        try:
            yield
        finally:
            ended.set()
            watchdog.join()

    def _watch(self, detectors: Sequence[Detector], ended: threading.Event) -> None:
        while not ended.wait(self._interval_s):
            try:
                for detector in detectors:
                    detector.check()
            except Exception as error:  # noqa: BLE001 - a detector that cannot be asked is as good as dead
                dead = error if isinstance(error, EngineDeadError) else EngineDeadError(repr(error))
                self.status, self._reason = Status.DEAD, str(dead)
                self._on_engine_death(dead)
                return

    @contextmanager
    def served(self, port: int | None) -> Iterator[int | None]:
        """Answers over HTTP while the body runs: see worker.endpoint.served. Raises ConfigurationError."""
        with endpoint.served(self._answer, port, "FAKESWEEP_HEALTH_PORT") as listening:
            if listening is not None:
                log.info("health_listening", port=listening)
            yield listening

    def _answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        fits: tuple[Status, ...]
        match environ["PATH_INFO"]:
            case "/metrics":
                return self._metrics(environ, start_response)
            case "/health":
                fits = (Status.READY,)
            case "/health/live":
                fits = (Status.STARTING, Status.READY, Status.STOPPING)
            case _:
                return endpoint.unknown(start_response, "/health, /health/live or /metrics")
        status, reason = self.status, self._reason
        code = HTTPStatus.OK if status in fits else HTTPStatus.SERVICE_UNAVAILABLE
        start_response(f"{code.value} {code.phrase}", [("Content-Type", "application/json")])
        said = {"status": status} if reason is None else {"status": status, "reason": reason}
        return [json.dumps(said).encode()]
