"""Serves HTTP in a thread of its own, for programs that watch the process, such as Prometheus and Kubernetes."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.types import StartResponse, WSGIEnvironment

import prometheus_client
from prometheus_client import CollectorRegistry

from worker.errors import ConfigurationError

Answer = Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]
"""A WSGI application."""


@contextmanager
def served(answer: Answer, port: int | None, setting: str) -> Iterator[int | None]:
    """Serves HTTP while the body runs, and yields the port.

    A port of 0 means any free port. Without a port, nothing is served, and None is yielded. Raises ConfigurationError,
    which names the `setting`, if it cannot listen there.
    """
    if port is None:
        yield None
        return
    try:
        server = make_server("", port, answer, _Server, _Handler)
    except OSError as error:
        raise ConfigurationError(
            f"{setting}: cannot listen on port {port}: {error.strerror}; give another, or 0 for any"
        ) from error
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, name="http", daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


def metrics_page(own: CollectorRegistry) -> Answer:
    """Answers in Prometheus's text format, with our own metrics, those of the process, and those of vLLM if it runs
    here.

    The last two are in prometheus_client's default registry.
    """
    together = CollectorRegistry(support_collectors_without_names=True)
    for registry in (prometheus_client.REGISTRY, own):
        together.register(registry)
    page: Answer = prometheus_client.make_wsgi_app(together)
    return page


def only_metrics(own: CollectorRegistry) -> Answer:
    """Answers GET /metrics as `metrics_page` does, and nothing else."""
    page = metrics_page(own)

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return page(environ, start_response) if environ["PATH_INFO"] == "/metrics" else unknown(start_response)

    return answer


def unknown(start_response: StartResponse, known: str = "/metrics") -> Iterable[bytes]:
    """Answers 404, and names the addresses that exist."""
    start_response("404 Not Found", [("Content-Type", "text/plain")])
    return [f"GET {known}\n".encode()]


class _Server(ThreadingMixIn, WSGIServer):
    """A thread for each request, so that a slow one delays no other."""

    daemon_threads = True


class _Handler(WSGIRequestHandler):
    """Closes connections that send no request, and logs no requests: probes come every few seconds."""

    timeout = 10

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Logs nothing."""
