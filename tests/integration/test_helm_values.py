"""The Helm chart's values: wrong ones are refused with the remedy, all are documented, and autoscaling is computed."""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic_settings import BaseSettings

from producers.bulk import UNCONFIRMED
from producers.web.settings import PREFIX, WebSettings
from tests.conftest import IN_CI
from tests.helm import (
    CHART,
    EVERYTHING,
    VALUES,
    containers,
    environment,
    find_helm,
    helm,
    one,
    pods,
    refused,
    render,
)
from worker.settings import Settings

pytestmark = pytest.mark.skipif(not find_helm() and not IN_CI, reason="there is no helm here")

TOLERANCE = 0.1
"""The HPA changes nothing while the ratio is this near to 1 (--horizontal-pod-autoscaler-tolerance)."""
WRONG = {
    "worker.gpu.count=2": "additional properties 'count' not allowed",
    "workers.replicas=2": "additional properties 'workers' not allowed",
    "queue.maxDepth=lots": "at '/queue/maxDepth': got string, want integer",
    "queue.maxDepth=0": "at '/queue/maxDepth': minimum: got 0, want 1",
    "worker.threads=300": "at '/worker/threads': maximum: got 300, want 256",
    "worker.queues={moderation.dead}": "at '/worker/queues/0': value must be one of 'moderation.live'",
    "worker.modelCache.type=nfs": "at '/worker/modelCache/type': value must be one of",
    "worker.sharedMemory=lots": "at '/worker/sharedMemory': 'lots' does not match pattern",
    "worker.maxUnavailable=0": "at '/worker/maxUnavailable'",
    "worker.autoscaling.floor.start=daily": "at '/worker/autoscaling/floor/start'",
    "web.login=ldap": "at '/web/login': value must be one of 'oidc', 'proxy', 'demo'",
    "web.url=http://review.example.org": "at '/web/url'",
    "web.oidc.issuer=accounts.example.org": "at '/web/oidc/issuer'",
    "image.digest=sha256:12": "at '/image/digest'",
    "image.pullPolicy=Sometimes": "at '/image/pullPolicy'",
    "database.existingSecret=My_Secret": "at '/database/existingSecret'",
    "database.url=postgresql://x": "additional properties 'url' not allowed",
    "s3.allowedBuckets={s3://photos}": "at '/s3/allowedBuckets/0'",
    "settings.MAX_PIXELS=1": "at '/settings': additional properties 'MAX_PIXELS' not allowed",
    "settings.FAKESWEEP_MAX_PIXLES=1": "at '/settings': additional properties 'FAKESWEEP_MAX_PIXLES' not allowed",
    "settings.FAKESWEEP_MAX_PIXELS=many": "at '/settings/FAKESWEEP_MAX_PIXELS'",
    "settings.FAKESWEEP_LOG_LEVEL=LOUD": "at '/settings/FAKESWEEP_LOG_LEVEL': value must be one of 'DEBUG', 'INFO'",
    "settings.FAKESWEEP_WEB_SECOND_SHARE=half": "at '/settings/FAKESWEEP_WEB_SECOND_SHARE'",
    "settings.FAKESWEEP_MAX_PIXELS=": "at '/settings/FAKESWEEP_MAX_PIXELS'",
    "worker.resources.limits.memory=1Gb": "at '/worker/resources/limits/memory'",
    "worker.resources.limits.memory=512m": "at '/worker/resources/limits/memory'",
    "worker.resources.requests.cpu=six": "at '/worker/resources/requests/cpu'",
    "image.registry=https://registry.example.org": "at '/image/registry'",
    "image.repository=fakesweep:1.0": "at '/image/repository'",
    "worker.image.repository=Fakesweep": "at '/worker/image/repository'",
    "image.tag=one two": "at '/image/tag'",
    "image.pullSecrets={a,a}": "at '/image/pullSecrets': items at 0 and 1 are equal",
    "worker.autoscaling.floor.start=99 1 * * *": "at '/worker/autoscaling/floor/start'",
    "worker.autoscaling.floor.end=40 25 * * *": "at '/worker/autoscaling/floor/end'",
    "worker.autoscaling.maxReplicas=1000000": "at '/worker/autoscaling/maxReplicas': maximum",
    "worker.startupSeconds=1000000": "at '/worker/startupSeconds': maximum",
    "s3.endpointUrl=https://user:password@minio": "at '/s3/endpointUrl'",
    "s3.endpointUrl=https://minio /x": "at '/s3/endpointUrl'",
    "worker.model=s3:/models/fakevlm": "at '/worker/model'",
    "worker.tolerations[0].effct=NoSchedule": "at '/worker/tolerations/0': additional properties 'effct' not allowed",
    "worker.tolerations[0].effect=Sometimes": "at '/worker/tolerations/0/effect'",
    "web.affinity.podAffinty.x=y": "at '/web/affinity': additional properties 'podAffinty' not allowed",
    "web.topologySpreadConstraints[0].maxSkew=1": "missing properties 'topologyKey', 'whenUnsatisfiable'",
    "worker.extraEnv[0].name=A,worker.extraEnv[0].val=b": "at '/worker/extraEnv/0': additional properties 'val'",
    "worker.extraEnv[0].name=A,worker.extraEnv[0].value=1": "at '/worker/extraEnv/0/value': got number, want string",
    "worker.extraEnv[0].name=DATABASE_URL": "at '/worker/extraEnv/0/name'",
    "worker.extraVolumes[0].nam=a": "at '/worker/extraVolumes/0'",
    "web.extraVolumes[0].name=tmp,web.extraVolumes[0].emptyDir.medium=Memory": "at '/web/extraVolumes/0/name'",
    "worker.extraVolumeMounts[0].mountpath=/x": "at '/worker/extraVolumeMounts/0'",
    "worker.extraInitContainers[0].name=a": "at '/worker/extraInitContainers/0': missing property 'image'",
    "worker.podLabels.app=one two": "at '/worker/podLabels/app'",
    r"worker.podLabels.app\.kubernetes\.io/name=x": "at '/worker/podLabels/app.kubernetes.io~1name'",
    r"worker.podAnnotations.checksum/files=x": "at '/worker/podAnnotations/checksum~1files'",
    "web.trustedProxies={10.0.0.0/99}": "at '/web/trustedProxies/0'",
    "web.trustedProxies={999.1.1.1}": "at '/web/trustedProxies/0'",
    "fullnameOverride=a.b": "at '/fullnameOverride'",
    "nameOverride=1a": "at '/nameOverride'",
    "networkPolicy.egress.s3.to[0].ipblock.cidr=10.0.0.0/8": "additional properties 'ipblock' not allowed",
    "networkPolicy.egress.s3.to[0].ipBlock.cidr=10.0.0.0/99": "at '/networkPolicy/egress/s3/to/0/ipBlock/cidr'",
    "networkPolicy.ingress.web.from[0].namespaceSelector.matchLabel.a=b": "additional properties 'matchLabel'",
    "networkPolicy.egress.s3.ports={0}": "at '/networkPolicy/egress/s3/ports/0'",
    "monitoring.serviceMonitor.interval=often": "at '/monitoring/serviceMonitor/interval'",
}
UNFIT = {
    "database.existingSecret=": "database.existingSecret is empty: name a Secret",
    "broker.existingSecret=": "broker.existingSecret is empty: name a Secret",
    "bundled.postgres.enabled=true": "database.existingSecret and bundled.postgres.enabled are both set: choose one",
    "broker.management.existingSecret=": "broker.management.existingSecret is empty: KEDA needs",
    "worker.model=": "worker.model is empty and worker.offline is true: give s3://bucket/prefix",
    "worker.terminationGracePeriodSeconds=300": "it must be at least worker.engineStallSeconds + 15 = 315",
    "worker.modelCache.type=hostPath": "worker.modelCache.hostPath is empty: name a folder",
    "worker.autoscaling.minReplicas=17": "minReplicas is 17, and maxReplicas is only 16",
    "worker.autoscaling.floor.replicas=17": "floor.replicas is 17, and maxReplicas is only 16",
    "worker.autoscaling.floor.end=40 1 * * *": "worker.autoscaling.floor.start and end are the same",
    r"worker.resources.limits.nvidia\.com/gpu=2": "worker.resources.limits names nvidia.com/gpu: leave it out",
    "worker.resources.limits.memory=5Gi": "worker.resources.limits.memory is 5Gi: it must be more than",
    "worker.modelCache.accessMode=ReadWriteOncePod": "worker.modelCache.accessMode is ReadWriteOncePod",
    "worker.extraEnv[0].name=FAKESWEEP_THREADS": "worker.extraEnv names FAKESWEEP_THREADS, which has a value already",
    "nightly.extraEnv[0].name=FAKESWEEP_TIMEZONE": "nightly.extraEnv names FAKESWEEP_TIMEZONE, which has a value",
    "settings.FAKESWEEP_MIN_EDGE=9,web.extraEnv[0].name=FAKESWEEP_MIN_EDGE": "web.extraEnv names FAKESWEEP_MIN_EDGE",
    "web.existingSecret=": "web.existingSecret is empty: name a Secret whose key WEB_SECRET",
    "web.url=": "web.url is empty: give the address",
    "web.oidc.clientId=": "web.oidc.issuer and web.oidc.clientId must both be set",
    "web.login=demo": "web.login is demo, which lets anybody in: web.ingress.enabled must be false",
    "nightly.schedule=": "nightly.schedule is empty: give the TOML file",
    "listen.queueUrl=": "listen.queueUrl is empty: give the address of the SQS queue",
}


