"""The form that starts a scan asks for second opinions, if there is a detector that can give one."""

import html
import re

import psycopg
import pytest

from tests.integration.test_web_scans import Desk, desk
from tests.second_opinions import FURTHER, Two
from worker.database.detectors import register_detector
from worker.testing import scripted_description

__all__ = ["desk"]


@pytest.fixture
def two(desk: Desk) -> Two:
    return Two(desk.app.state.parts.database)


def boxes(page: str) -> dict[str, bool]:
    """The further detectors that the form offers, and whether each is ticked."""
    found = re.findall(r'<input type="checkbox" [^>]*name="also" value="([^"]*)"( checked)?>', page)
    return {html.unescape(name): bool(ticked) for name, ticked in found}


def wrong(page: str) -> str:
    (said,) = re.findall(r'<strong class="wrong">(.*?)</strong>', page)
    return html.unescape(said)


def test_where_no_further_detector_has_started_the_form_says_nothing_of_them(desk: Desk, two: Two) -> None:
    assert "Second opinions" not in desk.browser.get("/scans/new").text
    two.main_alone()
    assert "Second opinions" not in desk.browser.get("/scans/new").text
    scan = desk.start()
    assert "also" not in desk.scan(scan, "policy")[0]
    assert "Second opinions" not in desk.browser.get(f"/scans/{scan}").text


def test_the_form_offers_what_a_scan_may_ask_and_nothing_else(desk: Desk, two: Two) -> None:
    two.parts()
    database = two.database
    for name in ("scripted", 'a "quoted" <b>', "long gone"):
        register_detector(database, scripted_description(name=name).row(), further=True)
    with psycopg.connect(desk.url) as connection:
        connection.execute("UPDATE detectors SET also_at = also_at - interval '90 days' WHERE name = 'long gone'")
    page = desk.browser.get("/scans/new").text
    assert boxes(page) == {'a "quoted" <b>': False, FURTHER: False}
    assert "Second opinions" in page


def test_a_scan_asks_the_detectors_that_were_ticked(desk: Desk, two: Two) -> None:
    two.parts()
    register_detector(two.database, scripted_description(name="blueness").row(), further=True)
    answer = desk.browser.post("/scans", data={**desk.form(), "sources": desk.source, "also": [FURTHER, "blueness"]})
    assert answer.status_code == 303, answer.text
    with psycopg.connect(desk.url) as connection:
        ((policy,),) = connection.execute("SELECT policy FROM scans").fetchall()
    assert policy["also"] == [FURTHER, "blueness"]
    assert set(policy["also_thresholds"]) == {FURTHER, "blueness"}
    page = desk.browser.get(answer.headers["location"]).text
    assert f'<dt>Second opinions</dt><dd class="prose">{FURTHER}, blueness</dd>' in page


def test_a_detector_that_cannot_be_asked_is_refused_and_what_was_ticked_stays(desk: Desk, two: Two) -> None:
    two.parts()
    form = {**desk.form(), "sources": desk.source, "name": "kept"}
    cases = {
        "nobody": [FURTHER, "nobody"],
        "is the detector that decides": [FURTHER, "scripted"],
        "Choose at most 8.": [FURTHER, *map(str, range(8))],
        "must not name a detector twice": [FURTHER, FURTHER],
    }
    for said, also in cases.items():
        answer = desk.browser.post("/scans", data={**form, "also": also})
        assert (answer.status_code, said in wrong(answer.text)) == (422, True), answer.text
        assert boxes(answer.text) == {FURTHER: True}
        assert 'value="kept"' in answer.text
        assert re.search(r"<details open>", answer.text)
    with psycopg.connect(desk.url, application_name="fakesweep 0022") as connection:
        answer = desk.browser.post("/scans", data={**form, "also": [FURTHER]})
        assert (answer.status_code, "older releases are connected" in wrong(answer.text)) == (422, True)
        assert connection.execute("SELECT count(*) FROM scans").fetchone() == (0,)


def test_a_detector_that_is_gone_by_now_is_named_although_there_is_nothing_to_choose(desk: Desk, two: Two) -> None:
    two.main_alone()
    answer = desk.browser.post("/scans", data={**desk.form(), "sources": desk.source, "also": [FURTHER]})
    assert (answer.status_code, boxes(answer.text)) == (422, {})
    assert f"no worker has started with '{FURTHER}'" in wrong(answer.text)
