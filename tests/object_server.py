"""An S3 endpoint that answers GET requests as the test wants, however badly, and remembers them."""

import re
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Asked:
    """A request. `path` is the raw one. It is a whole URL if the server is used as a proxy."""

    path: str
    headers: dict[str, str]  # names in lower case

    @property
    def by_obstore(self) -> bool:
        return self.headers["user-agent"].startswith("object_store/")

    @property
    def credential(self) -> tuple[str, str]:
        """The access key and the region that the request is signed with."""
        found = re.search(r"Credential=([^/]+)/\d{8}/([^/]+)/s3/", self.headers["authorization"])
        assert found
        return found[1], found[2]


@dataclass(frozen=True)
class Answer:
    """An answer. `promised`: the Content-Length. By default that of the body; None: no Content-Length.

    `then`: what follows the body: the next request, the end of the connection, or nothing. `endless`: the body is
    repeated until the client closes the connection. A good answer has the ETag that the request names.
    """

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    promised: int | None = -1
    chunked: bool = False
    endless: bool = False
    then: str = "go on"  # or "hang up" or "hang"
    silent: bool = False  # sends not even a status line


def error(code: str, status: int, *, headers: dict[str, str] | None = None, more: str = "") -> Answer:
    """Returns S3's XML for an error."""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>so it is</Message>{more}</Error>"
    return Answer(body.encode(), status, {"Content-Type": "application/xml", **(headers or {})})


class ObjectServer:
    """The server. `answer` may be replaced at any time. `url` is the endpoint."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answer: Callable[[Asked], Answer] = lambda asked: Answer(asked.path.encode())
        self.asked: list[Asked] = []
        self.connections = 0
        self.over = threading.Event()


class _Listener(ThreadingHTTPServer):
    """Logs no error when a client resets its connection."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def object_server(tls: ssl.SSLContext | None = None) -> Iterator[ObjectServer]:
    """Listens on a free port of this machine. With `tls`, it speaks TLS."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def setup(self) -> None:
            server.connections += 1
            super().setup()

        def do_GET(self) -> None:
            asked = Asked(self.path, {name.lower(): value for name, value in self.headers.items()})
            server.asked.append(asked)
            answer = server.answer(asked)
            try:
                send(self, answer, asked.headers.get("if-match", '"an-etag"'))
            except OSError:  # the client closed the connection, as it should if the body is too long
                self.close_connection = True
                return
            if answer.then == "hang":
                server.over.wait(60)
            self.close_connection = answer.then != "go on" or answer.promised is None

        def log_message(self, *_: object) -> None:
            pass

    with _Listener(("127.0.0.1", 0), Handler) as listener:
        if tls is not None:
            listener.socket = tls.wrap_socket(listener.socket, server_side=True)
        server = ObjectServer(f"{'https' if tls else 'http'}://127.0.0.1:{listener.server_port}")
        threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            yield server
        finally:
            server.over.set()
            listener.shutdown()


def send(handler: BaseHTTPRequestHandler, answer: Answer, etag: str) -> None:
    """Writes the answer. Raises OSError if the client has closed the connection."""
    if answer.silent:
        return
    handler.send_response(answer.status)
    for name, value in (({"ETag": etag} if answer.status == 200 else {}) | answer.headers).items():
        handler.send_header(name, value)
    if answer.chunked:
        handler.send_header("Transfer-Encoding", "chunked")
    elif answer.promised is not None:
        handler.send_header("Content-Length", str(len(answer.body) if answer.promised < 0 else answer.promised))
    handler.end_headers()
    part = b"%x\r\n%s\r\n" % (len(answer.body), answer.body) if answer.chunked else answer.body
    handler.wfile.write(part)
    while answer.endless:
        handler.wfile.write(part)
    if answer.chunked and answer.then == "go on":
        handler.wfile.write(b"0\r\n\r\n")
    handler.wfile.flush()