@pytest.mark.parametrize("value", WRONG)
def test_the_schema_refuses_a_wrong_value(value: str) -> None:
    said = refused("production", "--set", value)
    assert "don't meet the specifications of the schema" in said
    assert WRONG[value] in said


@pytest.mark.parametrize("value", UNFIT)
def test_values_that_do_not_fit_together_are_refused_with_the_remedy(value: str) -> None:
    said = refused("production", "--set", value)
    assert "these values are missing, or do not fit together" in said
    assert UNFIT[value] in said


RIGHT = [
    "worker.autoscaling.floor.start=*/15 1-3\\,5 1 JAN MON-FRI",
    "image.registry=localhost:5000/team/images/",
    "image.repository=registry.example.org:5000/team/fakesweep",
    "image.tag=0.1.0-rc.1_x",
    "worker.resources.limits.cpu=7500m",
    "worker.resources.requests.cpu=6",
    "worker.model=lingcco/fakeVLM",
    "worker.model=/models/fakevlm",
    "web.trustedProxies={fd00::1,::1/128,192.168.1.1}",
    "networkPolicy.egress.s3.to[0].ipBlock.cidr=fd00::/8",
    "worker.extraEnv[0].name=FAKESWEEP_MIN_EDGE,worker.extraEnv[0].value=x",
    "worker.resources.limits.memory=6500Mi",
]


