"""Reads cursors. Every kind of source has a frozen pydantic model for its own."""

from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from worker.errors import SourceError

C = TypeVar("C", bound="Cursor")


class Cursor(BaseModel):
    """The place where a listing continues, as JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def read_cursor(kind: type[C], text: str, source: str) -> C:
    """Returns the cursor in `text`. Raises SourceError if it does not belong to this kind of source."""
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        raise SourceError(f"{source}: the cursor belongs to another kind of source: start a new scan") from error


def changed(source: str) -> SourceError:
    """Makes the error for a source that has changed since its cursor was made."""
    return SourceError(f"{source}: has changed since the scan began: start a new scan (or repair)")
