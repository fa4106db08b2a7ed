"""The model of benchmarks.growth, and the figures in docs/production.md that come from result files."""

import json
import re
from dataclasses import replace

import pytest
import yaml

from benchmarks.growth import CARDS, GPUS, Rates, estimate, simulate
from benchmarks.scratch import RESULTS
from tests.documents import ROOT

PLENTY = Rates(gpu=50, published=1000, saved=10_000)
TEXT = (ROOT / "docs" / "production.md").read_text(encoding="utf-8")


def result(name: str) -> dict[str, object]:
    found: dict[str, object] = json.loads((RESULTS / f"{name}.json").read_text())
    return found


def test_twice_as_many_gpus_take_half_the_time() -> None:
    one, two = (simulate(1_000_000, gpus, PLENTY, autoscaled=False) for gpus in (1, 2))
    assert one.hours == pytest.approx(1_000_000 / 50 / 3600, abs=0.02)
    assert two.hours == pytest.approx(one.hours / 2, rel=0.01)
    assert next(iter(one.limits)) == "GPUs"


def test_the_slowest_part_is_named() -> None:
    def slowest(**other: float) -> str:
        return next(iter(simulate(1_000_000, 8, replace(PLENTY, **other), autoscaled=False).limits))  # type: ignore[arg-type]

    assert slowest(saved=5) == "database"
    assert slowest(published=5) == "producer or queue"
    assert slowest(bound=4) == "producer or queue"
    assert next(iter(simulate(10_000, 8, PLENTY).limits)) == "start of workers"


def test_autoscaling_costs_the_time_in_which_workers_start() -> None:
    fixed, scaled = (simulate(1_000_000, 8, PLENTY, autoscaled=scaled) for scaled in (False, True))
    assert scaled.hours - fixed.hours >= PLENTY.start_s / 3600 - 0.01
    assert scaled.idle_share > fixed.idle_share


def test_the_figures_of_the_simulation_are_in_the_document() -> None:
    courses = result("growth")["courses"]
    assert isinstance(courses, dict)
    for gpus in GPUS:
        cells = re.search(rf"^\| {gpus} \| ([\d.]+) \| (\d+) \|.*?\| ([\d.]+) \| (\d+) \|", TEXT, re.MULTILINE)
        assert cells
        hours = [
            courses[case][str(gpus)][name] for case in ("H100 bf16", "H100 fp8") for name in ("hours", "gpu_hours")
        ]
        assert [float(cell) for cell in cells.groups()] == pytest.approx(hours, rel=0.02)


def test_the_estimates_are_in_the_document() -> None:
    for card in CARDS:
        cells = re.search(rf"^\| {card} \| \d+ \| (\d+) \| ([\d,]+) \|", TEXT, re.MULTILINE)
        assert cells
        assert int(cells[1]) == round(estimate(card, "bf16"))
        assert int(cells[2].replace(",", "")) == pytest.approx(3600 * estimate(card, "bf16"), rel=0.02)


def test_the_measured_bytes_are_in_the_document() -> None:
    disk = result("disk")
    first, again = disk["first_scan"], disk["same_images_again"]
    assert isinstance(first, dict)
    assert isinstance(again, dict)
    for name in ("findings", "verdicts", "objects"):
        assert re.search(rf"^\| `{name}` \| {first['bytes_an_image'][name]:.0f} \|", TEXT, re.MULTILINE), name
    assert f"| **{first['bytes_an_image_in_all']:,}** |" in TEXT
    assert f"**{again['bytes_an_image_in_all']:,}** |" in TEXT
    assert f"| write-ahead log | {first['log_bytes_an_image']:,} | | {again['log_bytes_an_image']:,} |" in TEXT


def test_each_alert_has_a_first_command() -> None:
    rules = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yaml").read_text())["groups"][0]["rules"]
    for rule in rules:
        assert f"| `{rule['alert']}` |" in TEXT


def test_the_measured_times_are_in_the_document() -> None:
    check = result("growth_check")
    for workers in (1, 2, 4):
        figures = check[f"{workers} workers"]
        assert isinstance(figures, dict)
        row = f"| {workers} | {figures['predicted_s']} s | {figures['seen_s']} s | {figures['difference']:.0%} |"
        assert row.replace("%", " %") in TEXT