@pytest.mark.parametrize("value", RIGHT)
def test_values_of_every_form_that_is_right_are_taken(value: str) -> None:
    render("production", "--set", value)


def test_a_large_number_in_a_file_of_values_stays_a_whole_number(tmp_path: Path) -> None:
    given = {"FAKESWEEP_MAX_BYTES": 67108864, "FAKESWEEP_MAX_PIXELS": 10**8, "FAKESWEEP_WEB_SECOND_SHARE": 0.05}
    path = tmp_path / "values.yaml"
    path.write_text(yaml.safe_dump({"settings": given}))  # Helm reads the numbers of a file as floats
    worker = one(render("production", "--values", str(path)), "Deployment")["spec"]["template"]["spec"]["containers"][0]
    assert {name: environment(worker)[name] for name in given} == {name: str(value) for name, value in given.items()}


def numbers(model: type[BaseSettings], prefix: str) -> Iterator[tuple[str, str]]:
    """The settings that are numbers, with what the schema must say of each."""
    kinds = {int: "#/definitions/wholeSetting", float: "#/definitions/numberSetting"}
    for name, field in model.model_fields.items():
        for kind, told in kinds.items():
            if field.annotation in {kind, kind | None}:
                yield prefix + name.upper(), told


def test_the_schema_takes_only_numbers_for_settings_that_are_numbers() -> None:
    told = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))["properties"]["settings"][
        "properties"
    ]
    expected = dict([*numbers(Settings, "FAKESWEEP_"), *numbers(WebSettings, PREFIX)])
    assert {name: told[name].get("$ref") for name in expected} == expected


