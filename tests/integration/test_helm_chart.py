"""Kubernetes, KEDA, Prometheus and our processes accept what the Helm chart makes from each file of values."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

import jsonschema
import pytest

from producers.__main__ import app
from producers.web.settings import PREFIX, WebSettings
from tests.conftest import IN_CI
from tests.helm import (
    RENDERED,
    VALUES,
    Object,
    containers,
    environment,
    find_helm,
    helm,
    one,
    pods,
    render,
)
from worker.settings import EnvironmentSettings, Settings

pytestmark = pytest.mark.skipif(not find_helm() and not IN_CI, reason="there is no helm here")

KUBERNETES = "1.37"
OTHERS = [
    ("one-gpu", "--set", "worker.modelCache.type=ephemeral"),
    ("one-gpu", "--set", "worker.modelCache.type=hostPath,worker.modelCache.hostPath=/srv/models"),
    (
        "one-gpu",
        "--set",
        "worker.modelCache.type=emptyDir,worker.queues={moderation.scan},worker.runtimeClassName=nvidia",
    ),
    (
        "try",
        "--set",
        "networkPolicy.enabled=true,worker.autoscaling.enabled=true,monitoring.serviceMonitor.enabled=true",
    ),
]
"""Options that no file of values sets."""
CUSTOM = {"keda.sh/v1alpha1", "monitoring.coreos.com/v1"}


def needed(module: str) -> Any:
    """Imports a package that only tests use. Without it, the test is skipped, but not in CI."""
    return import_module(module) if IN_CI else pytest.importorskip(module)


@pytest.mark.parametrize("name", VALUES)
def test_helm_lint_finds_nothing(name: str) -> None:
    done = helm("lint", "--strict", "--values", str(VALUES[name]))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[WARNING]" not in done.stdout


@pytest.mark.parametrize("rendered", RENDERED + OTHERS)
def test_kubernetes_would_take_every_object(rendered: tuple[str, ...]) -> None:
    validator = needed("kubernetes_validate")
    core = [each for each in render(*rendered) if each["apiVersion"] not in CUSTOM]
    assert core
    for each in core:
        validator.validate(each, KUBERNETES, strict=True)


@pytest.mark.parametrize("kind", ["ScaledObject", "TriggerAuthentication", "ServiceMonitor", "PrometheusRule"])
def test_custom_objects_fit_their_schemas(kind: str) -> None:
    found = [each for each in render("production") if each["kind"] == kind]
    assert found
    for each in found:
        assert not list(faults_of(each))


def test_a_misspelt_key_of_a_custom_object_is_found() -> None:
    scaled = one(render("production"), "ScaledObject")
    assert list(faults_of(scaled | {"spec": scaled["spec"] | {"maxReplicas": 3}}))


def faults_of(custom: Object) -> Iterator[str]:
    """The faults of an object by the schema of its kind. A key that the schema does not know is a fault."""
    schema = custom_models()[custom["kind"]].model_json_schema(by_alias=True)
    close(schema)
    # Since KEDA 2.17 (keda.sh/docs/2.17/reference/scaledobject-spec, fallback.behavior). The package has 2.16.
    if "Fallback" in schema["$defs"]:
        choices = ["static", "currentReplicas", "currentReplicasIfHigher", "currentReplicasIfLower"]
        schema["$defs"]["Fallback"]["properties"]["behavior"] = {"enum": choices}
    return (error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(custom))


def custom_models() -> Mapping[str, Any]:
    keda, prometheus = needed("cloudcoil.models.keda.v1alpha1"), needed("cloudcoil.models.prometheus_operator.v1")
    models = (keda.ScaledObject, keda.TriggerAuthentication, prometheus.ServiceMonitor, prometheus.PrometheusRule)
    return {model.__name__: model for model in models}


def close(schema: Any) -> None:
    """Forbids unknown keys, in each object of the schema that has properties."""
    if isinstance(schema, dict):
        if "properties" in schema:
            schema.setdefault("additionalProperties", False)
        for part in schema.values():
            close(part)
    elif isinstance(schema, list):
        for part in schema:
            close(part)


@pytest.mark.parametrize("rendered", RENDERED)
def test_each_variable_is_a_setting_that_takes_its_value(
    rendered: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = {variable(model, field): model for model in (Settings, WebSettings) for field in model.model_fields}
    secrets = {"DATABASE_URL", "BROKER_URL", "SENTRY_DSN", *(name for name in fields if name.endswith("_SECRET"))}
    for name, container in containers(render(*rendered), ours=True):
        given = {
            key.removesuffix("_FILE") if key.removesuffix("_FILE") in secrets else key: value
            for key, value in environment(container).items()
        }
        ours = {key for key in given if key.startswith("FAKESWEEP_")}
        assert ours <= fields.keys(), name
        with monkeypatch.context() as patch:
            for key in ours:
                patch.setenv(key, "x" * 40 if key in secrets else given[key])
            Settings.from_environment()
            if container["name"] == "web":
                WebSettings.from_environment().check()


def variable(model: type[EnvironmentSettings], field: str) -> str:
    alias = model.model_fields[field].validation_alias
    prefix = PREFIX if model is WebSettings else "FAKESWEEP_"
    return alias if isinstance(alias, str) else f"{prefix}{field.upper()}"


@pytest.mark.parametrize("rendered", RENDERED)
def test_secrets_come_as_files_that_are_mounted(rendered: tuple[str, ...]) -> None:
    for each, spec in pods(render(*rendered)):
        (sources,) = ([v["projected"]["sources"] for v in spec["volumes"] if "projected" in v] or [[]])[:1]
        mounted = {f"/run/secrets/fakesweep/{item['path']}" for one in sources for item in one["secret"]["items"]}
        for container in (*spec.get("initContainers", []), *spec["containers"]):
            if "fakesweep" not in container["image"]:
                continue
            given = environment(container)
            files = {value for value in given.values() if value.startswith("/run/secrets/")}
            assert files, container["name"]
            assert files <= mounted, (each["metadata"]["name"], container["name"])
            assert not {"DATABASE_URL", "BROKER_URL", "SENTRY_DSN"} & given.keys()


@pytest.mark.parametrize("rendered", RENDERED)
def test_the_commands_are_those_of_the_command_line(rendered: tuple[str, ...]) -> None:
    context = app.make_context("fakesweep", ["status"], resilient_parsing=True)
    for _, container in containers(render(*rendered), ours=True):
        assert container["command"] == ["tini", "--", "fakesweep"]
        _, command, words = app.resolve_command(context, list(container["args"]))
        assert command is not None
        command.make_context(container["args"][0], words, parent=context)


def test_ports_are_those_that_the_settings_name() -> None:
    for name, container in containers(render("production"), ours=True):
        ports = {port["containerPort"] for port in container.get("ports", [])}
        named = {int(value) for key, value in environment(container).items() if key.endswith("_PORT")}
        assert ports == named, name
