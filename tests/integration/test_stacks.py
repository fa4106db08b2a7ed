"""Stacks in the database: how they are stored, and the combined scores that the view, results and reports show."""

import json
import math
import random
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError

from producers.reporting import results
from producers.stacks import known_stacks, read_stack, store_stack, withdraw_stack
from tests.processes import fakesweep
from tests.reviewing import sha256_of
from worker.database import Database, transaction
from worker.database.detectors import register_detector
from worker.errors import ConfigurationError
from worker.lab.evaluation.stack_page import write_stack
from worker.stacking import Stack, Weighted, stacked_score
from worker.testing import scripted_description

SCAN = UUID(int=7)
NAMES = ("one", "two", "three")
_SCAN = """
INSERT INTO scans (id, kind, name, source, policy, partition, status, listed, skipped, judged, reused, failed,
                   fake, uncertain, real, detector_ids)
VALUES (:id, 'scan', 'night', 's', '{"fake_from": 0.6, "real_to": 0.4}', 'scan_00000000000000000000000000000007',
        'done', 3, 0, 3, 0, 0, 3, 0, 0, '{1}')
"""
_VERDICT = """
INSERT INTO verdicts (sha256, detector_id, uri, width, height, explain, answer, score, log_odds, completion,
                      contradicts, prompt_tokens, completion_tokens, latency_ms)
VALUES (:sha256, :detector, 's3://b/x', 640, 480, 'all', 'fake', 0.9, :log_odds, '', false, 1, 1, 1) RETURNING id
"""
_FINDING = """
INSERT INTO findings (partition, scan_id, uri, outcome, verdict, score, verdict_id, sha256, attempts, opinions)
VALUES ('scan_00000000000000000000000000000007', :scan, :uri, 'judged', 'fake', 0.9, :verdict, :sha256, 1,
        CAST(:opinions AS jsonb))
"""
_PRINTS = [scripted_description(name=name).fingerprint for name in NAMES]


def stack(*weights: float, **more: Any) -> Stack:
    detectors = [
        Weighted(name=name, fingerprint=one, weight=weight)
        for name, one, weight in zip(NAMES, _PRINTS, weights, strict=False)
    ]
    return Stack(**{"name": "both", "offset": -0.25, "fake_from": 0.9, "real_to": 0.1, "detectors": detectors} | more)