def test_the_schema_knows_every_setting() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    fields = {
        f"FAKESWEEP_{name.upper()}" for name, field in Settings.model_fields.items() if not field.validation_alias
    }
    web = {PREFIX + name.upper() for name, field in WebSettings.model_fields.items() if not field.validation_alias}
    files = {f"{name}_FILE" for name in web if name.endswith("_SECRET")}
    assert schema["properties"]["settings"]["properties"].keys() == fields | web | files


@pytest.mark.parametrize("release", ["my.release", "a" * 53, "prod-fakesweep-eu"])
def test_names_are_those_that_a_service_may_have(release: str) -> None:
    done = helm("template", "--values", str(VALUES["production"]), *EVERYTHING, release=release)
    assert done.returncode == 0, done.stderr
    for each in yaml.safe_load_all(done.stdout):
        assert not each or re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", each["metadata"]["name"])


def test_a_release_whose_name_begins_with_a_digit_needs_another_name() -> None:
    values = ("--values", str(VALUES["production"]))
    said = helm("template", *values, release="1x").stderr
    assert (
        "the name of the release begins with a digit, and the name of a Service must not: set fullnameOverride" in said
    )
    assert helm("template", *values, "--set", "fullnameOverride=x", release="1x").returncode == 0


def test_without_any_value_all_missing_ones_are_named_at_once() -> None:
    done = helm("template")
    assert done.returncode
    said = re.findall(r"^- (\S+)", done.stderr, re.MULTILINE)
    assert said == [
        "broker.existingSecret", "database.existingSecret", "worker.model", "web.existingSecret", "web.url",
        "web.oidc.issuer", "nightly.schedule",
    ]  # fmt: skip


def test_a_variable_that_the_chart_sets_cannot_be_set_a_second_time() -> None:
    options = (
        "--set",
        "web.reasons=x = 1",
        "--set",
        "worker.revision=abc",
        "--set",
        "worker.queues={moderation.scan}",
        "--set",
        "caBundle.configMap=x",
        "--set",
        "webhooks.enabled=true,webhooks.networks={10.1.0.0/16}",
    )
    ours = {key for _, each in containers(render("production", *options), ours=True) for key in environment(each)}
    names = sorted(name for name in ours if name.startswith("FAKESWEEP_"))
    said = refused("production", *(f"--set-string=settings.{name}=1" for name in names))
    assert sorted(re.findall(r"^- settings\.(\w+) ", said, re.MULTILINE)) == names


