"""GET /pictures/…: answers with the picture that an address names, or with a picture of the reason why there is
none.
"""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from producers.web.access.people import AReviewer
from producers.web.parts import AParts
from producers.web.pictures.addresses import PATH, read
from producers.web.pictures.fetching import Pictures
from producers.web.pictures.reasons import BUSY, EXPIRED, UNKNOWN, drawn, status_of
from worker.errors import BusyError, ExpiredAddressError, ImageError, Reason, TransientError, WrongAddressError

router = APIRouter(include_in_schema=False)

_JPEG = "image/jpeg"


def pictures_of(request: Request) -> Pictures:
    """The pictures of the app that answers: for FastAPI's Depends."""
    found: Pictures = request.app.state.pictures
    return found


@router.get(PATH + "{signed}")
async def picture(
    signed: str,
    person: AReviewer,
    parts: AParts,
    pictures: Annotated[Pictures, Depends(pictures_of)],
) -> Response:
    """Shows a content to the person for whom the address was made. If it cannot be shown, `X-Reason` says why."""
    try:
        wanted = read(parts, person, signed)
        made = await pictures.show(wanted.sha256, wanted.uri)
    except WrongAddressError:
        return _instead(UNKNOWN)
    except ExpiredAddressError:
        return _instead(EXPIRED)
    except BusyError:
        return _instead(BUSY)
    except ImageError as error:
        return _instead(error.reason)
    except TransientError:
        return _instead(Reason.STORAGE_UNAVAILABLE)
    # The browser may keep it as long as the address works, so that a picture that was loaded before is shown at once.
    kept = {"Cache-Control": f"private, max-age={parts.settings.picture_ttl_s}"}
    return Response(made.forms[wanted.kind], media_type=_JPEG, headers=kept)


def _instead(reason: str) -> Response:
    headers = {"X-Reason": reason, "Cache-Control": "no-store"}
    return Response(drawn(reason), status_code=status_of(reason), media_type=_JPEG, headers=headers)
