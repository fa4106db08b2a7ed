"""The S3 server of the demo, as a process: `python s3.py FD` serves moto on the listening socket FD until SIGTERM."""

import logging
import os
import resource
import sys

SPOOL_BYTES = 64 * 1024
"""Larger objects are in unlinked files in TMPDIR, not in memory: an archive of photos may have many gigabytes."""


def main() -> None:
    """Serves requests. Moto is imported here, because it reads its settings at import."""
    os.environ["MOTO_S3_DEFAULT_KEY_BUFFER_SIZE"] = str(SPOOL_BYTES)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # each larger object holds a descriptor
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # not one line per request

    from moto.moto_server.werkzeug_app import (  # noqa: PLC0415
        DomainDispatcherApplication,
        MotoRequestHandler,
        create_backend_app,
    )
    from werkzeug.serving import make_server  # noqa: PLC0415

    MotoRequestHandler.protocol_version = "HTTP/1.1"  # connections stay open, as with the real S3
    app = DomainDispatcherApplication(create_backend_app)
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=MotoRequestHandler, fd=int(sys.argv[1]))
    server.serve_forever()


if __name__ == "__main__":
    main()
