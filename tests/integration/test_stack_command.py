"""`fakesweep stack` as a process, on what `fakesweep evaluate` leaves behind: its file, its page, its JSON."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.processes import fakesweep
from tests.unit.predicting import hashed, predicted, write_evaluation
from tests.unit.test_stack import drawn
from worker.stacking import parse_stack
from worker.testing import scripted_description

NAMES = ("one", "<two>")


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return fakesweep("stack", *map(str, arguments), environment=environment)


def refused(*arguments: object) -> str:
    """The one line that a refused command prints."""
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def written(folder: Path, seed: int, count: int = 800) -> list[Path]:
    """Writes the evaluations of two detectors with independent errors on one set."""
    rows = drawn(count, seed, [1, 0.8])
    return [
        write_evaluation(
            folder / str(number) / f"set{seed}",
            hashed(*(
                predicted(f"{seed}/{place}.png", fake=bool(row[-1]), log_odds=float(row[number]))
                for place, row in enumerate(rows)
            )),
            scripted_description(name=name),
        )
        for number, name in enumerate(NAMES)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], list[Path]]:
    folder = tmp_path_factory.mktemp("evaluations")
    return written(folder, 1), written(folder, 2)


def test_a_stack_is_fitted_measured_and_written(sets: tuple[list[Path], list[Path]], tmp_path: Path) -> None:
    output, page = tmp_path / "stack.toml", tmp_path / "page.html"
    fit, report = sets
    # The detectors of REPORT are in another order.
    options = ["--report", report[1], "--report", report[0], "--false-positive-rate", 0.05, "--page", page]
    done = run(*fit, *options, "--output", output, "--json")
    assert done.returncode == 0, done.stderr
    content: dict[str, Any] = json.loads(done.stdout)
    stack = parse_stack(output.read_text(), where=str(output))
    assert content["output"] == str(output)
    assert content["stack"] == json.loads(stack.model_dump_json()) | {"fingerprint": stack.fingerprint}
    assert stack.fingerprints == tuple(scripted_description(name=name).fingerprint for name in NAMES)
    assert [one["weight"] for one in content["detectors"]] == pytest.approx([2, 1.6], abs=0.4)
    assert content["helps"] is True
    assert content["gain"]["best"] == "one"
    assert content["report"]["after"]["log_loss"] < content["detectors"][0]["fitted"]["log_loss"]
    html = page.read_text()
    assert html.count("<svg") == 3
    assert "The stack is better than one alone on images like these." in html
    assert "&lt;two&gt; alone: expected calibration error" in html
    assert "<two>" not in html
    assert stack.fingerprint in html


def test_one_set_is_split_and_the_lines_say_whether_it_helps(
    sets: tuple[list[Path], list[Path]], tmp_path: Path
) -> None:
    output = tmp_path / "stack.toml"
    done = run(*sets[0], "--output", output, "--seed", 3, "--false-positive-rate", 0.05)
    assert done.returncode == 0, done.stderr
    for wanted in (
        "(split 0.5, seed 3)", "one: weight ", "the stack is better than one alone", "McNemar's exact test: p = ",
        "real images called fake: ", f"written to {output}",
    ):  # fmt: skip
        assert wanted in done.stdout
    assert (parse_stack(output.read_text(), where="x").images or 0) < 500


def test_wrong_usage_is_one_line_and_writes_nothing(sets: tuple[list[Path], list[Path]], tmp_path: Path) -> None:
    fit, report = sets
    output = tmp_path / "stack.toml"
    given = ("--output", output)
    assert "give two evaluations or more and --output" in refused(*fit)
    assert "--split divides one set" in refused(*fit, "--report", report[0], "--split", 0.5, *given)
    assert "--store works on stacks that were fitted before: give nothing else" in refused(*fit, "--store", output)
    assert "--withdraw works on stacks" in refused("--withdraw", "x", "--list")
    assert "must end in .toml" in refused(*fit, "--output", tmp_path / "stack")
    assert "REPORT: a stack needs the evaluations of two detectors" in refused(*fit, "--report", report[0], *given)
    assert not output.exists()
    output.write_text("mine")
    assert "exists already" in refused(*fit, *given)
    assert output.read_text() == "mine"
