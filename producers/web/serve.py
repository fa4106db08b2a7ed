"""Runs the web process: settings -> parts -> app -> uvicorn, until SIGTERM."""

import signal
import socket
import threading
from types import FrameType

import structlog
import typer
import uvicorn
from celery import Celery

from producers.web.app import create_app
from producers.web.parts import Parts
from producers.web.reasons import read_reasons
from producers.web.settings import PREFIX, WebSettings
from worker import broker, telemetry
from worker.database import Database, Patience
from worker.errors import ConfigurationError
from worker.settings import Settings
from worker.storage import open_stores

log = structlog.get_logger(__name__)

EXIT_OK, EXIT_FAILED = 0, 1
GRACE_S = 20
"""How long running requests may take to end after SIGTERM, in seconds."""
CONNECTIONS = 16
"""The largest number of connections to Postgres. Most of the 40 threads that answer requests wait for something
else, or for their turn.
"""
PATIENCE = Patience(pool_s=3, lock_s=3, statement_s=20, compiling=False)
"""A request that waits for longer gets the answer to try again, and its thread is free for others."""
_WAITING = 2048
"""How many connections may wait to be accepted."""


def serve(settings: Settings, own: WebSettings, database: Database) -> int:
    """Answers requests until SIGTERM or SIGINT, finishes those that are running, and returns the exit code. Raises
    ConfigurationError.
    """
    telemetry.configure_logging(settings)
    telemetry.init_sentry(settings)
    listening = _listen(own)
    try:
        app = create_app(parts_for(settings, own, database))
        server = uvicorn.Server(_uvicorn(app, own))
        host, port = listening.getsockname()[:2]
        log.info("web_listening", host=host, port=port, login=own.login)
        typer.echo(own.url or f"http://{f'[{host}]' if ':' in host else host}:{port}")
        # uvicorn raises the signal again when it has stopped. Without a handler, that would become the exit code.
        signal.signal(signal.SIGTERM, _stopped)
        server.run(sockets=[listening])
    finally:
        listening.close()
        database.dispose()
        telemetry.flush()
    log.info("web_stopped")
    return EXIT_OK if server.started else EXIT_FAILED


def parts_for(settings: Settings, own: WebSettings, database: Database) -> Parts:
    """Makes the parts of a web process. Raises ConfigurationError.

    If the broker is away, the log says so, and the process still starts, because reviews need no broker. An
    address that cannot be right is refused.
    """
    celery = broker.create_app(settings.broker_url.get_secret_value(), tls=settings.broker_tls)
    broker.check_url(celery)
    # In a thread, because it takes seconds while the broker is away.
    threading.Thread(target=_tell_of_broker, args=[celery], name="broker-check", daemon=True).start()
    return Parts(
        settings=own,
        database=database,
        store=open_stores(settings),
        broker=celery,
        reasons=read_reasons(own.reasons),
        max_bytes=settings.max_bytes,
        max_pixels=settings.max_pixels,
        max_queue_depth=settings.max_queue_depth,
    )


def _tell_of_broker(celery: Celery) -> None:
    try:
        broker.check_broker(celery)
    except ConfigurationError as error:
        log.warning("broker_not_used", reason=str(error), effect="the desk works; submissions and scans do not")


def _uvicorn(app: object, own: WebSettings) -> uvicorn.Config:
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        log_config=None,  # uvicorn's lines go where ours go
        access_log=False,  # an access log would hold the signed addresses of pictures
        ws="none",
        server_header=False,
        proxy_headers=bool(own.trusted_proxies),
        forwarded_allow_ips=list(own.trusted_proxies),
        timeout_graceful_shutdown=GRACE_S,
    )


def _listen(own: WebSettings) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            own.host, own.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(_WAITING)
    except OSError as error:
        raise ConfigurationError(
            f"{PREFIX}HOST and {PREFIX}PORT: cannot listen on {own.host}, port {own.port}: {error.strerror}; "
            "give another port, or 0 for any"
        ) from error
    return listening


def _stopped(_number: int, _frame: FrameType | None) -> None:
    """The handler of a signal that uvicorn has already obeyed."""
