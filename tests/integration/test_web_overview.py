"""The overview: its figures are those of the views, its texts are escaped, and only leads see it."""

import html
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from producers.web.overview import figures, texts
from producers.web.pages import cut
from tests.desk import desk_app, logged_in, person
from tests.integration.test_moderate import BRIGHT, DARK, GREY, job, make_parts, png, start
from worker.database import Database, transaction
from worker.moderate import moderate
from worker.path import Parts
from worker.tables import DeskRole, Scan

__all__ = ["make_parts"]

HOSTILE = '"><script>alert(1)</script>{{ 7 * 7 }}'
URIS = {"s3://b/1": png(BRIGHT), "s3://b/2": png(DARK), "s3://b/3": png(GREY), "s3://b/4": b"no image"}

_MADE_UP = """
INSERT INTO findings_hourly (hour, scan_id, bucket, detector_id, outcome, verdict, reason, score_bin, shard, findings)
SELECT date_trunc('hour', now()) - n * interval '1 day', '00000000-0000-0000-0000-000000000000', 'b', d.id, 'judged',
       verdict, '', score_bin, 0, findings + n % 7 + CASE WHEN n < 7 AND verdict = 'fake' THEN 400 ELSE 0 END
FROM generate_series(1, 80) n, detectors d, (VALUES ('real', 0, 900), ('fake', 19, 50))
     AS made (verdict, score_bin, findings);
INSERT INTO flagged_daily (day, detector_id, bucket, shard, contents)
SELECT date_trunc('day', now(), 'UTC') - n * interval '1 day', d.id, 'b', 0, n
FROM generate_series(1, 40) n, detectors d;
INSERT INTO reviews (scan_id, uri, reviewer, statement)
SELECT last_flagged_scan_id, last_flagged_uri, 'owl', 'real' FROM contents_flagged;
"""


def rows_of(page: str, heading: str) -> list[list[str]]:
    """The cells of the first table's body in the section with this heading, without their tags."""
    section = page.partition(f'<section aria-labelledby="{heading}">')[2].partition("</section>")[0]
    body = section.partition("<tbody>")[2].partition("</tbody>")[0]
    return [
        [
            re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", cell))).strip()
            for cell in re.findall(r"<t[hd].*?</t[hd]>", row, re.DOTALL)
        ]
        for row in re.findall(r"<tr>.*?</tr>", body, re.DOTALL)
    ]


@dataclass
class Lead:
    """A lead at their browser, and the database behind it."""

    database: Database
    browser: TestClient
    scan: Scan

    def page(self, path: str = "/overview") -> str:
        answer = self.browser.get(path)
        assert answer.status_code == 200, answer.text
        return answer.text

    def ask(self, query: str) -> list[Any]:
        with transaction(self.database) as session:
            return list(session.execute(text(query)).mappings())

    def change(self, query: str, **values: Any) -> None:
        with transaction(self.database) as session:
            session.execute(text(query), values)


@pytest.fixture
def lead(database: Database, make_parts: Callable[..., Parts]) -> Lead:
    parts = make_parts({**URIS, "s3://b/live": png(BRIGHT, (50, 60))})
    scan = start(database, 5)
    moderate(job(scan, *URIS), uuid4(), parts)
    moderate(job(None, "s3://b/live"), uuid4(), parts)
    person(database, "owl", DeskRole.LEAD)
    return Lead(database, logged_in(desk_app(database), "owl"), scan)


def test_scans_are_shown_with_the_figures_of_the_view(lead: Lead) -> None:
    (told,) = lead.ask(figures.SCANS)
    (row,) = rows_of(lead.page(), "scans")
    assert row[1] == told["status"] == "running"
    assert row[3] == texts.percent(told["share_done"]) == "80.0 %"
    assert row[4] == texts.whole(told["listed"]) == "5"
    assert row[7:9] == [texts.percent(told["share_flagged"]), texts.percent(told["share_failed"])]
    assert row[7:9] == ["33.3 %", "25.0 %"]
    widths = re.findall(r'class="c(\d)" x="[\d.]+" y="0" width="([\d.]+)"', lead.page())
    assert widths[:4] == [("0", "20.0"), ("1", "20.0"), ("2", "20.0"), ("3", "20.0")]


