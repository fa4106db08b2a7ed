"""Serves our static files from memory. They are few, and must be served even while all threads wait for the
database.
"""

import hashlib
import mimetypes
from pathlib import Path

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.staticfiles import NotModifiedResponse, StaticFiles
from starlette.types import Scope


class KeptFiles(StaticFiles):
    """Serves the files of a folder, as they were at start."""

    def __init__(self, folder: str) -> None:
        super().__init__(directory=folder)
        self.config_checked = True  # the check would need a thread
        self._kept = {path.name: _answer(path) for path in Path(folder).iterdir() if path.is_file()}

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Returns the file, or the answer that the browser already has it. Raises HTTPException."""
        if scope["method"] not in {"GET", "HEAD"}:
            raise HTTPException(405)
        if path not in self._kept:
            raise HTTPException(404)
        body, headers = self._kept[path]
        answer = Response(body, headers=headers)
        if self.is_not_modified(answer.headers, Headers(scope=scope)):
            return NotModifiedResponse(answer.headers)
        return answer


def _answer(path: Path) -> tuple[bytes, dict[str, str]]:
    body = path.read_bytes()
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    if kind.startswith("text/"):
        kind += "; charset=utf-8"
    return body, {"Content-Type": kind, "ETag": f'"{hashlib.sha256(body).hexdigest()[:32]}"'}
