"""No secret gets into logs or Sentry. Every line has its ids."""

import json
import logging
from contextlib import suppress
from typing import Any

import pytest
import sentry_sdk
import structlog
from amqp.exceptions import RecoverableConnectionError
from kombu.message import Message
from pydantic import SecretStr
from sentry_sdk.envelope import Envelope
from sentry_sdk.transport import Transport

from worker import telemetry
from worker.errors import ConfigurationError
from worker.settings import Settings

PRESIGNED = "https://b.s3.amazonaws.com/k.jpg?X-Amz-Credential=AKIA123&X-Amz-Signature=deadbeef&x=1"


@pytest.fixture(autouse=True)
def _plain_logging() -> Any:
    yield
    structlog.reset_defaults()
    logging.basicConfig(force=True)


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("cannot reach amqp://user:hunter2@rabbit:5672//", "hunter2"),
        ("postgresql+psycopg://u:p%40ss@db/x", "p%40ss"),
        (PRESIGNED, "deadbeef"),
        (PRESIGNED, "AKIA123"),
        ("aws_secret_access_key=abc/def", "abc/def"),
    ],
)
def test_secrets_are_scrubbed(text: str, secret: str) -> None:
    assert secret in text
    assert secret not in telemetry.scrub(text)
    assert secret not in str(telemetry.scrub({"a": [{"b": text}]}))


@pytest.mark.parametrize("level", ["INFO", "DEBUG"])
def test_the_http_library_writes_no_url(level: str, capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.configure_logging(Settings(log_level=level))
    logging.getLogger("httpx2").info("POST https://example.org/t0ken")
    logging.getLogger("httpcore2.http11").debug("headers t0ken")
    assert capsys.readouterr().err == ""


def test_image_bytes_become_their_length() -> None:
    assert telemetry.scrub({"data": b"\xff" * 1000}) == {"data": "[1000 bytes]"}


def test_a_log_line_is_json_with_ids_and_without_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.configure_logging(Settings())
    with telemetry.bound(message_id="m1", queue="q"):
        telemetry.bind(scan_id="s1")
        structlog.get_logger("x").warning("failed", url="redis://:hunter2@h/0")
        logging.getLogger("celery.worker").error("broker %s", "amqp://u:hunter2@h//")
    own, foreign = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert own["event"] == "failed"
    assert own["message_id"] == foreign["message_id"] == "m1"
    assert own["scan_id"] == "s1"
    assert "hunter2" not in str(own) + str(foreign)


def test_the_ids_of_a_message_are_gone_after_it(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.configure_logging(Settings())
    with telemetry.bound(worker="w"):
        with suppress(KeyError), telemetry.bound(message_id="m1"):
            telemetry.bind(scan_id="s1")
            raise KeyError
        with telemetry.bound(message_id="m2"):  # of no scan: it could not be parsed
            structlog.get_logger("x").warning("dead-lettered")
        structlog.get_logger("x").warning("idle")
    second, idle = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert (second["message_id"], "scan_id" in second, second["worker"]) == ("m2", False, "w")
    assert ("message_id" in idle, "scan_id" in idle, idle["worker"]) == (False, False, "w")


class Lost:
    """A channel whose connection is lost."""

    no_ack_consumers = None

    def basic_ack(self, *_: Any, **__: Any) -> None:
        raise ConnectionResetError("reset by the broker")

    basic_reject = basic_ack


@pytest.mark.parametrize("deed", ["ack_log_error", "reject_log_error"])
def test_a_lost_connection_of_a_message_is_a_warning_in_one_line(deed: str, capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.configure_logging(Settings())
    getattr(Message(delivery_tag=7, channel=Lost()), deed)(logging.getLogger("celery.worker.request"), (OSError,))
    (line,) = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert "7" in line["event"]
    assert "reset by the broker" in line["event"]
    assert (line["level"], "exception" in line) == ("warning", False)


@pytest.mark.parametrize("error", [RecoverableConnectionError("gone"), OSError("gone")])
def test_a_lost_connection_in_celerys_loop_has_no_traceback(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    telemetry.configure_logging(Settings())
    logging.getLogger("celery.worker.loops").error("Error cleaning up: %r", error, exc_info=error)
    line = json.loads(capsys.readouterr().err)
    assert (line["level"], "exception" in line) == ("warning", False)


@pytest.mark.parametrize("name", ["celery.worker.request", "celery.worker.loops", "celery.app.trace", "own"])
def test_other_errors_keep_their_traceback(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.configure_logging(Settings())
    try:
        raise KeyError("a fault")
    except KeyError:
        logging.getLogger(name).exception("Task handler raised error")
    line = json.loads(capsys.readouterr().err)
    assert line["level"] == "error"
    assert "Traceback" in line["exception"]


class _Collected(Transport):
    def __init__(self) -> None:
        super().__init__()
        self.events: list[Any] = []

    def capture_envelope(self, envelope: Envelope) -> None:
        self.events += [item.payload.json for item in envelope.items]


def test_sentry_is_off_without_a_dsn() -> None:
    telemetry.init_sentry(Settings())
    assert not sentry_sdk.get_client().is_active()


def test_sentry_events_are_scrubbed_and_hold_no_local_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENTRY_DSN", "https://key@localhost/1")
    telemetry.init_sentry(Settings())
    client = sentry_sdk.get_client()
    transport = _Collected()
    client.transport = transport
    try:
        password = "hunter2"  # a local variable that must not be sent
        with telemetry.bound(message_id="m1"):
            try:
                raise RuntimeError(f"cannot reach amqp://user:{password}@h//")
            except RuntimeError as error:
                sentry_sdk.capture_exception(error)
    finally:
        sentry_sdk.get_global_scope().set_client(None)
        client.close(timeout=0)
    (event,) = transport.events
    assert "cannot reach amqp://" in str(event)
    assert "hunter2" not in str(event)
    assert event["tags"]["message_id"] == "m1"
    assert "vars" not in str(event["exception"])


@pytest.mark.parametrize("dsn", ["nonsense", "https://host/1", "https://key@host/"])
def test_a_wrong_dsn_is_an_error_with_the_variables_name(dsn: str) -> None:
    with pytest.raises(ConfigurationError, match="SENTRY_DSN is not valid"):
        telemetry.init_sentry(Settings(sentry_dsn=SecretStr(dsn)))
