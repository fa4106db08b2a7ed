"""Every query of Grafana's boards runs on a real Postgres, as a login that reads views, or on a real Prometheus.

A scan, a submission and a review are real, from a real worker; the weeks before, cascades and second opinions are made
up. tests/integration/test_board_figures.py says what the panels about these must show.
"""

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest
import yaml
from psycopg.rows import TupleRow

from tests.board_data import add_cascades, add_second_opinions
from tests.boards import Target, boards, promql_of, sql_of, targets, variable_queries
from tests.conftest import IN_CI, empty_queues
from tests.documents import ROOT
from tests.integration.test_broker import NO_POISON, QUICK, grey, settings_for, worker
from tests.integration.test_metrics_served import nightly_environment, port_of, running
from tests.processes import fakesweep
from tests.prometheus import PROMETHEUS, Prometheus, scraping
from tests.roles import Home, home, with_all_logins

pytestmark = pytest.mark.skipif(not PROMETHEUS and not IN_CI, reason="there is no prometheus here")

POSTGRES_UID, PROMETHEUS_UID = "fakesweep-postgres", "fakesweep-prometheus"
GRAFANA = ROOT / "deploy" / "grafana"

_BEFORE = """
INSERT INTO findings_hourly (hour, scan_id, bucket, detector_id, outcome, verdict, reason, score_bin, shard, findings)
SELECT date_trunc('hour', now()) - n * interval '1 day', '00000000-0000-0000-0000-000000000000', 'file', d.id, 'judged',
       verdict, '', score_bin, 0, findings + n % 7
FROM generate_series(1, 80) n, detectors d, (VALUES ('real', 0, 900), ('uncertain', 9, 10), ('fake', 19, 50))
     AS made_up (verdict, score_bin, findings);
UPDATE scans SET schedule = 'photos', due_at = created_at WHERE kind = 'scan';
INSERT INTO reviewers (name) VALUES ('anna');
INSERT INTO reviews (scan_id, uri, reviewer, statement)
SELECT scan_id, last_flagged_uri, 'anna', 'real'
FROM (SELECT *, last_flagged_scan_id AS scan_id FROM contents_flagged LIMIT 2) flagged;
"""


class Scene(NamedTuple):
    """Where the queries run."""

    home: Home
    prometheus: Prometheus


def ask(home: Home, query: str) -> tuple[list[str], Sequence[TupleRow]]:
    """The columns and rows that a login with the role `dashboard` gets."""
    with psycopg.connect(home.url_of("dashboard")) as connection:
        cursor = connection.execute(query.encode())
        return [column.name for column in cursor.description or ()], cursor.fetchall()


@pytest.fixture(scope="module")
def empty(postgres_server_url: str, template: str) -> Iterator[Home]:
    with home(postgres_server_url, template) as made:
        with_all_logins(made)
        yield made


