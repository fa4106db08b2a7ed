"""What an item says about its detector's scores, and the external ids that find it, after a real scan."""

import json
from typing import Any

import pytest
from PIL import Image
from sqlalchemy import text

from producers.web.access.people import Person
from producers.web.desk.item import item
from producers.web.desk.queue import Filters, waiting
from tests.desk import drawn, png, swept
from worker.database import Database
from worker.messages import ImageRef
from worker.tables import DeskRole
from worker.testing import InMemoryImageStore

HERON = Person("heron", DeskRole.REVIEWER)
FAKE, REAL = "s3://b/0000.png", "s3://b/real.png"


@pytest.fixture
def contents(database: Database) -> dict[str, str]:
    """Two contents, one fake and one real, by uri."""
    images = {FAKE: drawn(1)["0000.png"], REAL: png(Image.new("RGB", (60, 60), "black"))}
    refs = [ImageRef(uri=uri, external_id=f"post {uri}") for uri in images]
    swept(database, InMemoryImageStore(images), refs)
    return {row.uri: row.sha256 for row in rows(database, "SELECT uri, sha256 FROM verdicts")}


def rows(database: Database, query: str, **values: Any) -> Any:
    with database.begin() as connection:
        found = connection.execute(text(query), values)
        return found.all() if found.returns_rows else None


def test_external_ids_are_kept_for_flagged_contents_only(database: Database, contents: dict[str, str]) -> None:
    kept = rows(database, "SELECT external_id, sha256 FROM content_external_ids")
    assert kept == [(f"post {FAKE}", contents[FAKE])]
    found = waiting(database, HERON, Filters(external_id=f"post {FAKE}")).items
    assert [one.sha256 for one in found] == [contents[FAKE]]
    assert waiting(database, HERON, Filters(external_id=f"post {REAL}")).items == []
    for uri in (FAKE, REAL):  # if a content was never flagged, its page shows what its finding says
        shown = item(database, HERON, contents[uri])
        assert shown is not None
        assert (shown.external_ids, shown.flagged, shown.places) == ([f"post {uri}"], uri == FAKE, [uri])


@pytest.mark.parametrize(
    ("calibration", "said"),
    [
        (None, None),
        ({"slope": 1.0, "offset": 0.0, "fitted_on": None, "images": None}, None),
        (
            {"slope": 1.5, "offset": 0.1, "images": 1200, "fitted_on": "drawings", "error_after": 0.021},
            "Platt scaling on 1200 images of drawings; the score was off by 2.1% on average on other images",
        ),
        ({"knots": [[0.0, 0.1], [1.0, 0.9]]}, "isotonic regression"),
    ],
)
def test_an_item_says_how_scores_are_calibrated(
    database: Database, contents: dict[str, str], calibration: Any, said: str | None
) -> None:
    change = (
        "UPDATE detectors SET description = description || jsonb_build_object('calibration', CAST(:given AS jsonb))"
    )
    rows(database, change, given=json.dumps(calibration))
    shown = item(database, HERON, contents[FAKE])
    assert shown is not None
    assert (shown.detector.calibration, shown.detector.calibrated) == (said, said is not None)
