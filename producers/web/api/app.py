"""The API as a separate app, which the web process mounts at /v1."""

from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute

from producers.web.api import contents, health, reviews, scans, submissions
from producers.web.api.caller import Rate
from producers.web.api.guards import Guards
from producers.web.api.problems import Problem, add_problems
from producers.web.api.waiting import Waiting
from producers.web.parts import Parts

DESCRIPTION = """Submit images, follow scans, read findings, write reviews.

Requests carry a token: `Authorization: Bearer fakesweep_…`. Errors are problems (RFC 9457). Unknown fields and
parameters are refused. Lists come in pages: follow `next`, or the header Link. Fields may be added to answers, and
reason codes may be new; nothing else changes within version 1."""


class Api(FastAPI):
    """A FastAPI app whose description shows errors as problems."""

    def openapi(self) -> dict[str, Any]:
        """See FastAPI."""
        described = super().openapi()
        schemas = described["components"]["schemas"]
        if "Problem" not in schemas:
            shape = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas.update(shape.pop("$defs", {}))
            schemas["Problem"] = shape
            for unused in ("HTTPValidationError", "ValidationError"):
                schemas.pop(unused, None)
        return described


def create_api(
    parts: Parts, *, publisher: scans.ScanPublisher | None = None, look: scans.Look = scans.look_at_source
) -> FastAPI:
    """Makes the API.

    `publisher` lists scans that are started or resumed. Without one, `parts.scans` does it. `look` checks that a source
    exists.
    """
    api = Api(
        title="Fakesweep",
        version="1",
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=_name_of,
        separate_input_output_schemas=False,
    )
    api.state.parts = parts
    api.state.rate = Rate(parts.settings.api_rate_per_minute)
    api.state.waiting = Waiting(parts.database)
    api.state.submissions = submissions.replays(parts)
    api.state.checks = health.Checks(parts.database, parts.broker)
    api.state.publisher = publisher or parts.scans
    api.state.look = look
    add_problems(api)
    api.add_middleware(Guards, max_bytes=parts.settings.api_max_body_bytes)
    for module in (submissions, scans, contents, reviews, health):
        api.include_router(module.router)
    return api


def _name_of(route: APIRoute) -> str:
    return route.name
