"""Removes what points to a person's picture, and keeps what was decided about it. See docs/retention.md.

find its places and contents -> remove -> say what still holds it

The function forget_pictures() of migration 0017 removes. Only the owner of the tables may call it.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sqlalchemy import Text, cast, func, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlmodel import Session

from worker.at_work import older_than
from worker.database import Database, transaction
from worker.database.locking import lock_attempts, short_transaction
from worker.errors import ImageError, NoSuchContentError, OlderAtWorkError, Reason
from worker.messages import FORGOTTEN, ImageRef

SHA256 = re.compile(r"[0-9a-f]{64}")

_READS_PSEUDONYMS = "0017"
"""The first release whose `pictures`, `report` and `retry` know `forgotten:` uris, by its newest revision."""

# Some of these columns have no index: an erasure reads whole tables, so that it misses nothing.
_CONTENTS_AT = text("""
SELECT sha256 FROM findings WHERE uri = ANY(:places) AND sha256 IS NOT NULL
UNION SELECT sha256 FROM objects WHERE uri = ANY(:places)
UNION SELECT sha256 FROM content_places WHERE uri = ANY(:places)
UNION SELECT sha256 FROM verdicts WHERE uri = ANY(:places)
UNION SELECT sha256 FROM reviews WHERE uri = ANY(:places) AND sha256 IS NOT NULL
UNION SELECT sha256 FROM replaced_failures WHERE uri = ANY(:places) AND sha256 IS NOT NULL
""")
_PLACES_OF = text("""
SELECT sha256, uri FROM (
    SELECT sha256, uri FROM findings WHERE sha256 = ANY(:contents)
    UNION SELECT sha256, uri FROM objects WHERE sha256 = ANY(:contents)
    UNION SELECT sha256, uri FROM content_places WHERE sha256 = ANY(:contents)
    UNION SELECT sha256, uri FROM verdicts WHERE sha256 = ANY(:contents)
    UNION SELECT sha256, uri FROM reviews WHERE sha256 = ANY(:contents)
    UNION SELECT sha256, uri FROM replaced_failures WHERE sha256 = ANY(:contents)
) AS known WHERE uri NOT LIKE 'forgotten:%'
""")
_NAMED = text("""
SELECT EXISTS (SELECT FROM findings WHERE uri = ANY(:places)) OR EXISTS (
    SELECT FROM replaced_failures WHERE uri = ANY(:places)) OR EXISTS (SELECT FROM verdicts WHERE sha256 = ANY(:whole))
""")
_ACTIVE = "status NOT IN ('done', 'cancelled') AND dropped_at IS NULL"
_HELD = text(f"""
SELECT s.id::text || ' is still ' || s.status FROM scans s
WHERE {_ACTIVE} AND (
    s.source = ANY(:places) OR s.listing->'sources' ?| :places
    OR EXISTS (SELECT FROM suspects x WHERE x.scan_id = s.id AND x.uri = ANY(:places))
    OR EXISTS (SELECT FROM repaired x WHERE x.scan_id = s.id AND x.uri = ANY(:places))
    OR EXISTS (SELECT FROM unpublished x, unnest(CAST(:places AS text[])) place
               WHERE x.scan_id = s.id AND strpos(x.messages::text, to_json(place)::text) > 0)
    OR EXISTS (SELECT FROM unnest(CAST(:names AS text[])) name
               WHERE strpos(s.cursor, to_json(name)::text) > 0))