@pytest.fixture(scope="module")
def scene(
    postgres_server_url: str, template: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("boards")
    empty_queues(redis_url)
    with ExitStack() as stack:
        made = stack.enter_context(home(postgres_server_url, template))
        with_all_logins(made)
        environment = settings_for(made.url_of("worker"), redis_url, FAKESWEEP_HEALTH_PORT="0")
        at_work = stack.enter_context(worker(QUICK, NO_POISON, environment, folder))
        nightly = nightly_environment(made.url_of("producer"), redis_url, folder)
        _fill(nightly, folder)
        made.sql(_BEFORE)
        add_cascades(made.url)
        add_second_opinions(made.url)
        log = folder / "nightly.log"
        stack.enter_context(running(["nightly"], nightly, log, "metrics_listening"))
        ports = {
            "fakesweep-worker": port_of(at_work.log, "health_listening"),
            "fakesweep-producers": port_of(log, "metrics_listening"),
        }
        yield Scene(made, stack.enter_context(scraping(ports, folder)))


def _fill(environment: dict[str, str], folder: Path) -> None:
    images = folder / "images"
    images.mkdir()
    for level in range(0, 256, 10):
        (images / f"{level}.png").write_bytes(grey(level))
    (images / "broken.png").write_bytes(b"no image")
    (images / "notes.txt").write_bytes(b"not an image")
    options = ("--suffix", ".png", "--watch", "--max-flagged-share", "1", "--max-failed-share", "1")
    for command in (("scan", str(images), *options), ("submit", str(images / "gone.png"), "--wait")):
        done = fakesweep(*command, environment=environment)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("target", targets(POSTGRES_UID), ids=str)
def test_the_sql_of_every_panel_gives_rows(scene: Scene, target: Target) -> None:
    columns, rows = ask(scene.home, sql_of(target.query))
    assert rows, "made-up and real findings should give some"
    assert len(set(columns)) == len(columns)
    if target.format == "time_series":
        assert columns[0] == "time"
        assert [row[0] for row in rows] == sorted(row[0] for row in rows)
        assert all(row[0].tzinfo is not None for row in rows)
        numbers = [value for row in rows for value in row[1 + ("metric" in columns) :]]
        assert numbers
        assert all(isinstance(value, int | float) for value in numbers if value is not None)


@pytest.mark.parametrize("target", targets(POSTGRES_UID), ids=str)
def test_the_sql_of_every_panel_works_with_any_choice_and_without_data(empty: Home, target: Target) -> None:
    columns, _ = ask(empty, sql_of(target.query, chosen=r"(a\.b|it is|c)"))
    assert columns


@pytest.mark.parametrize("query", variable_queries().values(), ids=variable_queries())
def test_every_variable_has_values(scene: Scene, query: str) -> None:
    columns, rows = ask(scene.home, sql_of(query))
    assert len(columns) == 1
    assert rows
    assert all(row[0] for row in rows)


@pytest.mark.parametrize("target", targets(PROMETHEUS_UID), ids=str)
def test_the_promql_of_every_panel_gives_series(scene: Scene, target: Target) -> None:
    query = promql_of(target.query).removesuffix(" > 0")
    until = time.monotonic() + 40  # a subquery has a value every 30 seconds
    while not (series := scene.prometheus.series(query)) and time.monotonic() < until:
        time.sleep(0.5)
    assert series


def test_queries_that_cannot_work_are_found(scene: Scene) -> None:
    with pytest.raises(psycopg.errors.UndefinedColumn):
        ask(scene.home, "SELECT no_such_column FROM drift")
    for statement in ("SELECT * FROM findings", "SELECT * FROM reviews"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            ask(scene.home, statement)
    assert scene.prometheus.series("fakesweep_no_such_metric") == []
    with pytest.raises(AssertionError, match="parse error"):
        scene.prometheus.series("sum(")
    with pytest.raises(AssertionError, match="does not know"):
        sql_of("SELECT $__unixEpochFilter(hour)")


def test_boards_are_found_by_their_uids_and_cannot_be_edited() -> None:
    provisioned = yaml.safe_load((GRAFANA / "provisioning" / "datasources" / "fakesweep.yaml").read_text())
    known = {one["uid"] for one in provisioned["datasources"]}
    assert known == {POSTGRES_UID, PROMETHEUS_UID}
    uids = [board["uid"] for board in boards().values()]
    assert len(uids) == len(set(uids)) == 4
    for board in boards().values():
        assert board["editable"] is False
        panels = board["panels"]
        assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
        for panel in panels:
            assert panel["description"].endswith("."), panel["title"]
            assert {panel["datasource"]["uid"], *(one["datasource"]["uid"] for one in panel["targets"])} <= known
            letters = [one["refId"] for one in panel["targets"]]
            assert len(letters) == len(set(letters))


def test_boards_declare_the_variables_that_they_use() -> None:
    for name, board in boards().items():
        declared = {variable["name"] for variable in board["templating"]["list"]}
        queries = [one.query for uid in (POSTGRES_UID, PROMETHEUS_UID) for one in targets(uid) if one.board == name]
        used = set(re.findall(r"\$\{?(?!__)([a-z]\w*)", " ".join(queries)))
        assert used == declared, name


def test_panels_do_not_overlap() -> None:
    for name, board in boards().items():
        taken: set[tuple[int, int]] = set()
        for place in (panel["gridPos"] for panel in board["panels"]):
            cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
            assert not cells & taken, name
            assert max(x for x, _ in cells) < 24
            taken |= cells
