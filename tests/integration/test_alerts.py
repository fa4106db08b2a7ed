"""The alerts in deploy/prometheus: they fire when they should, ask for metrics that exist, and lead to a document."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import IN_CI
from tests.documents import ROOT
from tests.prometheus import PROMTOOL
from worker.metrics.declared import DECLARED

FOLDER = ROOT / "deploy" / "prometheus"
GUIDE = ROOT / "docs" / "alerts.md"
OF_ALL_PROCESSES = {"process_start_time_seconds": set[str](), "up": set[str]()}
CASES = sorted(FOLDER.glob("*.test.yaml"))
COMMANDS = [("check", FOLDER / "alerts.yaml"), *(("test", file) for file in CASES)]
BY_PROMETHEUS = {"job", "instance", "le"}


def alerts() -> dict[str, Any]:
    (group,) = yaml.safe_load((FOLDER / "alerts.yaml").read_text(encoding="utf-8"))["groups"]
    return {rule["alert"]: rule for rule in group["rules"]}


@pytest.mark.skipif(not PROMTOOL and not IN_CI, reason="there is no promtool here")
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[1].name)
def test_promtool_finds_nothing_wrong(command: tuple[str, Path]) -> None:
    assert PROMTOOL, "install prometheus"
    verb, file = command
    done = subprocess.run([PROMTOOL, verb, "rules", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_case_in_which_it_fires() -> None:
    cases = [case for file in CASES for case in yaml.safe_load(file.read_text(encoding="utf-8"))["tests"]]
    fires = {one["alertname"] for case in cases for one in case["alert_rule_test"] if one.get("exp_alerts")}
    silent = {one["alertname"] for case in cases for one in case["alert_rule_test"] if not one.get("exp_alerts")}
    assert fires == silent == alerts().keys()


def test_every_alert_has_its_section_and_every_section_its_alert() -> None:
    sections = dict(re.findall(r"^## (Fakesweep\w+)\n(.*?)(?=^## |\Z)", GUIDE.read_text(), re.MULTILINE | re.DOTALL))
    assert sections.keys() == alerts().keys()
    for name, text in sections.items():
        assert re.findall(r"^\*\*(.*?)\*\*", text, re.MULTILINE) == ["Means.", "Look at.", "Do."], name
    for name, rule in alerts().items():
        assert rule["annotations"]["runbook"] == f"docs/alerts.md#{name.lower()}"
        assert rule["annotations"]["summary"]
        assert rule["labels"]["severity"] in {"warning", "critical"}


def test_alerts_ask_for_metrics_and_labels_that_exist() -> None:
    known = {metric.name: {*metric.labels} for metric in DECLARED} | OF_ALL_PROCESSES
    for name, rule in alerts().items():
        asked = re.findall(r"\b(fakesweep_\w+?|process_\w+|up)(?:_bucket)?\b(?:\{([^}]*)\})?", rule["expr"])
        assert asked, name
        for metric, matchers in asked:
            labels = set(re.findall(r"(\w+)\s*[=!]", matchers))
            assert labels <= known[metric] | BY_PROMETHEUS, name
