"""The Helm chart: pods are safe, are given the time they need, and are watched as our alerts expect."""

import json
import re
import tomllib

import pytest
import yaml

from producers.web.serve import GRACE_S
from tests.conftest import IN_CI
from tests.documents import ROOT
from tests.helm import CHART, EVERYTHING, RENDERED, VALUES, containers, environment, find_helm, one, pods, render
from tests.integration.test_api_scopes import TABLE
from worker.settings import Settings

pytestmark = pytest.mark.skipif(not find_helm() and not IN_CI, reason="there is no helm here")


@pytest.mark.parametrize("rendered", RENDERED)
def test_no_container_has_more_rights_than_it_needs(rendered: tuple[str, ...]) -> None:
    for each, spec in pods(render(*rendered)):
        name = each["metadata"]["name"]
        assert spec["automountServiceAccountToken"] is False, name
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not any("hostPath" in volume for volume in spec["volumes"]), name
    for name, container in containers(render(*rendered)):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
        }, name  # fmt: skip
        assert container["resources"]["requests"], name
        assert container["resources"]["limits"]["memory"], name
        assert any(mount["mountPath"] == "/tmp" for mount in container["volumeMounts"]), name
        assert not container["image"].endswith(":latest"), name
    ours = [spec["securityContext"]["runAsUser"] for _, spec in pods(render("production"))]
    assert set(ours) == {10001}


@pytest.mark.parametrize("name", VALUES)
def test_long_running_pods_are_probed_and_the_ports_of_probes_exist(name: str) -> None:
    for each, spec in pods(render(name)):
        if each["kind"] == "Job":
            continue
        for container in spec["containers"]:
            ports = {port["name"] for port in container["ports"]}
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                asked = container[probe]
                port = asked.get("httpGet", asked.get("tcpSocket", {"port": None}))["port"]
                assert port in ports or "exec" in asked, (each["metadata"]["name"], probe)
                if "httpGet" in asked:  # a busy process answers late; the default is a second
                    assert asked["timeoutSeconds"] >= 5, (each["metadata"]["name"], probe)


def test_alerts_and_boards_are_those_of_this_repository() -> None:
    rendered = render("production")
    with (ROOT / "deploy" / "prometheus" / "alerts.yaml").open(encoding="utf-8") as file:
        assert one(rendered, "PrometheusRule", "")["spec"] == yaml.safe_load(file)
    boards = one(rendered, "ConfigMap", "boards")
    assert boards["metadata"]["labels"]["grafana_dashboard"] == "1"
    there = {path.name: json.loads(path.read_text()) for path in (ROOT / "deploy/grafana/boards").glob("*.json")}
    assert {name: json.loads(text) for name, text in boards["data"].items()} == there


def test_targets_have_the_jobs_that_alerts_ask_for() -> None:
    rendered = render("production")
    monitor = one(rendered, "ServiceMonitor", "")["spec"]
    services = [
        each for each in rendered if each["kind"] == "Service" and "fakesweep-job" in each["metadata"]["labels"]
    ]
    jobs = {each["metadata"]["labels"][monitor["jobLabel"]] for each in services}
    assert jobs == {"fakesweep-worker", "fakesweep-producers"}
    assert {"key": "fakesweep-job", "operator": "Exists"} in monitor["selector"]["matchExpressions"]
    for each in services:
        assert (
            each["spec"]["publishNotReadyAddresses"] is True
        )  # the alert FakesweepWorkerNotReady needs pods that are not ready
        assert each["spec"]["ports"][0]["name"] == monitor["endpoints"][0]["port"]


