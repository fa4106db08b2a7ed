"""Submissions: images for which somebody waits."""

import hashlib
import json
from datetime import timedelta
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from producers import submissions
from producers.reporting import results
from producers.web.api.caller import ACaller, Caller, needs
from producers.web.api.findings import DESCRIBED, Filters, FindingPage, Wanted, findings_answer, known_scan, read
from producers.web.api.guards import GuardedRoute
from producers.web.api.models import Counted, Finding, SubmittedImage, WithPolicy, strictly
from producers.web.api.places import check_places
from producers.web.api.problems import answers
from producers.web.api.waiting import Prefer, Waiting, applied, seconds_of, waiting_of
from producers.web.parts import AParts, Parts
from worker.messages import ImageRef, Policy
from worker.tables import Scope

router = APIRouter(route_class=GuardedRoute, tags=["submissions"])

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern="^[!-~]+$",
        min_length=1,
        max_length=255,
        description="A text of your own, best a UUID. If you repeat the request with the same key, there is no "
        "second submission. The key is kept for 24 hours, unless the server is set otherwise.",
        examples=["5d2c6e9c-9c40-4d6b-8a6c-3d9e4f0f3a11"],
    ),
]


class Submit(WithPolicy):
    """Images to judge ahead of every scan."""

    images: list[SubmittedImage] = Field(
        min_length=1, description="Each uri once. The server sets how many at most; 1,000 unless it says otherwise."
    )
    judge: bool = Field(
        False, description="If the detector is a cascade, its judge sees every image: the first stage clears none."
    )

    def policy(self) -> Policy:
        """Returns the policy for the submission."""
        return super().policy().model_copy(update={"judge": self.judge})


def request_sha256(body: Submit) -> str:
    """Returns the SHA-256 of what a request asks for, in hexadecimal.

    A newer field that is not set is left out: otherwise a key of the release before would belong to another request.
    """
    unset = {name for name in ("judge", "also") if not getattr(body, name)}
    asked = json.dumps(body.model_dump(mode="json", exclude=unset), sort_keys=True)
    return hashlib.sha256(asked.encode()).hexdigest()


class Submission(Counted):
    """A submission."""

    findings: list[Finding] | None = Field(description="All findings, when you waited and it has ended; else null.")


_LOCATED = {
    "Location": {"description": "Where to ask for the submission.", "schema": {"type": "string"}},
    "Preference-Applied": {"description": "The longest time that it waited.", "schema": {"type": "string"}},
    "Idempotent-Replayed": {"description": "true: an earlier request made it.", "schema": {"type": "string"}},
}


def replays(parts: Parts) -> submissions.Submissions:
    """Takes submissions with idempotency keys."""
    keep = timedelta(hours=parts.settings.api_key_hours)
    return submissions.Submissions(parts.broker, parts.database, keep=keep)


@router.post(
    "/submissions",
    status_code=202,
    dependencies=[needs(Scope.SUBMIT)],
    responses={
        200: {"model": Submission, "description": "It has ended while you waited.", "headers": _LOCATED},
        202: {"description": "It is taken. Ask for it at Location.", "headers": _LOCATED},
        **answers(409, 415),
    },
)
async def submit_images(
    request: Request,
    response: Response,
    body: Submit,
    caller: ACaller,
    parts: AParts,
    waiting: Annotated[Waiting, Depends(waiting_of)],
    idempotency_key: IdempotencyKey = None,
    prefer: Prefer = None,
) -> Submission:
    """Submit images. With `Prefer: wait=30` the answer has the findings, if they are there within this time."""
    _check(parts, body)
    made = await run_in_threadpool(_submit, request, parts, caller, body, idempotency_key)
    wait_s = seconds_of(prefer, parts.settings.api_max_wait_s)
    await waiting.until_ended(made.scan_id, wait_s)
    found = await run_in_threadpool(_submission, parts, made.scan_id, with_findings=wait_s > 0)
    response.status_code = 200 if found.findings is not None else 202
    response.headers["Location"] = f"{request.scope['root_path']}/submissions/{made.scan_id}"
    response.headers.update(applied(wait_s) | ({"Idempotent-Replayed": "true"} if made.replayed else {}))
    return found


def _check(parts: Parts, body: Submit) -> None:
    most, uris = parts.settings.api_max_images, [image.uri for image in body.images]
    said = f"{most} images at most" if len(uris) > most else "names a uri twice" if len(set(uris)) < len(uris) else None
    if said:
        raise RequestValidationError([{"type": "images", "loc": ("body", "images"), "msg": said}])
    check_places(parts.settings, uris)


def _submit(
    request: Request, parts: Parts, caller: Caller, body: Submit, idempotency_key: str | None
) -> submissions.Submitted:
    refs = [ImageRef.model_validate(image.model_dump()) for image in body.images]
    if idempotency_key is None:
        return submissions.Submitted(
            submissions.submit(parts.broker, parts.database, refs, policy=body.policy(), source="API")
        )
    key = submissions.Key(caller.token_id, idempotency_key, request_sha256(body))
    taking: submissions.Submissions = request.app.state.submissions
    return taking.submit(refs, key, policy=body.policy())


def _submission(parts: Parts, scan_id: UUID, *, with_findings: bool) -> Submission:
    scan = known_scan(parts.database, scan_id, "live")
    shown: dict[str, Any] = strictly(Counted, results.counts(scan) | {"id": scan.id})
    findings = None
    if with_findings and scan.finished_at is not None and scan.dropped_at is None:
        rows = read(parts.database, scan, Filters(), None, scan.listed)
        findings = [Finding.model_validate(strictly(Finding, row)) for row in rows]
    return Submission.model_validate(shown | {"findings": findings})


@router.get(
    "/submissions/{submission_id}",
    dependencies=[needs(Scope.READ)],
    responses=answers(404),
)
async def get_submission(
    response: Response,
    submission_id: UUID,
    parts: AParts,
    waiting: Annotated[Waiting, Depends(waiting_of)],
    prefer: Prefer = None,
) -> Submission:
    """How far a submission is. With `Prefer: wait=30` it waits until the submission has ended, and has the findings."""
    await run_in_threadpool(known_scan, parts.database, submission_id, "live")
    wait_s = seconds_of(prefer, parts.settings.api_max_wait_s)
    await waiting.until_ended(submission_id, wait_s)
    response.headers.update(applied(wait_s))
    return await run_in_threadpool(_submission, parts, submission_id, with_findings=wait_s > 0)


@router.get(
    "/submissions/{submission_id}/findings",
    response_model=FindingPage,
    dependencies=[needs(Scope.READ)],
    responses=DESCRIBED,
)
def get_submission_findings(
    request: Request, response: Response, submission_id: UUID, parts: AParts, asked: Annotated[Wanted, Depends()]
) -> Any:
    """The findings of a submission so far."""
    scan = known_scan(parts.database, submission_id, "live")
    return findings_answer(request, response, parts.database, scan, asked)
