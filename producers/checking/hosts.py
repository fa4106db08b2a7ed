"""Whether a server is on this machine, so that a connection to it needs no encryption."""

from producers.web.settings import is_loopback


def is_near(host: str | None) -> bool:
    """Says whether the host is this machine: a loopback address, a Unix socket, or no host at all."""
    return not host or host.startswith("/") or is_loopback(host)
