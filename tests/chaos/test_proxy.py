"""Each toxic has its effect on a plain socket."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.chaos.proxy import Proxy, proxy_to
from tests.chaos.toxics import Bandwidth, Latency, LimitData, ResetPeer, Slicer, SlowClose, Timeout, Toxic
from tests.processes import free_port

NOTICEABLE_S = 0.3


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """A proxy to a server that sends back what it receives, and closes the connection when it receives `close`."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_serve, args=(server,), daemon=True).start()
        with proxy_to(server.getsockname()[1]) as proxy:
            yield proxy
        server.shutdown(socket.SHUT_RDWR)


def _serve(server: socket.socket) -> None:
    while True:
        try:
            client, _ = server.accept()
        except OSError:
            return
        threading.Thread(target=_echo, args=(client,), daemon=True).start()


def _echo(client: socket.socket) -> None:
    with client, suppress(OSError):
        while data := client.recv(65536):
            client.sendall(b"" if data == b"close" else data)
            if data == b"close":
                return


@pytest.fixture
def client(proxy: Proxy) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", proxy.port)) as client:
        client.settimeout(5)
        assert echoed(client, b"hello") == b"hello"  # the connection exists before a toxic comes
        yield client


def echoed(client: socket.socket, data: bytes) -> bytes:
    client.sendall(data)
    received = b""
    while len(received) < len(data) and (part := client.recv(65536)):
        received += part
    return received


def seconds_for(client: socket.socket, data: bytes) -> float:
    start = time.monotonic()
    assert echoed(client, data) == data
    return time.monotonic() - start


def test_nothing_changes_without_a_toxic(client: socket.socket) -> None:
    assert seconds_for(client, bytes(300_000)) < 1


def test_latency_delays_what_passes(proxy: Proxy, client: socket.socket) -> None:
    toxic = proxy.add(Latency(latency_s=0.2))
    assert seconds_for(client, b"a") >= 0.4  # there and back again
    assert toxic.met == 2
    proxy.remove(toxic)
    assert seconds_for(client, b"a") < NOTICEABLE_S


def test_bandwidth_limits_the_bytes_per_second(proxy: Proxy, client: socket.socket) -> None:
    proxy.add(Bandwidth(bytes_a_s=20_000))
    assert 0.4 <= seconds_for(client, bytes(10_000)) < 3


def test_slow_close_delays_the_close_of_the_other_side(proxy: Proxy, client: socket.socket) -> None:
    toxic = proxy.add(SlowClose(delay_s=0.4))
    start = time.monotonic()
    client.sendall(b"close")
    assert client.recv(1) == b""
    assert time.monotonic() - start >= 0.4
    assert toxic.met


def test_timeout_lets_nothing_pass_and_then_closes(proxy: Proxy, client: socket.socket) -> None:
    proxy.add(Timeout(timeout_s=0.4))
    start = time.monotonic()
    assert echoed(client, b"lost") == b""
    assert 0.3 <= time.monotonic() - start < 2


def test_timeout_without_a_time_closes_when_it_is_removed(proxy: Proxy, client: socket.socket) -> None:
    toxic = proxy.add(Timeout())
    client.sendall(b"lost")
    client.settimeout(NOTICEABLE_S)
    with pytest.raises(TimeoutError):
        client.recv(1)
    proxy.remove(toxic)
    client.settimeout(5)
    assert client.recv(1) == b""


def test_reset_peer_resets(proxy: Proxy, client: socket.socket) -> None:
    proxy.add(ResetPeer(timeout_s=0.1))
    with pytest.raises(ConnectionResetError):
        client.recv(1)


def test_slicer_sends_slices(proxy: Proxy, client: socket.socket) -> None:
    proxy.add(Slicer(average_size=100, delay_s=0.02))
    start = time.monotonic()
    client.sendall(bytes(1000))
    assert len(client.recv(65536)) <= 200
    assert len(echoed(client, bytes(900))) == 900
    assert time.monotonic() - start >= 0.15


def test_limit_data_closes_after_a_number_of_bytes(proxy: Proxy, client: socket.socket) -> None:
    proxy.add(LimitData(limit_bytes=1000))
    assert len(echoed(client, bytes(400))) == 400  # 800 in both directions together
    assert len(echoed(client, bytes(400))) < 400


def test_a_toxic_works_on_new_connections_too(proxy: Proxy) -> None:
    proxy.add(Latency(latency_s=0.2))
    with socket.create_connection(("127.0.0.1", proxy.port)) as client:
        assert seconds_for(client, b"a") >= 0.4


def test_toxics_work_one_after_another(proxy: Proxy, client: socket.socket) -> None:
    proxy.add(Latency(latency_s=0.1))
    proxy.add(Latency(latency_s=0.1))
    assert seconds_for(client, b"a") >= 0.4


def test_a_service_that_is_away_closes_the_connection(proxy: Proxy) -> None:
    proxy.target = free_port()
    with socket.create_connection(("127.0.0.1", proxy.port)) as client:
        assert client.recv(1) == b""


@pytest.mark.parametrize("toxic", [Timeout(), ResetPeer(timeout_s=5), LimitData(limit_bytes=3)])
def test_connecting_works_again_after_the_toxic_is_removed(proxy: Proxy, client: socket.socket, toxic: Toxic) -> None:
    proxy.add(toxic)
    client.sendall(b"hello")
    proxy.remove(toxic)
    with socket.create_connection(("127.0.0.1", proxy.port)) as another:
        assert echoed(another, b"hello") == b"hello"
