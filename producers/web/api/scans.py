"""Endpoints for scans."""

from collections.abc import Callable
from typing import Annotated, Any, Protocol
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response
from sqlalchemy import select, tuple_
from sqlmodel import col

from producers import scans, sources
from producers.limits import Limits
from producers.listing import Rules
from producers.web.api.caller import ACaller, ActingParts, Caller, needs
from producers.web.api.findings import DESCRIBED, FindingPage, Wanted, findings_answer, known_scan
from producers.web.api.guards import GuardedRoute
from producers.web.api.paging import LINKED, PAGE, Limit, link, next_page
from producers.web.api.places import check_places
from producers.web.api.problems import answers
from producers.web.api.scan_models import ResumeScan, ScanPage, ScanShown, StartScan, shown
from producers.web.parts import AParts
from worker.database import transaction
from worker.tables import Scan, ScanStatus, Scope

router = APIRouter(route_class=GuardedRoute, tags=["scans"])


class ScanPublisher(Protocol):
    """Lists scans and publishes their images, in separate processes."""

    def start(self, scan_id: UUID) -> None:
        """Continues the scan's listing, and returns at once."""


Look = Callable[[scans.Listing], None]
"""Checks that a source exists. Raises SourceError."""


def look_at_source(listing: scans.Listing) -> None:
    """A Look that asks S3 or the file system."""
    sources.open_source(listing.sources, listing.rules, lambda _line: None)


@router.get(
    "/scans",
    dependencies=[needs(Scope.READ)],
    responses={200: LINKED, **answers(404)},
)
def list_scans(
    request: Request,
    response: Response,
    parts: AParts,
    after: Annotated[UUID | None, Query(description="Only scans that are older than this one.")] = None,
    status: Annotated[ScanStatus | None, Query(description="Only scans in this status.")] = None,
    limit: Limit = PAGE,
) -> ScanPage:
    """All scans, the newest first."""
    order = (col(Scan.created_at), col(Scan.id))
    query = select(Scan).where(col(Scan.kind) == "scan").order_by(*(one.desc() for one in order)).limit(limit + 1)
    if status is not None:
        query = query.where(col(Scan.status) == status)
    if after is not None:
        last = known_scan(parts.database, after, "scan")
        query = query.where(tuple_(*order) < tuple_(last.created_at, last.id))
    with transaction(parts.database) as session:
        rows = list(session.execute(query).scalars())
    address = next_page(request, after=rows[limit - 1].id) if len(rows) > limit else None
    link(response, address)
    return ScanPage(items=[shown(scan) for scan in rows[:limit]], next=address)


@router.post(
    "/scans",
    status_code=201,
    dependencies=[needs(Scope.SCAN)],
    responses={
        201: {
            "description": "It is started, and is listed in a process of its own.",
            "headers": {"Location": {"description": "Where to ask for the scan.", "schema": {"type": "string"}}},
        },
        **answers(409, 415),
    },
)
def start_scan(request: Request, response: Response, body: StartScan, caller: ACaller, parts: ActingParts) -> ScanShown:
    """Start a scan."""
    rules = Rules(suffixes=tuple(body.suffixes), min_bytes=body.min_bytes, max_bytes=body.max_bytes)
    check_places(parts.settings, body.sources, where=("sources",))
    listing = scans.Listing(sources=tuple(map(sources.absolute, body.sources)), rules=rules)
    check_places(parts.settings, listing.sources, where=("sources",))  # where the link leads
    look: Look = request.app.state.look
    look(listing)
    scan = scans.start_scan(
        parts.database, listing, name=body.name, token=_own(caller, body.token), policy=body.policy(),
        rejudge=body.rejudge, record=body.record, limits=Limits(body.max_flagged_share, body.max_failed_share),
    )  # fmt: skip
    scans.check_same(scan, listing, body.policy(), rejudge=body.rejudge, record=body.record)
    _go_on(request, scan)
    response.headers["Location"] = f"{request.scope['root_path']}/scans/{scan.id}"
    return shown(scan)


def _own(caller: Caller, token: str | None) -> str | None:
    """Returns a token that cannot name a scan of a nightly schedule, of the desk or of another program."""
    return None if token is None else f"api-{caller.token_id}-{token}"


def _go_on(request: Request, scan: Scan) -> None:
    if scan.status in {ScanStatus.LISTING, ScanStatus.REPAIRING, ScanStatus.RUNNING}:
        publisher: ScanPublisher = request.app.state.publisher
        publisher.start(scan.id)


@router.get("/scans/{scan_id}", dependencies=[needs(Scope.READ)], responses=answers(404))
def get_scan(scan_id: UUID, parts: AParts) -> ScanShown:
    """How far a scan is."""
    return shown(known_scan(parts.database, scan_id, "scan"))


@router.post("/scans/{scan_id}/pause", dependencies=[needs(Scope.SCAN)], responses=answers(404, 409))
def pause_scan(scan_id: UUID, parts: ActingParts) -> ScanShown:
    """Pause a scan: no more of its images are published or judged until it is resumed."""
    known_scan(parts.database, scan_id, "scan")
    scans.pause(parts.database, scan_id, "paused by a program")
    return shown(known_scan(parts.database, scan_id, "scan"))


@router.post(
    "/scans/{scan_id}/resume",
    dependencies=[needs(Scope.SCAN)],
    responses=answers(404, 409, 415),
)
def resume_scan(request: Request, scan_id: UUID, parts: ActingParts, body: ResumeScan | None = None) -> ScanShown:
    """Continue a scan, after a pause or after its producer was killed."""
    known_scan(parts.database, scan_id, "scan")
    limits = body or ResumeScan()
    scans.resume(
        parts.database, scan_id, max_flagged_share=limits.max_flagged_share, max_failed_share=limits.max_failed_share
    )
    scan = known_scan(parts.database, scan_id, "scan")
    _go_on(request, scan)
    return shown(scan)


@router.post("/scans/{scan_id}/cancel", dependencies=[needs(Scope.SCAN)], responses=answers(404, 409))
def cancel_scan(scan_id: UUID, parts: ActingParts) -> ScanShown:
    """Cancel a scan, which cannot be undone. Its findings stay."""
    known_scan(parts.database, scan_id, "scan")
    scans.cancel(parts.database, scan_id)
    return shown(known_scan(parts.database, scan_id, "scan"))


@router.get(
    "/scans/{scan_id}/findings",
    response_model=FindingPage,
    dependencies=[needs(Scope.READ)],
    responses=DESCRIBED,
)
def get_scan_findings(
    request: Request, response: Response, scan_id: UUID, parts: AParts, asked: Annotated[Wanted, Depends()]
) -> Any:
    """The findings of a scan so far, by uri."""
    scan = known_scan(parts.database, scan_id, "scan")
    return findings_answer(request, response, parts.database, scan, asked)
