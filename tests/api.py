"""The API in a test: its app on a database, and clients with tokens."""

import os
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from fastapi import FastAPI
from fastapi.testclient import TestClient

from producers.reviews import add_reviewer
from producers.scans import Listing
from producers.tokens import Wanted, add_token
from producers.web.api.app import create_api
from producers.web.api.scans import Look
from tests.desk import parts
from worker.database import Database
from worker.tables import Scope


@dataclass
class Started:
    """A ScanPublisher that starts nothing. It only remembers the scans."""

    scans: list[UUID] = field(default_factory=list)

    def start(self, scan_id: UUID) -> None:
        """See producers.web.api.scans.ScanPublisher."""
        self.scans.append(scan_id)


def nothing_seen(_listing: Listing) -> None:
    """A Look for which every source exists."""


def mounted(
    database: Database,
    *,
    publisher: Started | None = None,
    look: Look = nothing_seen,
    **changes: Any,
) -> FastAPI:
    """The API as the web process mounts it. `changes` replaces some of its parts."""
    app = FastAPI(openapi_url=None)
    app.mount("/v1", create_api(parts(database, **changes), publisher=publisher or Started(), look=look))
    return app


def token_for(database: Database, *scopes: Scope, reviewer: str = "heron", name: str | None = None) -> str:
    """Makes a token with these scopes. A token with the scope review belongs to this reviewer."""
    author = None
    if Scope.REVIEW in scopes:
        add_reviewer(database, reviewer)
        author = reviewer
    return add_token(database, Wanted(name or os.urandom(8).hex(), scopes, author))


def program(app: FastAPI, token: str | None = None) -> TestClient:
    """A client of the API with a token.

    An error within the app is an answer with a status code, as for a real client.
    """
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return TestClient(app, base_url="http://api.test/v1", headers=headers, raise_server_exceptions=False)


def allowed(database: Database, *scopes: Scope, **changes: Any) -> TestClient:
    """A client with a token of these scopes, or of all scopes if none are given."""
    return program(mounted(database, **changes), token_for(database, *(scopes or Scope)))
