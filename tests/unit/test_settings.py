"""Settings: a bad value is an error at the start, with its variable's name."""

import pytest

from worker.errors import ConfigurationError
from worker.settings import Settings


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://user:secret@host/db")
    monkeypatch.setenv("FAKESWEEP_THREADS", "3")
    monkeypatch.setenv("FAKESWEEP_ALLOWED_BUCKETS", "one, two,")
    settings = Settings.from_environment()
    assert settings.database_url.get_secret_value().endswith("/db")
    assert settings.threads == 3
    assert settings.allowed_buckets == ("one", "two")


def test_secrets_are_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://user:secret@host/db")
    assert "secret@" not in repr(Settings.from_environment())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FAKESWEEP_THREADS", "many"),
        ("FAKESWEEP_THREADS", "0"),
        ("FAKESWEEP_ENGINE", "onnx"),
        ("FAKESWEEP_MAX_BYTES", "-1"),
    ],
)
def test_an_error_in_a_value_names_its_variable(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=name):
        Settings.from_environment()
