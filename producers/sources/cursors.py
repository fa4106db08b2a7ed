"""Reading a cursor back. Every kind of source has a frozen pydantic model for its own."""

from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from worker.errors import SourceError

C = TypeVar("C", bound="Cursor")


class Cursor(BaseModel):
    """Where a listing goes on, as JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def read_cursor(kind: type[C], text: str, source: str) -> C:
    """The cursor in `text`; raises SourceError where it is none of this kind of source."""
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        raise SourceError(f"{source}: its cursor is of another kind of source: start a new scan") from error


def changed(source: str) -> SourceError:
    """The source is not what the cursor was made for."""
    return SourceError(f"{source}: has changed since the scan began: start a new scan (or repair)")
