"""The watchdog, and the endpoint's answers over HTTP."""

import http.client
import json
import socket
import threading
from contextlib import closing
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge

from worker.detector.vlm import VlmDetector
from worker.errors import ConfigurationError, EngineDeadError
from worker.health import Health, Status
from worker.testing import ScriptedEngine, scripted_description


class Deaths:
    """Replaces the function that ends the process."""

    def __init__(self) -> None:
        self.errors: list[EngineDeadError] = []
        self.happened = threading.Event()

    def __call__(self, error: EngineDeadError) -> None:
        self.errors.append(error)
        self.happened.set()


def get(port: int | None, path: str) -> tuple[int, str]:
    assert port
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()


def said(port: int | None, path: str) -> tuple[int, Any]:
    code, body = get(port, path)
    return code, json.loads(body)


def test_an_engine_that_dies_while_idle_is_noticed_once() -> None:
    detector, deaths = VlmDetector(ScriptedEngine(), scripted_description()), Deaths()
    with Health(deaths, interval_s=0.01).watching(detector):
        assert not deaths.happened.wait(0.1)
        detector.close()
        assert deaths.happened.wait(5)
        threading.Event().wait(0.1)
    assert [str(error) for error in deaths.errors] == ["the scripted engine is dead"]


def test_an_engine_that_is_closed_after_the_watch_is_not_reported() -> None:
    detector, deaths = VlmDetector(ScriptedEngine(), scripted_description()), Deaths()
    with Health(deaths, interval_s=0.01).watching(detector):
        pass
    detector.close()
    assert not deaths.happened.wait(0.1)


@pytest.mark.parametrize(
    ("status", "ready", "live"),
    [(Status.STARTING, 503, 200), (Status.READY, 200, 200), (Status.STOPPING, 503, 200), (Status.DEAD, 503, 503)],
)
def test_the_endpoint_answers_with_the_status(status: Status, ready: int, live: int) -> None:
    health = Health(Deaths())
    assert health.status == Status.STARTING
    with health.served(0) as port:
        health.status = status
        assert said(port, "/health") == (ready, {"status": status})
        assert said(port, "/health/live") == (live, {"status": status})


def test_a_dead_engine_is_reported_with_its_reason() -> None:
    detector, deaths = VlmDetector(ScriptedEngine(), scripted_description()), Deaths()
    health = Health(deaths, interval_s=0.01)
    with health.served(0) as port, health.watching(detector):
        health.status = Status.READY
        detector.close()
        assert deaths.happened.wait(5)
        dead = {"status": "dead", "reason": "the scripted engine is dead"}
        assert said(port, "/health") == (503, dead)
        assert said(port, "/health/live") == (503, dead)


def test_the_metrics_of_the_default_registry_are_served() -> None:
    Gauge("test_health_level", "In the default registry, as those of vLLM.").set(7)
    with Health(Deaths()).served(0) as port:
        code, text = get(port, "/metrics")
        assert code == 200
        assert "\ntest_health_level 7.0\n" in text
        assert "\nprocess_resident_memory_bytes " in text
        assert get(port, "/nothing")[0] == 404


def test_our_own_metrics_are_served_too() -> None:
    registry = CollectorRegistry()
    Counter("test_health_own", "In the registry of the test.", registry=registry).inc(3)
    with Health(Deaths(), registry).served(0) as port:
        text = get(port, "/metrics")[1]
        assert "\ntest_health_own_total 3.0\n" in text
        assert "\nprocess_resident_memory_bytes " in text
    with Health(Deaths(), CollectorRegistry()).served(0) as port:
        assert "test_health_own" not in get(port, "/metrics")[1]


def test_an_idle_connection_does_not_block_others() -> None:
    with Health(Deaths()).served(0) as port:
        assert port
        with closing(socket.create_connection(("127.0.0.1", port))):
            assert said(port, "/health/live") == (200, {"status": "starting"})


def test_no_port_means_no_endpoint_and_a_port_is_free_again_at_the_end() -> None:
    threads = threading.active_count()
    with Health(Deaths()).served(None) as port:
        assert port is None
        assert threading.active_count() == threads
    with Health(Deaths()).served(0) as first:
        pass
    with Health(Deaths()).served(first) as again:
        assert again == first


def test_a_port_in_use_is_an_error_with_the_settings_name() -> None:
    with closing(socket.create_server(("", 0))) as other:
        port = other.getsockname()[1]
        with (
            pytest.raises(ConfigurationError, match=f"FAKESWEEP_HEALTH_PORT: cannot listen on port {port}: .*in use"),
            Health(Deaths()).served(port),
        ):
            pass
