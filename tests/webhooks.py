"""A receiver of webhooks over HTTP, which verifies signatures and behaves as well or as badly as a test wants."""

import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import trustme
from standardwebhooks import Webhook

from producers.webhooks.endpoints import add_endpoint, find_endpoint
from worker.database import Database
from worker.tables import WebhookKind

HANG, DRIP, CLOSE = "hang", "drip", "close"


@dataclass
class Receiver:
    """Answers the n-th request with the n-th of `answers`, and later ones with 204.

    An answer is a status, a status with headers, or one of HANG (nothing comes), DRIP (a header that never ends) and
    CLOSE (the connection ends without an answer). `got` holds the id and the payload of each request that was verified.
    """

    port: int = 0
    secret: str = ""
    answers: list[Any] = field(default_factory=list)
    delay_s: float = 0.0
    got: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    certificate: trustme.LeafCert | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        """Returns the address. With a certificate, it is that of a name, which the certificate must hold."""
        return f"{'https://localhost' if self.certificate else 'http://127.0.0.1'}:{self.port}/hook?a=b"

    @property
    def names(self) -> list[str]:
        """Returns what each message is about: `data.name`."""
        return [payload["data"]["name"] for _, payload in self.got]

    def endpoint(self, database: Database, *kinds: WebhookKind, name: str = "receiver") -> int:
        """Adds this receiver as an endpoint, and returns its id."""
        self.secret = add_endpoint(database, name, self.url, kinds or tuple(WebhookKind))
        return find_endpoint(database, name)[0]

    def take(self, headers: dict[str, str], body: bytes) -> Any:
        payload = Webhook(self.secret).verify(body, headers)
        with self.lock:
            self.got.append(({key.lower(): value for key, value in headers.items()}["webhook-id"], payload))
            answer = self.answers.pop(0) if self.answers else 204
        time.sleep(self.delay_s)
        return answer


@contextmanager
def receiver(**given: Any) -> Iterator[Receiver]:
    """Serves a receiver on a free port."""
    made = Receiver(**given)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            answer = made.take(dict(self.headers.items()), body)
            self.close_connection = True
            if answer == HANG:
                made.ended.wait(30)
            elif answer == DRIP:
                self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
                while not made.ended.wait(0.05):
                    self.wfile.write(b"x")
            elif answer != CLOSE:
                status, headers = answer if isinstance(answer, tuple) else (answer, {})
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()

        def log_message(self, *_: object) -> None:
            """Logs nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A sender that gives up closes its connection."""

    server = Server(("127.0.0.1", 0), Handler)
    made.port = server.server_port
    if made.certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.certificate.configure_cert(context)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield made
    finally:
        made.ended.set()
        server.shutdown()
        server.server_close()
