"""A roll-out: the next release migrates and joins while workers of this release finish a scan (docs/upgrading.md).

The next release is this code with revisions that do not exist yet. Redis delivers a killed worker's messages again.
"""

import json
import signal
from pathlib import Path

import psycopg
import pytest

from tests.killing import write_pngs
from tests.next_release import NextRelease, write_next_release
from tests.processes import ROOT, fakesweep, results_of, running_worker, wait_for
from worker.migrate import newest

IMAGES = 480
WORKER = ["tests.scripted_worker", "0.2", "-1", "--visibility", "5", "--judged"]


@pytest.fixture
def environment(clean_redis_url: str, database_url: str) -> dict[str, str]:
    return {"DATABASE_URL": database_url, "BROKER_URL": clean_redis_url, "FAKESWEEP_THREADS": "2"}


@pytest.mark.timeout(600)
def test_two_releases_share_a_scan(environment: dict[str, str], database_url: str, tmp_path: Path) -> None:
    release = write_next_release(tmp_path / "next")
    of_next = {**environment, **release.environment}
    uris = write_pngs(tmp_path / "images", IMAGES)
    old, late, new = (tmp_path / name for name in ("old", "late", "new"))
    for file in (old, late, new):
        file.touch()
    with running_worker([*WORKER, str(old)], environment, tmp_path / "old.log") as killed:
        scanned = fakesweep("scan", str(tmp_path / "images"), "--json", environment=environment)
        scan = json.loads(scanned.stdout)["scan"]
        wait_for(lambda: _lines(old) > 0, 60)

        migrated = fakesweep("migrate", environment=of_next, folder=release.folder)
        assert migrated.returncode == 0, migrated.stderr
        assert f"schema at revision {release.index}" in migrated.stdout
        assert f"run `fakesweep migrate --finish`: it migrates to {release.drop}" in migrated.stdout
        with running_worker([*WORKER, str(new)], of_next, tmp_path / "new.log", folder=release.folder):
            killed.stop(signal.SIGKILL)
            # A worker of this release starts on the newer schema, which allows it.
            with running_worker([*WORKER, str(late)], environment, tmp_path / "late.log"):
                wait_for(lambda: _lines(late) > 0, 60)
                again = fakesweep("migrate", environment=environment)
                assert again.stdout.splitlines() == [
                    f"schema at revision {release.index}",
                    "it is newer than this release and works with it: nothing is changed",
                ], again.stderr
                roles = fakesweep("roles", "--dry-run", environment=environment)
                assert (roles.returncode, roles.stdout) == (2, "")
                assert "the schema is newer than this release" in roles.stderr
                refused = fakesweep("migrate", "--finish", environment=of_next, folder=release.folder)
                assert refused.returncode == 1
                assert f"{release.drop} works with releases from {release.index} on" in refused.stderr
                wait_for(lambda: _status(scan, environment)["status"] == "done", 120)
            wait_for(lambda: _only_connected(database_url, release.drop), 30)
            done = fakesweep("migrate", "--finish", environment=of_next, folder=release.folder)
    assert f"schema at revision {release.drop}" in done.stdout, done.stderr
    assert _status(scan, of_next, release)["judged"] == IMAGES
    assert sorted(row["uri"] for row in results_of(scan, of_next, release.folder)) == uris
    assert min(_lines(file) for file in (old, late, new)) > 0, "each of them judged some images"
    _is_refused(environment, release.drop, release.index, "worker")


def test_a_schema_that_does_not_work_with_older_releases(environment: dict[str, str], tmp_path: Path) -> None:
    here = newest()
    release = write_next_release(tmp_path / "next", works_from=f"{int(here) + 1:04}")
    of_next = {**environment, **release.environment}
    with running_worker([*WORKER, str(tmp_path / "judged")], environment, tmp_path / "old.log") as worker:
        refused = fakesweep("migrate", environment=of_next, folder=release.folder)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert f"older ones are connected: {here} (" in refused.stderr
        assert len(refused.stderr.splitlines()) == 1
        forced = fakesweep("migrate", "--force", environment=of_next, folder=release.folder)
        assert forced.returncode == 0, forced.stderr
        assert worker.process.poll() is None
    _is_refused(environment, release.index, release.column, "worker", "status", "migrate")


def _is_refused(environment: dict[str, str], revision: str, works_from: str, *commands: str) -> None:
    """Checks that each of these commands refuses the schema and says why in one line."""
    for command in commands:
        done = fakesweep(command, environment=environment)
        assert done.returncode == 2, done.stderr
        assert done.stderr.splitlines()[-1].endswith(
            f"DATABASE_URL: the schema is at revision {revision} and works with releases from {works_from} on, "
            f"this one is {newest()}: install a newer release"
        )


def _status(scan: str, environment: dict[str, str], release: NextRelease | None = None) -> dict[str, object]:
    done = fakesweep("status", scan, "--json", environment=environment, folder=release.folder if release else ROOT)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def _only_connected(database_url: str, release: str) -> bool:
    """Whether only this release is connected. The connections of a process may outlive it for a moment."""
    query = "SELECT DISTINCT application_name FROM pg_stat_activity WHERE datname = current_database() AND pid <> %s"
    with psycopg.connect(database_url) as connection:
        found = connection.execute(query, [connection.info.backend_pid]).fetchall()
    return found == [(f"fakesweep {release}",)]


def _lines(file: Path) -> int:
    return len(file.read_text().splitlines())
