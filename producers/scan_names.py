"""Which scan people mean: they give its id, the first characters of its id, or its name."""

import re
from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Row, or_, select
from sqlmodel import col

from worker.database import Database, transaction
from worker.errors import NoSuchScanError, UsageError
from worker.tables import Scan
from worker.texts import storable

LEAST_OF_AN_ID = 4
"""Characters that the beginning of an id must have. With fewer, a slip of the hand would choose a scan."""

SHOWN = 5
"""How many scans are shown when a text means several."""

_BEGINNING = re.compile(r"[0-9a-f]{1,32}")


def scan_named(database: Database, text: str) -> UUID:
    """Returns the id of the scan that `text` means: a whole id, the beginning of one id, or the name of one scan.

    A whole id is not looked up. Raises NoSuchScanError, and UsageError when the text is too short, or means several
    scans.
    """
    text = text.strip()
    if not text:
        raise UsageError("SCAN is empty: give a scan's id, its first characters, or its name")
    if storable(text) != text:
        raise NoSuchScanError(f"no scan has the name {text!r}, which is not UTF-8 text; `fakesweep status` lists scans")
    try:
        return UUID(text)
    except ValueError:
        found = _found(database, text)
    if len(found) == 1:
        return UUID(str(found[0].id))
    if found:
        raise UsageError(f"{text!r} means several scans: {_listed(found)}; give more of the id")
    if _is_beginning(text) and len(_hexadecimal(text)) < LEAST_OF_AN_ID:
        raise UsageError(f"{text!r} is too short: give {LEAST_OF_AN_ID} or more characters of a scan's id, or its name")
    raise NoSuchScanError(f"no scan has the name {text!r}, or an id that begins so; `fakesweep status` lists scans")


def _found(database: Database, text: str) -> Sequence[Row[tuple[UUID, str]]]:
    """The newest scans that the text may mean, one more than are shown."""
    fits = [col(Scan.name) == text]
    beginning = _hexadecimal(text)
    if _is_beginning(text) and len(beginning) >= LEAST_OF_AN_ID:
        # A range, and not LIKE on text: the primary key answers it.
        fits.append(col(Scan.id).between(UUID(beginning.ljust(32, "0")), UUID(beginning.ljust(32, "f"))))
    query = select(col(Scan.id), col(Scan.name)).where(or_(*fits)).order_by(col(Scan.created_at).desc())
    with transaction(database) as session:
        return session.execute(query.limit(SHOWN + 1)).all()


def _is_beginning(text: str) -> bool:
    return bool(_BEGINNING.fullmatch(_hexadecimal(text)))


def _hexadecimal(text: str) -> str:
    return text.lower().replace("-", "")


def _listed(found: Sequence[Row[tuple[UUID, str]]]) -> str:
    shown = ", ".join(f"{row.id} ({row.name})" for row in found[:SHOWN])
    return shown + (", and more" if len(found) > SHOWN else "")