class Night:
    """A scan of the first detector of three, whose findings are made one by one."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.ids = [register_detector(database, scripted_description(name=name).row()) for name in NAMES]
        with transaction(database) as session:
            session.execute(text("SELECT ensure_findings_partition('scan_00000000000000000000000000000007')"))
            session.execute(text(_SCAN.replace("'{1}'", f"'{{{self.ids[0]}}}'")), {"id": SCAN})

    def says(self, detector: int, name: str, log_odds: float | None) -> int:
        """Stores a verdict of the detector with this number about a content."""
        given = {"sha256": sha256_of(name), "detector": self.ids[detector], "log_odds": log_odds}
        with transaction(self.database) as session:
            return int(session.execute(text(_VERDICT), given).scalar_one())

    def finds(self, name: str, log_odds: float | None = 2.0, also: Mapping[int, float | None] | None = None) -> None:
        """Stores a finding of the first detector, with second opinions of others."""
        given = {
            "scan": SCAN, "uri": f"s3://b/{name}", "verdict": self.says(0, name, log_odds), "sha256": sha256_of(name),
            "opinions": None if also is None else json.dumps([
                {"detector_id": self.ids[n], "verdict": "fake", "score": 0.9, "verdict_id": self.says(n, name, said)}
                for n, said in also.items()
            ]),
        }  # fmt: skip
        with transaction(self.database) as session:
            session.execute(text(_FINDING), given)

    def combined(self, columns: str = "stack, score, verdict, missing") -> list[tuple[Any, ...]]:
        query = f"SELECT {columns} FROM combined_scores WHERE scan_id = :scan ORDER BY uri, choice_id"
        with transaction(self.database) as session:
            return [tuple(row) for row in session.execute(text(query), {"scan": SCAN})]

    def lines(self) -> dict[str, Any]:
        return {line["uri"]: line for line in results.rows(self.database, SCAN)}


@pytest.fixture
def night(database: Database) -> Night:
    return Night(database)


def test_the_database_computes_what_python_does(database: Database) -> None:
    chance = random.Random(0)
    far = [0.0, -0.0, 1e6, -1e6, 1e300, -1e300, math.inf, -math.inf, 745.2, -745.2, 36.7, 1e-300]
    cases = [
        (
            chance.choice([0.0, chance.gauss(0, 5), chance.uniform(-1e6, 1e6)]),
            [chance.choice([0.0, chance.random(), chance.uniform(0, 1e6)]) for _ in range(size)],
            [chance.choice([chance.gauss(0, 4), chance.choice(far)]) for _ in range(size)],
        )
        for size in (2, 3, 7)
        for _ in range(500)
    ]
    query = text("SELECT stacked_score(:shift, CAST(:weights AS float8[]), CAST(:log_odds AS float8[]))")
    with transaction(database) as session:
        for shift, weights, log_odds in cases:
            given = {"shift": shift, "weights": weights, "log_odds": log_odds}
            found = session.execute(query, given).scalar_one()
            assert found == pytest.approx(stacked_score(shift, weights, log_odds), abs=1e-12, rel=0), given
        some = {"shift": 0.0, "weights": [1.0, 1.0], "log_odds": [1.0, None]}
        assert session.execute(query, some).scalar() is None


def test_without_second_opinions_the_newest_verdicts_of_the_others_stand_in(night: Night) -> None:
    night.finds("a", 2.0)
    night.finds("b", -3.0)
    night.says(1, "a", -50.0)
    night.says(1, "a", 1.5)
    night.says(1, "b", -1.0)
    night.says(2, "a", 9.0)  # not of the stack
    both = stack(0.5, 2.0)
    assert store_stack(night.database, both)
    first, second = (both.score(dict(zip(_PRINTS, said, strict=False))) for said in ([2.0, 1.5], [-3.0, -1.0]))
    assert night.combined() == [("both", pytest.approx(first), "fake", []), ("both", pytest.approx(second), "real", [])]
    middle = stack(0.5, 2.0, name="careful", fake_from=1.0)
    assert store_stack(night.database, middle)
    assert [row[:3:2] for row in night.combined()][:2] == [("both", "fake"), ("careful", "uncertain")]
    assert night.combined("sha256, stack_fingerprint")[1] == (sha256_of("a"), middle.fingerprint)
    assert night.combined("from_elsewhere") == [(["two"],)] * 4


def test_a_later_judgement_changes_no_finding(night: Night) -> None:
    night.finds("a", 2.0, {1: 1.5})
    night.finds("b", 2.0, {1: None})
    store_stack(night.database, stack(0.5, 2.0))
    before = night.combined("score, verdict, missing, from_elsewhere")
    expected = stacked_score(-0.25, [0.5, 2.0], [2.0, 1.5])
    assert before == [(pytest.approx(expected), "fake", [], []), (None, "uncertain", [], [])]
    shown = night.lines()["s3://b/a"]["combined"]
    assert (shown["score"], shown["from_elsewhere"]) == (pytest.approx(expected), [])
    for name in ("a", "b"):
        night.says(0, name, -9.0)
        night.says(1, name, -9.0)
    assert night.combined("score, verdict, missing, from_elsewhere") == before


def test_an_opinion_that_the_finding_lacks_comes_from_elsewhere(night: Night) -> None:
    night.finds("a", 2.0, {1: 1.5})
    night.says(2, "a", 3.0)
    store_stack(night.database, stack(1.0, 1.0, 1.0))
    assert night.combined("score, missing, from_elsewhere") == [
        (pytest.approx(stacked_score(-0.25, [1, 1, 1], [2, 1.5, 3])), [], ["three"])
    ]


def test_what_is_missing_or_undecided_has_no_score(night: Night) -> None:
    for name in ("a", "b", "c"):
        night.finds(name)
    night.says(1, "b", None)
    night.says(1, "c", 3.0)
    store_stack(night.database, stack(1.0, 1.0))
    store_stack(night.database, stack(1.0, 1.0, 1.0, name="all"))
    assert [row for row in night.combined() if row[0] == "both"] == [
        ("both", None, None, ["two"]),
        ("both", None, "uncertain", []),
        ("both", pytest.approx(stacked_score(-0.25, [1, 1], [2, 3])), "fake", []),
    ]
    assert [row[3] for row in night.combined() if row[0] == "all"] == [["two", "three"], ["three"], ["three"]]


def test_results_have_the_newest_stack_that_covers_the_content(night: Night) -> None:
    night.finds("a")
    night.finds("b")
    before = night.lines()
    assert not any("combined" in line for line in before.values())
    night.says(1, "a", 3.0)
    assert night.lines() == before
    for one in (stack(1.0, 1.0, name="old"), stack(2.0, 1.0, name="new"), stack(1.0, 1.0, 1.0, name="all")):
        store_stack(night.database, one)
    lines = night.lines()
    assert lines["s3://b/b"] == before["s3://b/b"]
    assert lines["s3://b/a"].pop("combined") == {
        "stack": "new", "fingerprint": stack(2.0, 1.0).fingerprint, "verdict": "fake",
        "score": pytest.approx(stacked_score(-0.25, [2, 1], [2, 3])), "from_elsewhere": ["two"],
    }  # fmt: skip
    assert lines == before


def test_the_view_finds_verdicts_by_their_index(night: Night) -> None:
    night.finds("a")
    store_stack(night.database, stack(1.0, 1.0))
    query = (
        "EXPLAIN SELECT * FROM combined_scores WHERE partition = :partition AND scan_id = :scan AND uri = 's3://b/a'"
    )
    with transaction(night.database) as session:
        session.execute(text("SET LOCAL enable_seqscan = off"))  # the table is too small for an index
        given = {"partition": f"scan_{SCAN.hex}", "scan": SCAN}
        plan = "\n".join(session.execute(text(query), given).scalars())
    assert "Index Scan Backward using ix_verdicts_sha256_detector_id_id" in plan
    assert "Sort" not in plan.partition("ix_verdicts_sha256_detector_id_id")[2]


def test_a_scan_whose_detector_is_in_no_stack_stays_as_it_is(night: Night) -> None:
    night.finds("a")
    night.says(1, "a", 1.0)
    night.says(2, "a", 1.0)
    others = stack(1.0, 1.0, 1.0).detectors[1:]
    store_stack(night.database, stack(1.0, 1.0, detectors=others))
    assert night.combined() == []
    assert "combined" not in night.lines()["s3://b/a"]


def test_a_stack_is_stored_once_and_never_changed(night: Night) -> None:
    both = stack(0.5, 2.0)
    assert store_stack(night.database, both)
    assert not store_stack(night.database, both)
    for statement in (
        "UPDATE stacks SET name = 'x'", "DELETE FROM stacks", "TRUNCATE stacks",
        "UPDATE stack_choices SET in_use = false", "DELETE FROM stack_choices", "TRUNCATE stack_choices",
    ):  # fmt: skip
        with pytest.raises(DatabaseError, match="append-only"), transaction(night.database) as session:
            session.execute(text(statement))
    with transaction(night.database) as session:
        assert session.execute(text("SELECT description FROM stacks")).scalars().all() == [both.model_dump(mode="json")]
        events = session.execute(text("SELECT subject, details FROM events WHERE kind = 'stack_added'")).all()
    assert [(subject, details["fingerprint"], details["weights"]) for subject, details in events] == [
        ("both", both.fingerprint, [0.5, 2.0])
    ]


def test_an_earlier_stack_is_put_back_in_use(night: Night) -> None:
    night.finds("a", 2.0, {1: 3.0})
    good, bad = stack(1.0, 1.0, name="good"), stack(0.1, 0.1, name="bad")

    def shown() -> str | None:
        line = night.lines()["s3://b/a"]
        return line["combined"]["stack"] if "combined" in line else None

    for one in (good, bad):
        assert store_stack(night.database, one)
    assert shown() == "bad"
    assert store_stack(night.database, good)
    assert shown() == "good"
    assert [(one.name, one.in_use) for one in known_stacks(night.database)] == [("good", True), ("bad", True)]
    assert withdraw_stack(night.database, good.fingerprint[:8]).name == "good"
    assert shown() == "bad"
    assert withdraw_stack(night.database, "bad").fingerprint == bad.fingerprint
    assert shown() is None
    assert night.combined() == []
    with pytest.raises(ConfigurationError, match=r"no stack bad is in use; .*--list shows"):
        withdraw_stack(night.database, "bad")
    assert store_stack(night.database, bad)
    assert shown() == "bad"
    with transaction(night.database) as session:
        events = session.execute(text("SELECT kind, subject FROM events WHERE kind LIKE 'stack%' ORDER BY id")).all()
    assert [f"{kind} {subject}" for kind, subject in events] == [
        "stack_added good", "stack_added bad", "stack_added good", "stack_withdrawn good", "stack_withdrawn bad",
        "stack_added bad",
    ]  # fmt: skip


def test_one_of_several_stacks_of_a_name_is_withdrawn_by_its_fingerprint(night: Night) -> None:
    for weight in (1.0, 2.0):
        store_stack(night.database, stack(weight, 1.0))
    with pytest.raises(ConfigurationError, match="2 stacks both are in use; give one of the fingerprints: "):
        withdraw_stack(night.database, "both")
    withdraw_stack(night.database, stack(2.0, 1.0).fingerprint)
    assert [one.in_use for one in known_stacks(night.database)] == [False, True]


def test_a_stack_of_unknown_detectors_is_refused(night: Night) -> None:
    unknown = Weighted(name="four", fingerprint="4" * 64, weight=1.0)
    wrong = stack(1.0, 1.0, detectors=(*stack(1.0, 1.0).detectors, unknown))
    with pytest.raises(ConfigurationError, match=r"no worker has started with four \(444444444444…\) of this stack"):
        store_stack(night.database, wrong)
    with transaction(night.database) as session:
        assert session.execute(text("SELECT count(*) FROM stacks")).scalar() == 0


def test_the_command_stores_and_the_report_shows(night: Night, database_url: str, tmp_path: Path) -> None:
    night.finds("a")
    night.says(1, "a", 3.0)
    file, page = tmp_path / "stack.toml", tmp_path / "report.html"
    both = stack(1.0, 1.0, name="<both>")
    write_stack(both, file)
    assert read_stack(file) == both

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        return fakesweep(*map(str, arguments), environment={"DATABASE_URL": database_url})

    done = run("stack", "--store", file, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"stack": "<both>", "fingerprint": both.fingerprint, "new": True}
    assert run("stack", "--store", file).stdout == f"<both> is in use already: {both.fingerprint}\n"
    missing = run("stack", "--store", tmp_path / "none.toml")
    assert (missing.returncode, missing.stderr.count("\n")) == (2, 1)
    assert "none.toml cannot be read" in missing.stderr
    assert run("report", "night", "--output", page).returncode == 0
    assert "Combined: fake, score 0.991." in page.read_text()
    assert "&lt;both&gt;" in page.read_text()
    assert "Another scan has the verdict of two." in page.read_text()
    assert f"<both>  {both.fingerprint}  in use  " in run("stack", "--list").stdout
    assert run("stack", "--withdraw", "<both>").stdout == f"<both> is withdrawn: {both.fingerprint}\n"
    listed = json.loads(run("stack", "--list", "--json").stdout)["stacks"]
    assert [(one["name"], one["in_use"], one["detectors"]) for one in listed] == [("<both>", False, ["one", "two"])]
    again = run("stack", "--withdraw", "<both>")
    assert (again.returncode, again.stderr.count("\n")) == (2, 1)
