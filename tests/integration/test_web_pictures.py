"""What a browser gets for an image: a JPEG that we made, or a picture that says why there is none."""

import hashlib
import io
from typing import Any

import pytest
from fastapi import FastAPI
from httpx2 import Response
from PIL import Image

from producers.web.access.people import Person
from producers.web.app import create_app
from producers.web.parts import Parts
from producers.web.pictures import Kind, address
from tests.desk import browser, logged_in, parts, person
from tests.integration.test_moderate import png
from worker.database import Database, transaction
from worker.errors import ImageError, Reason, StorageUnavailableError
from worker.tables import ContentPlace, DeskRole
from worker.testing import InMemoryImageStore

URI = "s3://photos/a.jpg"
HERON = Person("heron", DeskRole.REVIEWER)


class Desk:
    """An app with a store, and a person who looks at pictures."""

    def __init__(self, database: Database, objects: dict[str, bytes | Exception], **changes: Any) -> None:
        self.store = InMemoryImageStore(objects)
        self.parts: Parts = parts(database, **{"store": self.store, **changes})
        person(database, "heron")
        self.app: FastAPI = create_app(self.parts)
        self.client = logged_in(self.app, "heron")

    def get(self, data: bytes, uri: str = URI, kind: Kind = Kind.CLEAR) -> Response:
        return self.client.get(address(self.parts, HERON, sha256(data), uri, kind))


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def shown(answer: Response) -> Image.Image:
    """The picture in an answer. It must be a JPEG, whatever the status is."""
    assert answer.headers["content-type"] == "image/jpeg"
    image = Image.open(io.BytesIO(answer.content))
    image.load()
    assert image.format == "JPEG"
    return image


def reason(answer: Response) -> tuple[int, str]:
    shown(answer)
    return answer.status_code, answer.headers["x-reason"]


def test_a_picture_is_made_smaller(database: Database) -> None:
    data = png("white", size=(3000, 2000))
    desk = Desk(database, {URI: data})
    answer = desk.get(data)
    assert answer.status_code == 200, answer.headers
    assert shown(answer).size == (1600, 1067)
    assert shown(desk.get(data, kind=Kind.BLURRED)).size == (1600, 1067)
    assert shown(desk.get(data, kind=Kind.SMALL_BLURRED)).size == (320, 213)
    assert desk.store.fetched == [URI], "all forms are made at once"


def test_a_replaced_object_is_not_shown(database: Database) -> None:
    old, new = png("white"), png("black")
    desk = Desk(database, {URI: new})
    assert reason(desk.get(old)) == (410, "changed")


def test_another_place_of_the_same_content_is_tried(database: Database) -> None:
    data = png("white")
    desk = Desk(database, {URI: png("black"), "s3://photos/b.jpg": data})
    with transaction(database) as session:
        session.add(ContentPlace(sha256=sha256(data), detector_id=1, uri="s3://photos/b.jpg"))
    assert desk.get(data).status_code == 200
    assert desk.store.fetched == [URI, "s3://photos/b.jpg"]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (ImageError(Reason.NOT_FOUND, "x"), (404, "not_found")),
        (ImageError(Reason.ACCESS_DENIED, "x"), (403, "access_denied")),
        (ImageError(Reason.TOO_LARGE, "x"), (422, "too_large")),
        (StorageUnavailableError("x"), (503, "storage_unavailable")),
        (b"%PDF-1.7 no image", (422, "not_an_image")),
        (b"", (422, "empty")),
    ],
)
def test_a_picture_says_why_there_is_none(
    database: Database, found: bytes | Exception, expected: tuple[int, str]
) -> None:
    desk = Desk(database, {URI: found})
    assert reason(desk.get(found if isinstance(found, bytes) else b"x")) == expected


def test_an_address_works_for_one_person_only(database: Database) -> None:
    data = png("white")
    desk = Desk(database, {URI: data})
    person(database, "crane")
    others = address(desk.parts, Person("crane", DeskRole.ADMIN), sha256(data), URI, Kind.CLEAR)
    assert reason(desk.client.get(others)) == (404, "address_unknown")
    own = address(desk.parts, HERON, sha256(data), URI, Kind.CLEAR)
    assert browser(desk.app).get(own).status_code == 303
    assert reason(desk.client.get(f"{own}x")) == (404, "address_unknown")
    assert reason(desk.client.get("/pictures/x")) == (404, "address_unknown")
