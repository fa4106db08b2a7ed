"""The page of a content."""

from typing import Annotated
from uuid import UUID

from fastapi import Path
from fastapi.responses import Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from producers.near import near_duplicates
from producers.web.access.people import AReviewer
from producers.web.desk import claims, looking
from producers.web.desk.deciding import MAX_NOTE
from producers.web.desk.filters import Asked
from producers.web.desk.item import item
from producers.web.desk.marking import marked
from producers.web.desk.undo import newest_decision
from producers.web.pages import APages
from producers.web.parts import AParts
from producers.web.pictures import Kind, address
from worker.errors import NoSuchContentError
from worker.messages import Text
from worker.tables import Statement
from worker.texts import storable

Sha256 = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$")]


EmptyIsNone = BeforeValidator(lambda value: None if value == "" else value)
"""Turns an empty form field into None."""
RowId = Annotated[int, Field(ge=1, lt=2**63)]


class Typed(BaseModel):
    """The fields of an item's form."""

    model_config = ConfigDict(frozen=True)

    statement: Statement | None = None
    claim: Annotated[UUID | None, EmptyIsNone] = None
    reason_code: Text = Field(default="", max_length=100)
    note: str = ""  # any length: a note that is too long is shown again, with an error
    also: tuple[Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")], ...] = ()
    scan_id: Annotated[UUID | None, EmptyIsNone] = None
    uri: Text = Field(default="", max_length=4096)
    verdict_id: Annotated[RowId | None, EmptyIsNone] = None

    @field_validator("note")
    @classmethod
    def _lines_as_typed(cls, note: str) -> str:
        """Browsers send the end of a line as two characters, but count it as one."""
        return storable(note.replace("\r\n", "\n"))

    @property
    def anything(self) -> bool:
        """Whether the form has something that must not be lost."""
        return bool(self.note or self.reason_code)


class Showing:
    """Makes the page of a content for the person who asks."""

    def __init__(self, person: AReviewer, parts: AParts, pages: APages) -> None:
        self._person, self._parts, self._pages = person, parts, pages

    def page(
        self, sha256: str, asked: Asked, *, typed: Typed | None = None, status: int = 200, trouble: str = ""
    ) -> Response:
        """Returns the page. `trouble` says why something was not done. Raises NoSuchContentError."""
        parts, person = self._parts, self._person
        found = item(parts.database, person, sha256)
        if found is None:
            raise NoSuchContentError(f"no detector has judged a content {sha256}")
        mine = claims.own(parts.database, person, sha256)
        others = looking.look(parts.database, person, sha256, parts.settings.heartbeat_s, opened=True)
        near = near_duplicates(parts.database, sha256, person=person.name)
        return self._pages.show(
            "item.html.j2",
            status=status,
            item=found,
            claim=mine,
            held=None if mine else found.held,
            others=looking.told(others),
            typed=typed or Typed(),
            trouble=trouble,
            near=near,
            pictures={kind: address(parts, person, sha256, found.uri, kind) for kind in (Kind.CLEAR, Kind.BLURRED)},
            near_pictures={one.sha256: address(parts, person, one.sha256, one.uri, Kind.SMALL_BLURRED) for one in near},
            picture_edge=parts.settings.picture_edge,
            explanation=marked(found.explanation or "", found.answer),
            reasons=parts.reasons,
            max_note=MAX_NOTE,
            newest=newest_decision(parts.database, person),
            heartbeat_s=parts.settings.heartbeat_s,
            query=asked.query(),
        )
