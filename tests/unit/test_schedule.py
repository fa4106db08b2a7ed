"""The file of nightly scans: what it may contain, and when its scans are due."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from pydantic import ValidationError

from producers.limits import Limits
from producers.listing import Rules
from producers.nightly.schedule import NightlyScan, load
from tests.processes import fakesweep
from worker.errors import ConfigurationError
from worker.messages import Explain, Policy
from worker.settings import Settings

FULL = """
[photos]
crontab = "0  2 * * *"
sources = ["s3://photos/2025/", "s3://photos/2026/"]
explain = "all"
fake_from = 0.8
real_to = 0.1
max_tokens = 64
suffixes = [".jpg", ".png"]
min_bytes = 100
max_bytes = 5000
rejudge = true
max_flagged_share = 1
max_failed_share = 0.1

[uploads-eu_1]
crontab = "*/15 8-18 * * mon-fri"
source = "s3://uploads/"
"""
SCAN = '[photos]\ncrontab = "0 2 * * *"\nsource = "s3://photos/"\n'
CRONTAB = '[photos]\nsource = "s3://photos/"\ncrontab = '


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "nightly.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_every_key_is_read(tmp_path: Path) -> None:
    scans = load(written(tmp_path, FULL))
    assert list(scans) == ["photos", "uploads-eu_1"]
    photos, uploads = scans.values()
    assert photos == NightlyScan.model_construct(
        crontab="0 2 * * *",
        sources=("s3://photos/2025/", "s3://photos/2026/"),
        policy=Policy(explain=Explain.ALL, fake_from=0.8, real_to=0.1, max_tokens=64),
        rules=Rules(suffixes=(".jpg", ".png"), min_bytes=100, max_bytes=5000),
        rejudge=True,
        max_flagged_share=1,
        max_failed_share=0.1,
    )
    assert photos.limits == Limits(1, 0.1)
    assert (uploads.sources, uploads.policy, uploads.rules) == (("s3://uploads/",), Policy(), Rules())
    assert uploads.limits == Limits()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "names no scan"),
        ("[photos", "is not TOML"),
        ("photos = 1\n", "[photos]: must be a table"),
        (SCAN + "[photos]\n", "is not TOML"),
        (SCAN.replace("photos]", "Photos]"), "[Photos]: a name is"),
        (SCAN.replace("photos]", '"a b"]'), "[a b]: a name is"),
        (SCAN.replace("photos]", f"{'a' * 41}]"), "1 to 40"),
        ('[photos]\nsource = "s3://photos/"\n', "[photos] crontab: is missing"),
        ('[photos]\ncrontab = "0 2 * * *"\n', "[photos] sources: is missing"),
        (SCAN + 'sources = ["s3://b/"]\n', "[photos]: give source or sources, not both"),
        (SCAN.replace('"s3://photos/"', '""'), "sources.0: must be a source"),
        (SCAN.replace('"s3://photos/"', '"-"'), "not standard input"),
        (SCAN.replace('"s3://photos/"', '"photos"'), "sources.0: must be s3://bucket/prefix or an absolute path"),
        (SCAN.replace('"s3://photos/"', '"./photos"'), "an absolute path"),
        (SCAN.replace('"s3://photos/"', '"~/photos"'), "an absolute path"),
        (SCAN.replace('"s3://photos/"', '"file://photos"'), "an absolute path"),
        (SCAN.replace("source =", "sources ="), "[photos] sources: must be a list"),
        ('[photos]\ncrontab = "0 2 * * *"\nsources = []\n', "[photos] sources: "),
        (CRONTAB + '"0 2 * *"\n', "[photos] crontab: must have five fields"),
        (CRONTAB + '"0 2 * * * *"\n', "[photos] crontab: must have five fields"),
        (CRONTAB + '"61 2 * * *"\n', "crontab: is not a crontab: Invalid end range: 61 > 59"),
        (CRONTAB + '"0 2 30 2 *"\n', "crontab: is not a crontab"),
        (CRONTAB + '"0 2 * * someday"\n', "crontab: is not a crontab"),
        (CRONTAB + '"*/0 2 * * *"\n', "crontab: is not a crontab"),
        (CRONTAB + '"5, 2 * * *"\n', "crontab: is not a crontab: empty part"),
        (CRONTAB + "2\n", "[photos] crontab: must be text (it is 2)"),
        (SCAN + "fake_form = 0.9\n", "[photos] fake_form: is not a known name"),
        (SCAN + "fake_from = 9\n", "[photos] fake_from: must be 1 or less (it is 9)"),
        (SCAN + "fake_from = 0.2\nreal_to = 0.3\n", "[photos]: real_to must not be above fake_from"),
        (SCAN + 'explain = "some"\n', "[photos] explain: "),
        (SCAN + "min_bytes = -1\n", "[photos] min_bytes: "),
        (SCAN + "max_flagged_share = 40\n", "[photos] max_flagged_share: "),
        (SCAN + 'rejudge = "often"\n', "[photos] rejudge: "),
        (SCAN + 'suffixes = ".jpg"\n', "[photos] suffixes: "),
        (SCAN + "[photos.policy]\nfake_from = 0.9\n", "[photos]: policy is not a key"),
    ],
)
def test_a_fault_is_one_line_with_its_file_table_and_key(tmp_path: Path, text: str, said: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigurationError) as caught:
        load(path)
    assert str(caught.value).startswith("FAKESWEEP_NIGHTLY: ")
    assert str(path) in str(caught.value)
    assert said in str(caught.value)


def test_folders_are_given_by_absolute_paths(tmp_path: Path) -> None:
    for source in ("/photos", "file:///photos"):
        assert load(written(tmp_path, SCAN.replace("s3://photos/", source)))["photos"].sources == (source,)


def test_the_command_reports_a_fault_and_ends_with_2(tmp_path: Path) -> None:
    bad = fakesweep("nightly", environment={"FAKESWEEP_NIGHTLY": str(written(tmp_path, CRONTAB + '"never"\n'))})
    assert (bad.returncode, bad.stdout, bad.stderr.count("\n")) == (2, "", 1)
    assert "[photos] crontab: must have five fields" in bad.stderr
    missing = fakesweep("nightly", environment={"FAKESWEEP_NIGHTLY": str(tmp_path / "none.toml")})
    assert missing.returncode == 2
    assert "none.toml: No such file" in missing.stderr


def test_a_file_must_be_named() -> None:
    with pytest.raises(ConfigurationError, match="FAKESWEEP_NIGHTLY is not set"):
        load(None)


@pytest.mark.parametrize("name", ["Mars/Olympus", "", "../etc/passwd", "/etc/localtime"])
def test_an_unknown_time_zone_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="IANA"):
        Settings(timezone=name)


def nightly(crontab: str) -> NightlyScan:
    return NightlyScan.model_validate({"crontab": crontab, "source": "s3://b/"})


def app(timezone: str = "UTC") -> Celery:
    made = Celery("test", broker="memory://", set_as_current=False)
    made.conf.timezone = timezone
    return made


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("crontab", "since", "now", "due"),
    [
        ("0 2 * * *", "2026-07-01T02:00", "2026-07-02T01:59:59", None),
        ("0 2 * * *", "2026-07-01T02:00", "2026-07-02T02:00", "2026-07-02T02:00"),
        ("0 2 * * *", "2026-07-01T02:00", "2026-07-05T09:30", "2026-07-05T02:00"),
        ("0 2 * * *", "2026-07-01T01:59:59", "2026-07-01T02:00:00", "2026-07-01T02:00"),
        ("* * * * *", "2020-01-01T00:00", "2026-07-05T09:30:59", "2026-07-05T09:30"),
        ("0 2 * * sun", "2026-07-01T02:00", "2026-07-24T09:30", "2026-07-19T02:00"),
        ("0 2 29 2 *", "2024-01-01T02:00", "2027-12-31T00:00", "2024-02-29T02:00"),
        ("0 2 29 2 *", "2024-02-29T02:00", "2027-12-31T00:00", None),
        ("*/20 3 1 * *", "2026-05-11T02:00", "2026-07-05T09:30", "2026-07-01T03:40"),
    ],
)
def test_the_newest_time_due(crontab: str, since: str, now: str, due: str | None) -> None:
    assert nightly(crontab).newest_due(app(), at(since), at(now)) == (at(due) if due else None)


def times(crontab: str, start: str, count: int, timezone: str) -> list[str]:
    scan, found, due = nightly(crontab), [], at(start)
    for _ in range(count):
        due = scan.next_due(app(timezone), due)
        found.append(f"{due:%d %H:%M}")
    return found


def test_the_crontab_follows_its_time_zone_when_clocks_change() -> None:
    winter_to_summer = times("30 3 * * *", "2026-03-27T12:00", 3, "Europe/Berlin")
    assert winter_to_summer == ["28 02:30", "29 01:30", "30 01:30"]
    in_the_hour_that_is_not_there = times("30 2 * * *", "2026-03-28T12:00", 2, "Europe/Berlin")
    assert in_the_hour_that_is_not_there == ["29 01:30", "30 00:30"]
    in_the_hour_that_comes_twice = times("30 2 * * *", "2026-10-24T12:00", 2, "Europe/Berlin")
    assert in_the_hour_that_comes_twice == ["25 00:30", "26 01:30"]


@pytest.mark.parametrize("crontab", ["*/7 * * * *", "30 2 * * *", "0 0 31 * *", "15 1-3 * * 0,6"])
def test_a_next_time_is_always_later(crontab: str) -> None:
    scan, berlin, moment = nightly(crontab), app("Europe/Berlin"), at("2026-10-24T21:00")
    for step in range(200):
        due = scan.next_due(berlin, moment)
        assert due > moment
        moment = due if step % 2 else due + timedelta(microseconds=step)


def options(**more: Any) -> dict[str, Any]:
    return {"crontab": "0 2 * * *", "source": "s3://b/", **more}


def test_validation_does_not_change_its_input() -> None:
    given = options(explain="none")
    NightlyScan.model_validate(given)
    assert given == options(explain="none")