def test_a_worker_has_one_gpu_and_a_roll_out_needs_no_second_one() -> None:
    deployment = one(render("production"), "Deployment")
    worker = deployment["spec"]["template"]["spec"]["containers"][0]
    assert worker["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
    assert "replicas" not in deployment["spec"]  # KEDA sets it
    (memory,) = (v for v in deployment["spec"]["template"]["spec"]["volumes"] if v["name"] == "shared-memory")
    assert memory["emptyDir"]["medium"] == "Memory"
    assert {"name": "shared-memory", "mountPath": "/dev/shm"} in worker["volumeMounts"]


def test_the_desk_is_probed_at_a_path_without_login() -> None:
    for name in ("production", "try"):
        container = one(render(name), "Deployment", "web")["spec"]["template"]["spec"]["containers"][0]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            (path,) = set(re.findall(r"/v1(/[\w.]+)", str(container[probe])))
            assert TABLE["GET", path] is None
            assert path != "/health"  # it is 503 while the broker is away, when people can still review


@pytest.mark.parametrize("name", VALUES)
def test_pods_are_given_the_time_that_their_processes_need(name: str) -> None:
    rendered = render(name)
    deployment = one(rendered, "Deployment")["spec"]
    worker = deployment["template"]["spec"]
    assert worker["terminationGracePeriodSeconds"] > Settings.model_fields["engine_stall_s"].default
    startup = worker["containers"][0]["startupProbe"]
    assert startup["httpGet"]["path"] == "/health"
    assert (
        startup["periodSeconds"] * startup["failureThreshold"] >= 1800
    )  # the first image may take as long: settings.py
    assert deployment["progressDeadlineSeconds"] > 1800
    web = one(rendered, "Deployment", "web")["spec"]["template"]["spec"]
    waits = web["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert web["terminationGracePeriodSeconds"] > waits + GRACE_S


def test_a_worker_of_production_reaches_nothing_but_its_services() -> None:
    policies = {
        each["metadata"]["name"]: each["spec"] for each in render("production") if each["kind"] == "NetworkPolicy"
    }
    ports = {
        name.removeprefix("r-fakesweep-"): [rule["ports"][0]["port"] for rule in spec["egress"]]
        for name, spec in policies.items()
    }
    s3, sentry, internet = 443, 443, 443
    assert ports == {
        "migrate": [53, 5432],
        "worker": [53, 5432, 5671, s3, sentry],
        "web": [53, 5432, 5671, s3, sentry, internet],
        "nightly": [53, 5432, 5671, s3, sentry],
        "listen": [53, 5671, sentry, internet],
    }
    assert all(rule["to"] for rule in policies["r-fakesweep-worker"]["egress"])
    assert policies["r-fakesweep-migrate"]["ingress"] == []
    assert all(spec["policyTypes"] == ["Ingress", "Egress"] for spec in policies.values())
    kinds = {each["kind"] for each in render("one-gpu")}
    assert "NetworkPolicy" not in kinds


@pytest.mark.parametrize("option", ["--judge", "--also", "--also=siglip"])
def test_a_listener_that_asks_for_more_gets_the_database_and_no_other_does(option: str) -> None:
    arguments = f"listen.arguments={{--suffix,.also,{option}}}"
    for rendered, asks in ((render("production", "--set", arguments), True), (render("production"), False)):
        pod = one(rendered, "Deployment", "listen")["spec"]["template"]["spec"]
        egress = one(rendered, "NetworkPolicy", "listen")["spec"]["egress"]
        assert ("DATABASE_URL_FILE" in environment(pod["containers"][0])) is asks
        assert (5432 in [rule["ports"][0]["port"] for rule in egress]) is asks
        (secrets,) = (volume["projected"]["sources"] for volume in pod["volumes"] if "projected" in volume)
        assert ("database-url" in [item["path"] for each in secrets for item in each["secret"]["items"]]) is asks
    queue = "listen.enabled=true,listen.queueUrl=https://sqs.example.org/1/q"
    tried = one(render("try", "--set", f"{queue},{arguments}"), "Deployment", "listen")["spec"]["template"]["spec"]
    assert tried["initContainers"][0]["args"] == ["migrate"]


def test_webhooks_get_the_database_and_the_receivers_and_nothing_else() -> None:
    rendered = render("production", *EVERYTHING)
    policy = one(rendered, "NetworkPolicy", "webhooks")["spec"]
    assert [rule["ports"][0]["port"] for rule in policy["egress"]] == [53, 5432, 443, 443]
    pod = one(rendered, "Deployment", "webhooks")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    given = environment(container)
    assert {name for name in given if "BROKER" in name or "S3" in name or "SECRET" in name} == set()
    assert given["FAKESWEEP_WEBHOOKS_NETWORKS"] == "10.1.0.0/16"
    assert container["ports"] == [{"name": "metrics", "containerPort": int(given["FAKESWEEP_WEBHOOKS_PORT"])}]


def test_only_our_pods_can_reach_the_bundled_services() -> None:
    rendered = render("try", "--set", "networkPolicy.enabled=true")
    for name, port in (("postgres", 5432), ("rabbitmq", 5672)):
        ingress = one(rendered, "NetworkPolicy", name)["spec"]["ingress"][0]
        ours = {"podSelector": {"matchLabels": {"app.kubernetes.io/instance": "r"}}}
        assert (ingress["from"], ingress["ports"][0]["port"]) == ([ours], port)
        labels = one(rendered, "StatefulSet", name)["spec"]["template"]["metadata"]["labels"]
        worker = one(rendered, "NetworkPolicy")["spec"]["egress"]
        (peers,) = (rule["to"] for rule in worker if rule["ports"][0]["port"] == port)
        assert peers[0]["podSelector"]["matchLabels"].items() <= labels.items()


def test_the_bundled_services_have_what_their_images_lack() -> None:
    rendered = render("try")
    configuration = one(rendered, "Secret", "bundled")["stringData"]["rabbitmq.conf"]
    assert "log.console = true" in configuration.splitlines()  # `kubectl logs` would be empty
    (container,) = one(rendered, "StatefulSet", "postgres")["spec"]["template"]["spec"]["containers"]
    assert {"name": "shared-memory", "mountPath": "/dev/shm"} in container["volumeMounts"]


def test_the_schema_is_migrated_before_anything_else_and_finished_after_it() -> None:
    jobs = {
        each["metadata"]["name"]: each for each, _ in pods(render("production", *EVERYTHING)) if each["kind"] == "Job"
    }
    hooks = {name: job["metadata"]["annotations"]["helm.sh/hook"] for name, job in jobs.items()}
    assert hooks == {
        "r-fakesweep-migrate": "pre-install,pre-upgrade",
        "r-fakesweep-migrate-finish": "post-upgrade",
    }
    (finish,) = jobs["r-fakesweep-migrate-finish"]["spec"]["template"]["spec"]["containers"]
    assert finish["args"] == ["migrate", "--finish"]
    # Nothing of the release exists yet, so the hook may need only Secrets that the operator made.
    for job in jobs.values():
        spec = job["spec"]["template"]["spec"]
        assert "serviceAccountName" not in spec
        (secrets,) = (volume["projected"]["sources"] for volume in spec["volumes"] if "projected" in volume)
        assert [source["secret"]["name"] for source in secrets] == ["fakesweep-database"]
    # The bundled Postgres is made by the release itself, so pods migrate before they start.
    tried = {each["metadata"]["name"]: spec for each, spec in pods(render("try"))}
    assert not any(each["kind"] == "Job" for each in render("try"))
    for name in ("worker", "web", "nightly"):
        assert tried[f"r-fakesweep-{name}"]["initContainers"][0]["args"] == ["migrate"]


def test_worker_and_desk_survive_a_node_that_is_drained() -> None:
    for name in ("worker", "web"):
        budget = one(render("production"), "PodDisruptionBudget", name)["spec"]
        deployment = one(render("production"), "Deployment", name)["spec"]
        assert budget["maxUnavailable"] == 1
        assert budget["selector"] == deployment["selector"]


def test_the_chart_has_the_version_of_this_release() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert chart["appVersion"] == version
