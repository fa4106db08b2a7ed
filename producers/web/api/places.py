"""Which buckets and folders a client may name."""

import os
from collections.abc import Iterable, Sequence

from fastapi.exceptions import RequestValidationError

from producers.web.settings import WebSettings
from worker.files import local_path


def check_places(settings: WebSettings, uris: Iterable[str], where: Sequence[str | int] = ("images",)) -> None:
    """Refuses what the server does not allow. Raises RequestValidationError.

    Without allowed folders there are no local files for clients: else a token would read the workers' disks.
    """
    faults = [
        {"type": "place", "loc": ("body", *where, index), "msg": why}
        for index, uri in enumerate(uris)
        if (why := _refused(settings, uri))
    ]
    if faults:
        raise RequestValidationError(faults)


def _refused(settings: WebSettings, uri: str) -> str | None:
    if uri.startswith("s3://"):
        bucket = uri.removeprefix("s3://").partition("/")[0]
        if settings.allowed_buckets and bucket not in settings.allowed_buckets:
            return "the bucket is not one of those that this server allows"
        return None
    if not settings.allowed_folders:
        return "this server allows no local files: name an object, s3://bucket/key"
    # Workers look again, where symbolic links lead too.
    path = os.path.normpath(os.fsencode(local_path(uri)))
    folders = [os.fsencode(folder) for folder in settings.allowed_folders]
    if any(path == folder or path.startswith(folder.rstrip(b"/") + b"/") for folder in folders):
        return None
    return "the file is in no folder that this server allows"
