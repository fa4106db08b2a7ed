"""Whether the web process can start: its settings, its login, its reason codes."""

from collections.abc import Iterator
from importlib.util import find_spec

from producers.checking.rows import Check, Process, Row, Subject, ok, warning, wrong
from producers.web.settings import LoginKind

_WEB = frozenset({Process.WEB})


def _settings(subject: Subject) -> Iterator[Row]:
    subject.web.check()
    yield ok(
        f"a secret of {len(subject.web.secret.get_secret_value())} characters; it listens on port {subject.web.port}"
    )


def _login(subject: Subject) -> Iterator[Row]:
    own = subject.web
    match own.login:
        case LoginKind.DEMO:
            yield warning("demo: everybody on this machine may come in", "set FAKESWEEP_WEB_LOGIN to oidc or proxy")
        case LoginKind.PROXY:
            yield ok(f"proxy: a proxy says in {own.proxy_header} who comes in")
        case LoginKind.OIDC:
            secret = (
                "a client secret" if own.oidc_client_secret.get_secret_value() else "a public client without secret"
            )
            yield ok(f"oidc: {own.oidc_issuer}, client {own.oidc_client_id}, {secret}")


def _reasons(subject: Subject) -> Iterator[Row]:
    from producers.web.reasons import read_reasons

    path = subject.web.reasons
    yield ok(f"{len(read_reasons(path).all)} in {path or 'the file that comes with Fakesweep'}")


def _packages(_: Subject) -> Iterator[Row]:
    yield installed("web", "fastapi", "uvicorn", "authlib")


def installed(extra: str, *packages: str) -> Row:
    """Says whether the packages of an extra can be imported."""
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        return wrong(f"not installed: {', '.join(missing)}", f"pip install 'fakesweep[{extra}]'")
    return ok("all are installed")


CHECKS = (
    Check("web settings", _settings, "correct the variable (docs/review-desk.md)", needed_by=_WEB),
    Check("web login", _login, "correct the variable (docs/review-desk.md)", "web settings", _WEB),
    Check("web reasons", _reasons, "correct the file that FAKESWEEP_WEB_REASONS names", "web settings", _WEB),
    Check("web packages", _packages, "pip install 'fakesweep[web]'", None, _WEB),
)
