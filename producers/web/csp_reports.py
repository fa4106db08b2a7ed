"""Receives browsers' reports about what the Content-Security-Policy blocked, counts them and logs them."""

import time
from threading import Lock
from typing import Annotated

import structlog
from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

log = structlog.get_logger(__name__)

PATH = "/csp-report"
MOST_BYTES = 8192
_A_MINUTE, _MINUTE_S = 20, 60.0
"""How many reports are logged in a minute. Anybody may send them."""

router = APIRouter(include_in_schema=False)


class Reports:
    """Counts the reports, and knows which of them are still to be logged."""

    def __init__(self) -> None:
        self.count = 0
        self._lock = Lock()
        self._minute, self._logged = 0.0, 0

    def add(self, report: str) -> None:
        """Counts a report, and logs it unless there were too many."""
        with self._lock:
            self.count += 1
            if time.monotonic() - self._minute > _MINUTE_S:
                self._minute, self._logged = time.monotonic(), 0
            self._logged += 1
            is_logged = self._logged <= _A_MINUTE
        if is_logged:
            log.warning("csp_violation", report=report)


def reports_of(request: Request) -> Reports:
    """The reports of the app that answers: for FastAPI's Depends."""
    found: Reports = request.app.state.csp_reports
    return found


@router.post(PATH)
async def take(request: Request, reports: Annotated[Reports, Depends(reports_of)]) -> Response:
    """Takes a report. It needs no token: browsers send none, and it changes nothing."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MOST_BYTES:
            return Response(status_code=413)
    reports.add(body.decode(errors="replace"))
    return Response(status_code=204)
