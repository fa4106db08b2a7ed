"""The Compose file: the checks that need no container engine."""

import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from producers.nightly.schedule import load
from producers.web.settings import PREFIX, WebSettings
from tests.documents import ROOT
from worker.settings import Settings

FOLDER = ROOT / "deploy" / "compose"
FILE = FOLDER / "compose.yaml"
COMPOSE: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ONCE = {"migrate", "roles", "bucket", "drawn-images"}
OURS = {name for name, service in SERVICES.items() if "build" in service}
SECRET = re.compile(r"PASS|SECRET|TOKEN|KEY|CREDENTIALS|URL$|DSN")
OPEN = {"FAKESWEEP_WEB_URL", "GRAFANA_PROMETHEUS_URL", "GRAFANA_POSTGRES_PASSWORD"}


def names(service: dict[str, Any]) -> set[str]:
    """Returns the names of the secrets that a service gets."""
    return {one if isinstance(one, str) else one["source"] for one in service.get("secrets", [])}


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that secrets.sh makes."""
    folder = tmp_path_factory.mktemp("compose")
    (folder / "secrets.sh").write_bytes((FOLDER / "secrets.sh").read_bytes())
    subprocess.run(["sh", folder / "secrets.sh"], check=True, capture_output=True)
    return folder / "secrets"


def test_the_file_follows_the_compose_specification() -> None:
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "check_jsonschema",
        "--builtin-schema",
        "vendor.compose-spec",
        FILE,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_limits_a_health_check_and_a_restart_policy(name: str) -> None:
    service = SERVICES[name]
    assert "memory" in service["deploy"]["resources"]["limits"]
    assert service["restart"] == ("on-failure" if name in ONCE else "unless-stopped")
    assert name in ONCE or "test" in service["healthcheck"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["image"].startswith(("docker.io/", "${IMAGE_REPOSITORY:-}"))
    assert re.search(r":[\w.${:-]*\d", service["image"])
    if name in OURS:
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert service["pull_policy"] == "never"


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_open_to_this_machine_only(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert port.startswith("127.0.0.1:")


@pytest.mark.parametrize("name", SERVICES)
def test_no_secret_is_in_the_environment(name: str) -> None:
    service = SERVICES[name]
    for variable, value in service.get("environment", {}).items():
        if variable.endswith("_FILE"):
            assert value.removeprefix("/run/secrets/") in names(service), variable
        elif SECRET.search(variable) and variable not in OPEN:
            pytest.fail(f"the value of {variable} is in the file")
    assert "GRAFANA_POSTGRES_PASSWORD" not in service.get("environment", {})


def test_the_script_makes_every_secret_once(secrets: Path) -> None:
    made = {path.name for path in secrets.iterdir()}
    assert {Path(one["file"]).name for one in COMPOSE["secrets"].values()} == made - {"desk_password"}
    assert set().union(*map(names, SERVICES.values())) == set(COMPOSE["secrets"])
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    # The users of the containers must be able to read them.
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o644 for path in secrets.iterdir())
    again = subprocess.run(["sh", secrets.parent / "secrets.sh"], capture_output=True, text=True, check=False)
    assert again.returncode == 1
    assert "there is a folder secrets already" in again.stderr


def test_each_process_has_its_own_login(secrets: Path) -> None:
    logins = {
        "worker": "worker",
        "worker-demo": "worker",
        "web": "web",
        "nightly": "producer",
        "webhooks": "webhooks",
        "migrate": "postgres",
    }
    for service, login in logins.items():
        file = Path(SERVICES[service]["environment"]["DATABASE_URL_FILE"]).name
        url = (secrets / file).read_text()
        password = "postgres_password" if login == "postgres" else f"postgres_{login}"
        assert url == f"postgresql://{login}:{(secrets / password).read_text().strip()}@postgres:5432/fakesweep\n"


def test_settings_have_names_that_the_processes_know() -> None:
    known = {f"FAKESWEEP_{name.upper()}" for name in Settings.model_fields}
    known |= {f"{PREFIX}{name.upper()}" for name in WebSettings.model_fields}
    for service in (SERVICES[name] for name in OURS):
        named = {name.removesuffix("_FILE") for name in service["environment"] if name.startswith("FAKESWEEP_")}
        assert not named - known


def test_what_is_mounted_exists() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source, _, target = volume.partition(":")
            if source.startswith("."):
                assert (FOLDER / source).exists(), source
                assert target.endswith(":ro")
            elif target:
                assert source in COMPOSE["volumes"]


def test_the_files_of_each_image_exist() -> None:
    for service in (SERVICES[name] for name in OURS):
        assert (FOLDER / service["build"]["context"]).resolve() == ROOT
        assert (ROOT / service["build"]["dockerfile"]).exists()


def test_the_nightly_scan_can_be_read() -> None:
    assert load(FOLDER / "nightly.toml")["photos"].crontab == "0 2 * * *"


def test_prometheus_accepts_its_configuration_and_scrapes_existing_services(tmp_path: Path) -> None:
    text = (FOLDER / "prometheus.yaml").read_text(encoding="utf-8")
    (tmp_path / "prometheus.yaml").write_text(text.replace("/etc/", f"{ROOT}/deploy/"))
    done = subprocess.run(
        ["promtool", "check", "config", tmp_path / "prometheus.yaml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "rules found" in done.stdout + done.stderr
    targets = [one["static_configs"][0]["targets"] for one in yaml.safe_load(text)["scrape_configs"]]
    assert targets == [["worker:9100"], ["nightly:9090", "webhooks:9092"]]
    assert SERVICES["worker"]["environment"]["FAKESWEEP_HEALTH_PORT"] == "9100"
    assert SERVICES["nightly"]["environment"]["FAKESWEEP_NIGHTLY_PORT"] == "9090"
    assert SERVICES["webhooks"]["environment"]["FAKESWEEP_WEBHOOKS_PORT"] == "9092"
    assert SERVICES["worker-demo"]["networks"]["default"]["aliases"] == ["worker"]


def test_what_runs_once_is_awaited_by_something() -> None:
    awaited = {
        name
        for service in SERVICES.values()
        for name, how in service.get("depends_on", {}).items()
        if how["condition"] == "service_completed_successfully"
    }
    assert awaited == ONCE  # otherwise `docker compose up --wait` fails when it has ended (docker/compose#10596)


def test_a_worker_has_longer_to_stop_than_a_hung_engine_needs() -> None:
    for name in ("worker", "worker-demo"):
        seconds = re.fullmatch(r"(\d+)s", SERVICES[name]["stop_grace_period"])
        assert seconds
        assert int(seconds[1]) > Settings().engine_stall_s


def test_the_proxy_is_started_again_with_the_desk_behind_it() -> None:
    assert SERVICES["desk"]["depends_on"]["web"]["restart"]  # nginx keeps the address that it found at its start


def test_each_profile_has_one_worker() -> None:
    assert {name: service["profiles"] for name, service in SERVICES.items() if "profiles" in service} == {
        "worker": ["gpu"],
        "worker-demo": ["demo"],
        "drawn-images": ["demo"],
    }