def leaves(values: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(values, dict) and values and path[-1:] not in {("resources",), ("labels",)}:
        for key, value in values.items():
            yield from leaves(value, (*path, key))
    else:
        yield path


def test_every_value_is_in_the_table_of_the_readme() -> None:
    told = (CHART.parent / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w.]+)`", told))
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    for path in leaves(values):
        of_all_pods = (
            path[0] in {"worker", "web", "nightly", "listen", "webhooks"} and f"….{'.'.join(path[1:])}" in told
        )
        assert ".".join(path) in named or of_all_pods, ".".join(path)


def test_the_readme_makes_each_secret_that_a_file_of_values_names() -> None:
    told = (CHART.parent / "README.md").read_text(encoding="utf-8")
    made = dict(re.findall(r"create secret generic (\S+) ((?:.*\\\n)*.*)", told))
    for _, spec in (*pods(render("one-gpu")), *pods(render("production"))):
        for secret, key in keys(spec):
            if key != "DATABASE_URL":  # the text says when it is enough
                assert f"--from-literal={key}=" in made[secret], (secret, key)


def keys(spec: Any) -> Iterator[tuple[str, str]]:
    """The Secrets that a pod needs, with their keys."""
    for volume in spec["volumes"]:
        for source in volume.get("projected", {}).get("sources", []):
            yield from ((source["secret"]["name"], item["key"]) for item in source["secret"]["items"])
    for container in spec["containers"]:
        references = [each["valueFrom"]["secretKeyRef"] for each in container["env"] if "valueFrom" in each]
        yield from ((reference["name"], reference["key"]) for reference in references)


def wanted(workers: int, messages: int, target: int, maximum: int) -> int:
    """How many workers an HPA asks for, when the metric is of the type AverageValue."""
    ratio = messages / (target * workers)
    return workers if abs(ratio - 1) <= TOLERANCE else min(maximum, math.ceil(messages / target))


def scan_target(*options: str) -> tuple[int, int, int]:
    """The value of KEDA's trigger, the maximum number of workers, and the queue's bound."""
    rendered = render("production", *options)
    spec = one(rendered, "ScaledObject")["spec"]
    (value,) = (t["metadata"]["value"] for t in spec["triggers"] if t["metadata"].get("queueName") == "moderation.scan")
    worker = one(rendered, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    (bound,) = (int(v["value"]) for v in worker["env"] if v["name"] == "FAKESWEEP_MAX_QUEUE_DEPTH")
    return int(value), spec["maxReplicaCount"], bound


@pytest.mark.parametrize(("depth", "maximum"), [(2000, 4), (2000, 16), (2000, 53), (300, 4), (64000, 64), (4000, 1)])
def test_a_full_queue_brings_the_maximum_of_workers(depth: int, maximum: int) -> None:
    target, most, bound = scan_target(
        "--set", f"queue.maxDepth={depth}", "--set", f"worker.autoscaling.maxReplicas={maximum}",
        "--set", "worker.autoscaling.floor.replicas=1",
    )  # fmt: skip
    assert (most, bound) == (maximum, depth)
    least_waiting = depth - min(UNCONFIRMED, depth // 4)  # BulkPublisher waits while its next messages have no room
    assert target * maximum <= bound
    for workers in range(1, maximum):
        assert wanted(workers, least_waiting, target, maximum) == maximum
    if maximum > 1:  # if the target were the whole bound, some of them would not come
        assert wanted(maximum - 1, least_waiting, depth, maximum) < maximum


def test_a_queue_too_short_for_all_workers_is_refused_with_a_bound_that_works() -> None:
    fleet = ("--set", "worker.autoscaling.maxReplicas=64")
    said = refused("production", *fleet)
    found = re.search(r"queue.maxDepth is 2000, .* set it to (\d+) or more", said)
    assert found, said
    target, maximum, _ = scan_target(*fleet, "--set", f"queue.maxDepth={found[1]}")
    assert (target, maximum) == (32, 64)
    assert "queue.maxDepth is" in refused("production", *fleet, "--set", f"queue.maxDepth={int(found[1]) - 10}")


def test_workers_start_before_the_nightly_scan_and_stop_slowly() -> None:
    spec = one(render("production"), "ScaledObject")["spec"]
    triggers = {trigger["name"]: trigger for trigger in spec["triggers"]}
    assert triggers.keys() == {"moderation-live", "moderation-scan", "floor"}
    for name in ("moderation-live", "moderation-scan"):
        metadata = triggers[name]["metadata"]
        assert (metadata["protocol"], metadata["excludeUnacknowledged"]) == ("http", "false")
        assert (
            triggers[name]["authenticationRef"]["name"]
            == one(render("production"), "TriggerAuthentication")["metadata"]["name"]
        )
    assert triggers["floor"]["metadata"] == {
        "timezone": "Europe/Berlin", "start": "40 1 * * *", "end": "30 2 * * *", "desiredReplicas": "4",
    }  # fmt: skip
    assert (spec["minReplicaCount"], spec["fallback"]["behavior"]) == (0, "currentReplicasIfHigher")
    down = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]
    assert down == {"stabilizationWindowSeconds": 600, "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}]}
    assert one(render("one-gpu"), "Deployment")["spec"]["replicas"] == 1


def test_the_charts_defaults_are_those_of_the_settings() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    assert values["queue"]["maxDepth"] == Settings.model_fields["max_queue_depth"].default
    assert values["worker"]["engineStallSeconds"] == Settings.model_fields["engine_stall_s"].default
