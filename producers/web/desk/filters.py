"""The filters of the queue, as they stand in an address."""

from typing import Annotated
from urllib.parse import urlencode
from uuid import UUID

from fastapi import Depends, Query
from pydantic import Field, TypeAdapter

from producers.near import near_duplicates
from producers.web.access.people import AReviewer
from producers.web.desk.queue import Filters
from producers.web.parts import AParts, Parts
from worker.errors import UsageError
from worker.messages import Text
from worker.tables import Verdict

_SHA256 = r"^[0-9a-f]{64}$"
_ROW_ID = TypeAdapter(Annotated[int, Field(ge=1, lt=2**63)])


class Asked:
    """What an address asks for: filters, and the query that carries them to the next page."""

    def __init__(
        self,
        _person: AReviewer,  # first, so that nothing is looked up for a person who is not logged in
        parts: AParts,
        scan: Annotated[Text, Query(max_length=36)] = "",
        bucket: Annotated[Text, Query(max_length=255)] = "",
        detector: Annotated[Text, Query(max_length=20)] = "",
        verdict: Annotated[Text, Query(max_length=10)] = "",
        external_id: Annotated[Text, Query(max_length=1024)] = "",
        differ: Annotated[str, Query(pattern="^(yes)?$")] = "",
        near: Annotated[str, Query(pattern=f"^$|{_SHA256}")] = "",
    ) -> None:
        self.near = near
        given = {
            "scan": scan, "bucket": bucket, "detector": detector, "verdict": verdict, "external_id": external_id,
            "differ": differ, "near": near,
        }  # fmt: skip
        self._given = {name: value for name, value in given.items() if value}
        try:
            self.filters = Filters(
                scan_id=UUID(scan) if scan else None,
                bucket=bucket or None,
                detector_id=_ROW_ID.validate_python(detector) if detector else None,
                verdict=Verdict(verdict) if verdict else None,
                external_id=external_id or None,
                differ=True if differ else None,
                contents=_near(parts, near) if near else None,
            )
        except ValueError:
            raise UsageError("this address has a filter that cannot be: choose the filters again") from None

    def query(self, **more: str) -> str:
        """Returns the query of an address with the same filters, with its question mark, or an empty text if there
        are none.
        """
        given = self._given | more
        return f"?{urlencode(given)}" if given else ""


def _near(parts: Parts, sha256: str) -> tuple[str, ...]:
    return (sha256, *(one.sha256 for one in near_duplicates(parts.database, sha256)))


AskedFor = Annotated[Asked, Depends(Asked)]
