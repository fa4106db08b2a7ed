"""A TCP proxy that can disturb its connections while it runs. tests.chaos.toxics says how."""

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Self, TypeVar

from tests.chaos.toxics import Send, Toxic

HOST = "127.0.0.1"
CHUNK = 65536
_LINGER_0 = struct.pack("ii", 1, 0)
T = TypeVar("T")


class Connection:
    """One connection through the proxy: the client's side and the service's side."""

    def __init__(self, proxy: "Proxy", client: asyncio.StreamWriter, service: asyncio.StreamWriter) -> None:
        self._proxy, self._writers = proxy, (client, service)
        self.beside: dict[Toxic, asyncio.Task[None]] = {}

    def close(self) -> None:
        """See toxics.Link."""
        for writer in self._writers:
            writer.close()

    def reset(self) -> None:
        """See toxics.Link."""
        for writer in self._writers:
            with suppress(OSError):
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_0)
            writer.transport.abort()

    async def pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carries the bytes of one direction through the toxics. When the sender closes, it closes both sides."""
        with suppress(OSError, asyncio.IncompleteReadError):
            while data := await reader.read(CHUNK):
                await self._through(list(self._proxy.toxics), partial(_send, writer))(data)
        for toxic in list(self._proxy.toxics):
            await toxic.before_close()
        self.close()

    def _through(self, toxics: list[Toxic], send: Send) -> Send:
        for toxic in reversed(toxics):
            send = partial(toxic.carry, send=send, link=self)
        return send


async def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()


class Proxy:
    """Listens on `port`, and connects each connection to `target`, which is a port of this machine."""

    def __init__(self, loop: "LoopThread", target: int) -> None:
        self._loop, self.target = loop, target
        self.toxics: list[Toxic] = []
        self.connections: set[Connection] = set()
        self.accepted = 0
        self._server: asyncio.Server | None = None
        self.port = loop.call(self._listen())

    def add(self, toxic: Toxic) -> Toxic:
        """Puts the toxic on all connections, also on open ones. Returns the toxic."""
        self._loop.call(self._add(toxic))
        return toxic

    def remove(self, toxic: Toxic) -> None:
        """Removes the toxic."""
        self._loop.call(self._remove(toxic))

    async def _listen(self) -> int:
        self._server = await asyncio.start_server(self._accept, HOST, 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        try:
            from_service, to_service = await asyncio.open_connection(HOST, self.target)
        except OSError:
            writer.close()
            return
        connection = Connection(self, writer, to_service)
        self.connections.add(connection)
        for toxic in self.toxics:
            connection.beside[toxic] = asyncio.create_task(toxic.beside(connection))
        try:
            with suppress(asyncio.CancelledError):  # when the loop ends; asyncio would log this as an error
                await asyncio.gather(connection.pump(reader, to_service), connection.pump(from_service, writer))
        finally:
            self.connections.discard(connection)
            for task in connection.beside.values():
                task.cancel()
            connection.close()

    async def _add(self, toxic: Toxic) -> None:
        self.toxics.append(toxic)
        for connection in self.connections:
            connection.beside[toxic] = asyncio.create_task(toxic.beside(connection))

    async def _remove(self, toxic: Toxic) -> None:
        self.toxics.remove(toxic)
        for connection in list(self.connections):
            if task := connection.beside.pop(toxic, None):
                task.cancel()
            toxic.lifted(connection)


class LoopThread:
    """An event loop in a thread of its own. It ends with the `with` block."""

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxies", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.call(self._end_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Runs the coroutine in the loop, and returns its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _end_all(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextmanager
def proxy_to(target: int) -> Iterator[Proxy]:
    """Gives a proxy with a loop of its own."""
    with LoopThread() as loop:
        yield Proxy(loop, target)
