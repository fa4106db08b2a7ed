"""Refuses uris and sources that programs may not name, field by field."""

from collections.abc import Iterable, Sequence

from fastapi.exceptions import RequestValidationError

from producers.web.places import refused
from producers.web.settings import WebSettings


def check_places(settings: WebSettings, uris: Iterable[str], where: Sequence[str | int] = ("images",)) -> None:
    """Refuses what the server does not allow. Raises RequestValidationError."""
    faults = [
        {"type": "place", "loc": ("body", *where, index), "msg": why}
        for index, uri in enumerate(uris)
        if (why := refused(settings, uri))
    ]
    if faults:
        raise RequestValidationError(faults)