def test_submissions_are_summed(lead: Lead) -> None:
    (told,) = lead.ask("SELECT sum(findings) AS images FROM findings_by_hour WHERE kind = 'live'")
    said = lead.page().partition("Submissions of the last 24 hours")[2].partition("</p>")[0]
    assert re.findall(r"<strong>(\d+)</strong>", said) == [str(told["images"]), "1", "0", "0"]


def test_the_waiting_images_and_contents_are_those_of_the_views(lead: Lead) -> None:
    page = lead.page()
    (backlog,) = lead.ask("SELECT * FROM review_backlog")
    assert backlog["contents"] == 3
    assert '<a href="/queue">3</a>' in page
    assert [row[:3] for row in rows_of(page, "waiting")] == [
        [one["queue"], str(one["scans"]), str(one["images"])] for one in lead.ask(figures.QUEUES)
    ]


def test_made_up_weeks_are_shown_with_the_figures_of_the_views(lead: Lead) -> None:
    lead.change(_MADE_UP)
    page = lead.page()
    told = {one["day"].date().isoformat(): one["contents"] for one in lead.ask("SELECT * FROM flagged_by_day")}
    shown = {day: int(number) for day, number in rows_of(page, "flagged")}
    assert len(shown) == 30
    assert {day: number for day, number in shown.items() if number} == {day: told[day] for day in sorted(told)[-30:]}
    assert len(re.findall(r'<rect class="c0"', page.partition('class="days"')[2].partition("</svg>")[0])) == 30

    (quality,) = lead.ask("SELECT * FROM detector_quality")
    ((_, _, counted, *rates),) = rows_of(page, "overturned")
    assert counted == f"{quality['fake_overturned']} of {quality['fake_overturned'] + quality['fake_confirmed']}"
    assert rates == [texts.percent(quality[f"overturn_{name}"]) for name in ("rate", "low", "high")]

    (alarm,) = lead.ask("SELECT * FROM drift WHERE alarm AND day = date_trunc('day', now(), 'UTC') - interval '1 day'")
    assert rows_of(page, "drift") == [
        [alarm["detector_name"], "b", alarm["measure"], texts.percent(alarm["share"]),
         texts.percent(alarm["share_before"]), f"{alarm['z']:.1f}", texts.whole(alarm["images"])],
    ]  # fmt: skip


def test_failures_are_counted_by_reason(lead: Lead) -> None:
    (told,) = lead.ask("SELECT * FROM failures")
    ((reason, _, images, scans, last),) = rows_of(lead.page(), "failures")
    assert (reason, images, scans, last) == ("not_an_image", "1", "1", texts.hour(told["last_hour"]))


def test_an_empty_database_has_a_page_too(database: Database) -> None:
    person(database, "owl", DeskRole.LEAD)
    page = logged_in(desk_app(database), "owl").get("/overview").text
    for said in ("No scan was started", "Nothing was flagged", "Nothing was confirmed", "No image failed", "No alarm"):
        assert said in page


def test_hostile_texts_are_escaped(lead: Lead) -> None:
    lead.change("UPDATE scans SET name = :text, source = :text, note = :text WHERE kind = 'scan'", text=HOSTILE)
    lead.change("UPDATE detectors SET name = :text, notice = :text", text=HOSTILE)
    lead.change(_MADE_UP)
    for path in (
        "/overview",
        "/scans",
        f"/scans/{lead.scan.id}",
        f"/scans/{lead.scan.id}/pause",
        f"/scans/{lead.scan.id}?after=",
    ):
        page = lead.page(path)
        assert html.escape(HOSTILE) in page.replace("&#34;", "&quot;")
        assert "<script>" not in page


@pytest.mark.parametrize(
    "path", ["/overview", "/scans", "/scans/new", "/dead-letters", "/scans/{scan}", "/scans/{scan}/pause"]
)
def test_a_reviewer_may_not_see_the_pages_of_leads(lead: Lead, path: str) -> None:
    person(lead.database, "heron")
    heron = logged_in(lead.browser.app, "heron")  # type: ignore[arg-type]  # TestClient calls it an ASGI app
    assert heron.get(path.format(scan=lead.scan.id)).status_code == 403


def test_nothing_on_a_page_has_a_style_or_a_script(lead: Lead) -> None:
    lead.change(_MADE_UP)
    for path in ("/overview", "/scans", "/scans/new", f"/scans/{lead.scan.id}"):
        main = lead.page(path).partition("<main")[2]
        assert main
        assert not re.search(r"<style|<script|\sstyle=|\son\w+=", main)
        for table in re.findall(r'<table class="cards">.*?</table>', main, re.DOTALL):
            assert not re.search(r"<td(?! data-name=)", table), "on a phone, each cell shows the name of its column"


