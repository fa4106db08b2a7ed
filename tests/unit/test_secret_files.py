"""Secrets come from variables, from files that variables name, or from a folder."""

import os
import socket
from pathlib import Path

import pytest

from producers.web.settings import WebSettings
from tests.processes import fakesweep
from worker.errors import ConfigurationError
from worker.lab.annotation.endpoint import Address, find_key
from worker.secret_files import MAX_BYTES, secret_fields
from worker.settings import Settings

ALL = {**secret_fields(Settings), **secret_fields(WebSettings)}
SECRET = "postgresql://user:hunter2@host/db"


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FAKESWEEP_SECRETS_DIR", *ALL.values()):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(f"{name}_FILE", raising=False)


def value_of(name: str) -> str:
    settings = WebSettings if name.startswith("FAKESWEEP_WEB_") else Settings
    (field,) = (field for field, variable in secret_fields(settings).items() if variable == name)
    secret: str = getattr(settings.from_environment(), field).get_secret_value()
    return secret


def test_these_are_the_secrets() -> None:
    assert sorted(ALL.values()) == [
        "BROKER_URL", "DATABASE_URL", "FAKESWEEP_WEB_OIDC_CLIENT_SECRET", "FAKESWEEP_WEB_PROXY_SECRET",
        "FAKESWEEP_WEB_SECRET", "SENTRY_DSN",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ALL.values())
def test_a_variable_with_the_path_of_a_file(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x").write_text(f" {SECRET} \n\n")
    monkeypatch.setenv(f"{name}_FILE", str(tmp_path / "x"))
    monkeypatch.setenv(name, "")  # an empty variable counts as not set
    assert value_of(name) == f" {SECRET} \n", "only one newline is removed"


@pytest.mark.parametrize("name", ALL.values())
def test_a_folder_with_a_file_for_each_secret(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Kubernetes mounts a secret in this way, with links to a hidden folder.
    (tmp_path / "..2026").mkdir()
    (tmp_path / "..2026" / name).write_text("from the folder\r\n")
    (tmp_path / "..data").symlink_to("..2026")
    (tmp_path / name).symlink_to(f"..data/{name}")
    monkeypatch.setenv("FAKESWEEP_SECRETS_DIR", str(tmp_path))
    assert value_of(name) == "from the folder"
    (tmp_path / "own").write_text("from the file")
    monkeypatch.setenv(f"{name}_FILE", str(tmp_path / "own"))
    assert value_of(name) == "from the file"
    monkeypatch.delenv(f"{name}_FILE")
    monkeypatch.setenv(name, "from the variable")
    assert value_of(name) == "from the variable"


def test_a_secret_without_a_file_is_not_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKESWEEP_SECRETS_DIR", str(tmp_path))
    assert value_of("SENTRY_DSN") == ""


def test_a_variable_and_its_file_variable_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x").write_text(SECRET)
    monkeypatch.setenv("DATABASE_URL", SECRET)
    monkeypatch.setenv("DATABASE_URL_FILE", str(tmp_path / "x"))
    with pytest.raises(
        ConfigurationError, match=r"^DATABASE_URL and DATABASE_URL_FILE are both set: remove one"
    ) as got:
        Settings.from_environment()
    assert "hunter2" not in str(got.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"", "is empty: write the secret into it"),
        (b" \n", "is empty"),
        (b"hunter2 \xff", "is not UTF-8 text"),
        (b"hunter2 \0", "is not UTF-8 text"),
        (b"hunter2" * MAX_BYTES, "has more than 65536 bytes"),
    ],
)
def test_a_file_without_a_valid_secret(
    content: bytes | None, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "BROKER_URL"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setenv("BROKER_URL_FILE", str(path))
    with pytest.raises(ConfigurationError) as got:
        Settings.from_environment()
    assert str(got.value).startswith(f"BROKER_URL_FILE: {path} {said}")
    assert "hunter2" not in str(got.value)
    if content is not None:
        monkeypatch.delenv("BROKER_URL_FILE")
        monkeypatch.setenv("FAKESWEEP_SECRETS_DIR", str(tmp_path))
        with pytest.raises(ConfigurationError, match=f"^FAKESWEEP_SECRETS_DIR: {path} "):
            Settings.from_environment()


def test_a_file_of_a_program_of_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x").write_bytes(b"\xef\xbb\xbf" + SECRET.encode() + b"\r\n")
    monkeypatch.setenv("DATABASE_URL_FILE", str(tmp_path / "x"))
    assert value_of("DATABASE_URL") == SECRET


@pytest.mark.parametrize("target", ["nowhere", "DATABASE_URL", "folder"])
def test_a_link_in_the_folder_that_leads_to_no_file(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "DATABASE_URL").symlink_to(target)
    monkeypatch.setenv("FAKESWEEP_SECRETS_DIR", str(tmp_path))
    with pytest.raises(ConfigurationError, match=f"^FAKESWEEP_SECRETS_DIR: {tmp_path}/DATABASE_URL cannot be read: "):
        Settings.from_environment()


def test_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "DATABASE_URL").write_text(SECRET)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("FAKESWEEP_SECRETS_DIR", "~")
    assert value_of("DATABASE_URL") == SECRET
    monkeypatch.setenv("DATABASE_URL_FILE", "~no-such-user/x")
    with pytest.raises(ConfigurationError, match=r"^DATABASE_URL_FILE: ~no-such-user/x names a user who is not there"):
        Settings.from_environment()


@pytest.mark.parametrize("kind", ["missing", "a file", "a socket"])
def test_a_path_that_is_no_folder(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    if kind == "a file":
        path.touch()
    if kind == "a socket":
        socket.socket(socket.AF_UNIX).bind(str(path))
    monkeypatch.setenv("FAKESWEEP_SECRETS_DIR", str(path))
    with pytest.raises(ConfigurationError, match=f"^FAKESWEEP_SECRETS_DIR: {path} is not a folder: name the folder"):
        Settings.from_environment()


def test_a_command_reports_the_error_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "x").write_text(SECRET)
    done = fakesweep("status", environment={"DATABASE_URL": "", "DATABASE_URL_FILE": f"{tmp_path}/x/under-a-file"})
    assert done.returncode == 2
    assert done.stderr == (
        f"fakesweep: DATABASE_URL_FILE: {tmp_path}/x/under-a-file cannot be read: Not a directory: check the path, and "
        "that this user may read it\n"
    )


def test_the_keys_of_annotation_endpoints(tmp_path: Path) -> None:
    (tmp_path / "FAKESWEEP_ANNOTATION_KEY_0").write_text("of the folder\n")
    environment = {"FAKESWEEP_SECRETS_DIR": str(tmp_path)}
    addresses = [Address("model", "https://example.org/v1")]
    assert find_key(0, addresses, environment) == ("of the folder", "FAKESWEEP_ANNOTATION_KEY_0")
    environment = {"FAKESWEEP_ANNOTATION_KEY_0_FILE": str(tmp_path / "FAKESWEEP_ANNOTATION_KEY_0")}
    assert find_key(0, addresses, environment)[0] == "of the folder"


def test_a_command_connects_with_the_url_of_a_file(database_url: str, tmp_path: Path) -> None:
    (tmp_path / "DATABASE_URL").write_text(f"{database_url}\n")
    without = {name: "" for name in os.environ if name == "DATABASE_URL"}
    done = fakesweep("status", environment=without | {"FAKESWEEP_SECRETS_DIR": str(tmp_path)})
    assert (done.returncode, done.stderr) == (0, "")
