"""Which buckets and folders a request may name. This applies to programs and to people."""

import os

from producers.web.settings import WebSettings
from worker.files import local_path


def refused(settings: WebSettings, uri: str) -> str | None:
    """Returns why the server does not allow this uri, or None if it does.

    Without allowed folders, requests cannot name local files. Otherwise anybody with a token could read the workers'
    disks.
    """
    if uri.startswith("s3://"):
        bucket = uri.removeprefix("s3://").partition("/")[0]
        if settings.allowed_buckets and bucket not in settings.allowed_buckets:
            return "the bucket is not one of those that this server allows"
        return None
    if not settings.allowed_folders:
        return "this server allows no local files: name an object, s3://bucket/key"
    # Workers check again, and also follow symbolic links.
    path = os.path.normpath(os.fsencode(local_path(uri)))
    folders = [os.fsencode(folder) for folder in settings.allowed_folders]
    if any(path == folder or path.startswith(folder.rstrip(b"/") + b"/") for folder in folders):
        return None
    return "the file is in no folder that this server allows"