def test_a_scan_has_a_page_of_its_findings(lead: Lead) -> None:
    page = lead.page(f"/scans/{lead.scan.id}")
    assert [row[:2] for row in rows_of(page, "findings")] == [["s3://b/1", "fake"]]
    everything = rows_of(lead.page(f"/scans/{lead.scan.id}?after="), "findings")
    assert [row[0] for row in everything] == list(URIS)
    behind = rows_of(lead.page(f"/scans/{lead.scan.id}?after=s3://b/2"), "findings")
    assert [row[0] for row in behind] == ["s3://b/3", "s3://b/4"]
    assert rows_of(page, "failures")[0][:3] == ["not_an_image", "b", "1"]
    assert f'href="/queue?scan={lead.scan.id}"' in page
    assert lead.browser.get(f"/scans/{uuid4()}").status_code == 404


def test_found_images_lead_to_their_items(lead: Lead) -> None:
    place = f"s3://b/{'deep/' * 60}1"
    lead.change("UPDATE findings SET uri = :place WHERE uri = 's3://b/1' AND scan_id = :scan", place=place,
                scan=lead.scan.id)  # fmt: skip
    flagged = lead.page(f"/scans/{lead.scan.id}")
    assert cut(place, 120) in flagged
    assert place not in flagged
    uncertain = lead.page(f"/scans/{lead.scan.id}?show=uncertain")
    assert [row[:2] for row in rows_of(uncertain, "findings")] == [["s3://b/3", "uncertain"]]
    assert rows_of(flagged, "findings") != rows_of(uncertain, "findings")
    for page in (flagged, uncertain):
        (address,) = re.findall(r'href="(/items/[0-9a-f]{64})"', page)
        assert lead.browser.get(address).status_code == 200


def test_a_retry_is_offered_only_where_it_may_help(lead: Lead) -> None:
    address = f"/scans/{lead.scan.id}/retry"
    assert "None of these reasons goes away by itself" in lead.page(f"/scans/{lead.scan.id}")
    assert address not in lead.page(f"/scans/{lead.scan.id}")
    assert lead.browser.get(address).status_code == 409
    lead.change("UPDATE findings_hourly SET reason = 'engine_failed' WHERE reason = 'not_an_image'")
    page = lead.page(f"/scans/{lead.scan.id}")
    assert "A retry may help where the reason is <code>engine_failed</code>" in page
    assert f'href="{address}"' in page
    assert "Judge failed images again?" in lead.page(address)


def test_all_scans_are_listed_in_pages(lead: Lead) -> None:
    lead.change(
        "INSERT INTO scans SELECT (jsonb_populate_record(s, jsonb_build_object('id', gen_random_uuid(), 'name', "
        "'n' || n, 'created_at', now() - interval '10 days'))).* FROM scans s, generate_series(1, 60) n "
        "WHERE id = :scan",
        scan=lead.scan.id,
    )
    names, address = [], "/scans"
    while address:
        page = lead.page(address)
        names += [row[0] for row in rows_of(page.replace("<h1", '<section aria-labelledby="all"><h1'), "all")]
        found = re.search(r'href="(/scans\?before=[^"]+)"', page)
        address = found[1] if found else ""
    assert names[0] == "s3://b/"
    assert sorted(names[1:]) == sorted(f"n{n}" for n in range(1, 61))
    assert 'href="/scans"' in lead.page()
    assert '<a href="/scans" aria-current="page">' in lead.page("/scans")
    assert lead.browser.get(f"/scans?before={uuid4()}").status_code == 404


def test_no_page_offers_what_the_scan_does_not_allow(lead: Lead) -> None:
    answer = lead.browser.get(f"/scans/{lead.scan.id}/resume")
    assert answer.status_code == 409
    assert "The scan is running. So it cannot be resumed." in answer.text
    assert "Resume this scan?" not in answer.text
    page = lead.page(f"/scans/{lead.scan.id}")
    assert f'class="button danger" href="/scans/{lead.scan.id}/cancel">Cancel…' in page
    assert '<button class="danger">' in lead.page(f"/scans/{lead.scan.id}/cancel")
    assert '<button class="main">' in lead.page(f"/scans/{lead.scan.id}/pause")