ORDER BY s.created_at
""")  # noqa: S608 - constants of this file
_AT_WORK = text(f"SELECT count(*) FROM scans WHERE {_ACTIVE}")  # noqa: S608 - likewise


@dataclass(frozen=True)
class Picture:
    """What is forgotten: these places, and these contents with all that describes them (`whole`).

    `about` are all contents that were at the places. `elsewhere` is how many other places of theirs are known, and
    stay.
    """

    places: frozenset[str]
    about: frozenset[str]
    whole: frozenset[str]
    elsewhere: int

    def __str__(self) -> str:
        return f"{len(self.places)} places and {len(self.whole)} contents"

    @property
    def names(self) -> frozenset[str]:
        """What may stand for the places in the cursor of a listing: keys, and names of files."""
        keys = {re.sub(r"^s3://[^/]+/|^file://", "", place) for place in self.places}
        return frozenset(keys | {key.rpartition("/")[2] for key in keys}) - {""}


@dataclass(frozen=True)
class Forgotten:
    """What was removed: rows by kind. `held_by`: scans at work that still name a place. `at_work`: how many work."""

    rows: Mapping[str, int]
    held_by: Collection[str]
    at_work: int


def image_at(uri: str, etag: str | None = None) -> ImageRef:
    """Returns the ref of the image at a stored uri. Raises ImageError for a place that was forgotten."""
    if uri.startswith(FORGOTTEN):
        raise ImageError(Reason.NOT_FOUND, "the picture was forgotten")
    return ImageRef(uri=uri, etag=etag)


def find_picture(database: Database, named: str) -> Picture:
    """Finds what belongs to a uri, or to the SHA-256 of a content.

    A uri is one place. Its contents are forgotten as a whole only if no other place of theirs is known: the same
    picture may belong to somebody else there. A SHA-256 is the content at all its places.

    Raises NoSuchContentError.
    """
    asked = frozenset({named}) if SHA256.fullmatch(named) else frozenset()
    with transaction(database) as session:
        places = frozenset(uri for _, uri in _places_of(session, asked)) if asked else frozenset({named})
        about = asked | frozenset(session.execute(_CONTENTS_AT, {"places": list(places)}).scalars())
        elsewhere = {(sha256, uri) for sha256, uri in _places_of(session, about) if uri not in places}
        whole = about - {sha256 for sha256, _ in elsewhere}
        if not _is_known(session, places, about, asked):
            raise NoSuchContentError(f"nothing names {named}: check its spelling; it may be forgotten already")
    return Picture(places, about, whole, len({uri for _, uri in elsewhere}))


def _places_of(session: Session, contents: Collection[str]) -> list[tuple[str, str]]:
    return [(row.sha256, row.uri) for row in session.execute(_PLACES_OF, {"contents": list(contents)})]


def _is_known(session: Session, places: frozenset[str], about: frozenset[str], asked: frozenset[str]) -> bool:
    if about - asked:
        return True
    return bool(session.execute(_NAMED, {"places": list(places), "whole": list(asked)}).scalar())


def forget(database: Database, picture: Picture, *, dry_run: bool = False) -> Forgotten:
    """Forgets a picture in one transaction, and records the event. With `dry_run`, everything is rolled back.

    Raises DatabaseUnavailableError, LockedError if no attempt gets the locks, and SQLAlchemy's ProgrammingError for a
    login without the right.
    """
    for attempt in lock_attempts():
        with attempt:
            found = _forget(database, picture, dry_run=dry_run)
    return found


def _forget(database: Database, picture: Picture, *, dry_run: bool) -> Forgotten:
    arrays = [_array(one) for one in (picture.places, picture.about, picture.whole, picture.names)]
    held = {"places": list(picture.places), "names": list(picture.names)}
    with short_transaction(database) as session:
        rows = session.execute(select(func.forget_pictures(*arrays))).scalar_one()
        found = Forgotten(
            {str(kind): int(number) for kind, number in rows.items()},
            [str(scan) for scan in session.execute(_HELD, held).scalars()],
            int(session.execute(_AT_WORK).scalar_one()),
        )
        if dry_run:
            session.rollback()
    return found


def check_releases(database: Database) -> None:
    """Raises OlderAtWorkError while a release is connected that cannot read the pseudonym of a uri."""
    with database.connect() as connection:
        connected = older_than(connection, _READS_PSEUDONYMS)
    if connected:
        raise OlderAtWorkError(
            f"older releases are connected, and cannot read what stands in place of a uri: {connected}; "
            "stop their processes (docs/upgrading.md)"
        )


def is_named_again(database: Database, picture: Picture) -> bool:
    """Whether something that was written while the picture was forgotten names one of its places, or its contents."""
    with transaction(database) as session:
        named = session.execute(_CONTENTS_AT, {"places": list(picture.places)}).scalars().all()
        return (
            _is_known(session, picture.places, frozenset(named), frozenset())
            or bool(_places_of(session, picture.whole))
        )  # fmt: skip


def _array(texts: Collection[str]) -> object:
    return cast(sorted(texts), ARRAY(Text))
