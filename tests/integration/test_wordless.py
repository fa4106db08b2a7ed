"""A detector that gives no reasons, from the message to the screens: verdicts are saved and reused, without them.

The model is a fake whose log-odds are the picture's brightness.
"""

from uuid import UUID, uuid4

import pytest
from sqlmodel import Session, select

from producers.dedupe import fill_reuse_rule, reuse_unchanged
from producers.reporting import results
from producers.reporting.contents import Wanted, flagged
from producers.reporting.progress import content_line, line
from producers.reporting.results import WORDLESS
from producers.web.access.people import Person
from producers.web.app import create_app
from producers.web.desk.item import item
from tests.api import allowed
from tests.classifiers import BrightModel, bright_detector
from tests.desk import logged_in, parts, person
from tests.integration.test_moderate import BRIGHT, DARK, GREY, job, png, start
from worker.database import Database, transaction
from worker.database.detectors import register_detector
from worker.messages import Explain, ImageRef, Policy
from worker.moderate import moderate
from worker.path import Parts
from worker.tables import DeskRole, Scan, Scope, StoredVerdict
from worker.testing import InMemoryImageStore

PICTURES: dict[str, bytes | Exception] = {
    "s3://b/bright": png(BRIGHT), "s3://b/dark": png(DARK), "s3://b/grey": png(GREY), "s3://b/text": b"hello",
}  # fmt: skip
HERON = Person("heron", DeskRole.REVIEWER)


@pytest.fixture
def path(database: Database) -> Parts:
    """The path of images with a classifier. With these thresholds, grey is real, though its log-odds say fake."""
    detector = bright_detector(BrightModel(), thresholds={"fake_from": 0.8, "real_to": 0.6}, notice="Ask a person.")
    detector_id = register_detector(database, detector.description.row())
    return Parts(InMemoryImageStore(PICTURES), database, detector, detector_id)


def swept(database: Database, path: Parts, policy: Policy | None = None) -> UUID:
    scan = start(database, len(PICTURES), policy)
    assert moderate(job(scan, *PICTURES), uuid4(), path) is None
    return scan.id


def test_every_image_gets_a_verdict_and_no_words(database: Database, path: Parts) -> None:
    scan_id = swept(database, path, Policy(explain=Explain.ALL, max_tokens=50))
    found = {row["uri"]: row for row in results.rows(database, scan_id)}
    assert {uri: (row["verdict"], row["reason"]) for uri, row in found.items()} == {
        "s3://b/bright": ("fake", None), "s3://b/dark": ("real", None), "s3://b/grey": ("real", None),
        "s3://b/text": (None, "not_an_image"),
    }  # fmt: skip
    with Session(database) as session:
        verdicts = session.exec(select(StoredVerdict)).all()
    assert {(one.completion, one.explanation, one.explain, one.prompt_tokens) for one in verdicts} == {
        ("", None, "none", 0)
    }
    assert path.store.fetched  # type: ignore[attr-defined]


@pytest.mark.parametrize("explain", Explain)
def test_a_second_scan_reuses_the_verdicts_whatever_explanations_it_asks_for(
    database: Database, path: Parts, explain: Explain
) -> None:
    swept(database, path)
    second = swept(database, path, Policy(explain=explain, max_tokens=None if explain is Explain.NONE else 99))
    with Session(database) as session:
        scan = session.get_one(Scan, second)
        assert (scan.judged, scan.reused, scan.failed) == (0, 3, 1)


@pytest.mark.parametrize("explain", Explain)
def test_a_producer_reuses_them_too(database: Database, path: Parts, explain: Explain) -> None:
    refs = [ImageRef(uri=uri, etag=path.store.etag(uri)) for uri in list(PICTURES)[:3]]  # type: ignore[attr-defined]
    first = start(database, 3)
    moderate(job(first, *refs), uuid4(), path)
    second = start(database, 3, Policy(explain=explain))
    with transaction(database) as session:
        scan = session.get_one(Scan, second.id)
        left = reuse_unchanged(session, scan, refs, fill_reuse_rule(session, scan)).left
    assert list(left) == []


def test_results_say_that_there_are_no_reasons(database: Database, path: Parts) -> None:
    rows = {row["uri"]: row for row in results.rows(database, swept(database, path))}
    bright, grey = rows["s3://b/bright"], rows["s3://b/grey"]
    assert (bright["detector"]["prompt_revision"], bright["detector"]["gives_reasons"]) == (None, False)
    assert bright["explanation"] is None
    assert line(bright).endswith(f"\ts3://b/bright\t{WORDLESS}")
    assert line(rows["s3://b/text"]).startswith("not_an_image\ts3://b/text\t")
    # The thresholds make grey real, and its log-odds say fake. There are no reasons that could contradict it.
    assert (grey["answer"], grey["verdict"], grey["contradicts"]) == ("fake", "real", False)


def test_a_summary_and_flagged_contents_say_so(database: Database, path: Parts) -> None:
    scan_id = swept(database, path)
    (detector,) = results.summary(database, scan_id)["detectors"]
    assert (detector["prompt_revision"], detector["gives_reasons"]) == (None, False)
    (content,) = flagged(database, Wanted(), 10)
    assert (content["explanation"], content["gives_reasons"]) == (None, False)
    assert content_line(content).endswith(f"\t{WORDLESS}")


def test_the_page_of_an_item_says_so_and_shows_no_prompt(database: Database, path: Parts) -> None:
    swept(database, path)
    (content,) = flagged(database, Wanted(), 10)
    person(database, "heron")
    shown = item(database, HERON, content["sha256"])
    assert shown is not None
    assert (shown.detector.prompt_revision, shown.detector.prompt, shown.explanation) == (None, None, None)
    page = logged_in(create_app(parts(database)), "heron").get(f"/items/{content['sha256']}").text
    assert WORDLESS in page
    assert "Ask a person." in page
    for unfit in ("gave no explanation", "was asked", "cut off", "contradicts"):
        assert unfit not in page


def test_the_api_says_so(database: Database, path: Parts) -> None:
    scan_id = swept(database, path)
    client = allowed(database, Scope.READ)
    (bright,) = client.get(f"/scans/{scan_id}/findings", params={"verdict": "fake"}).json()["items"]
    assert bright["detector"]["prompt_revision"] is None
    assert bright["detector"]["gives_reasons"] is False
    (verdict,) = client.get(f"/contents/{bright['sha256']}").json()["verdicts"]
    assert (verdict["explanation"], verdict["gives_reasons"], verdict["contradicts"]) == (None, False, False)
