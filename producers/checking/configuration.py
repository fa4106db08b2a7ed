"""Whether the settings can be read, and what they name on this machine."""

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from producers.checking.rows import Check, Process, Row, Subject, ok, skipped, warning, wrong
from producers.web.settings import WebSettings

_READS_FOLDERS = frozenset({Process.WORKER, Process.PRODUCER, Process.WEB})


def _settings(subject: Subject) -> Iterator[Row]:
    from worker.secret_files import secret_fields

    names = {*secret_fields(type(subject.settings)).values(), *secret_fields(WebSettings).values()}
    files = sorted(name for name in names if subject.environment.get(f"{name}_FILE"))
    folder = subject.settings.secrets_dir
    places = [*files, *([f"the folder {folder}"] if folder else [])]
    yield ok("all can be read" + (f"; secrets come from the files of {', '.join(places)}" if places else ""))


def _variables(subject: Subject) -> Iterator[Row]:
    from worker.variables import names_of, unknown_variables

    unknown = unknown_variables(subject.environment, names_of(type(subject.settings)) | names_of(WebSettings))
    if unknown:
        yield warning(unknown, "correct the name of the variable, or remove it")
    else:
        yield ok("all FAKESWEEP_ variables are settings")


def _sentry(subject: Subject) -> Iterator[Row]:
    from sentry_sdk.utils import BadDsn, Dsn

    dsn = subject.settings.sentry_dsn.get_secret_value()
    if not dsn:
        yield skipped("SENTRY_DSN is not set")
        return
    try:
        parsed = Dsn(dsn)
    except BadDsn as error:
        yield wrong(f"SENTRY_DSN is not valid: {error}", "set it as Sentry shows it")
    else:
        yield ok(f"project {parsed.project_id} at {parsed.host}")


def _folders(subject: Subject) -> Iterator[Row]:
    folders = subject.settings.allowed_folders
    if not folders:
        yield skipped("FAKESWEEP_ALLOWED_FOLDERS is not set: workers may read every folder")
    for folder in folders:
        path = Path(folder)
        if not path.is_dir():
            yield wrong("is not a folder here", "correct FAKESWEEP_ALLOWED_FOLDERS, or mount the folder", folder)
        elif not os.access(path, os.R_OK | os.X_OK, effective_ids=True):
            yield wrong("cannot be read by this user", "give the user of this process the right to read it", folder)
        else:
            yield ok("can be read", folder)


def _nightly(subject: Subject) -> Iterator[Row]:
    from producers.nightly.schedule import load

    scans = load(subject.settings.nightly)
    yield ok(f"{subject.settings.nightly}: {', '.join(scans)}; times in {subject.settings.timezone}")


def _provenance(subject: Subject) -> Iterator[Row]:
    from worker.provenance.trust import trust_lists

    lists = trust_lists(subject.settings.trust_list)
    names = [f"{one.certificates.count('BEGIN CERTIFICATE')} of {one.name}" for one in lists]
    if find_spec("c2pa") is None:
        yield warning("what files say about their origin is not read", "pip install 'fakesweep[provenance]'")
    else:
        yield ok(f"certificates: {', '.join(names)}" if names else "no trust list: no signer is trusted or refused")


CHECKS = (
    Check("settings", _settings, "correct the variable", after=None),
    Check("variables", _variables, "correct the name of the variable"),
    Check("sentry", _sentry, "set SENTRY_DSN as Sentry shows it"),
    Check("allowed folder", _folders, "check FAKESWEEP_ALLOWED_FOLDERS", needed_by=_READS_FOLDERS),
    Check("provenance", _provenance, "correct FAKESWEEP_TRUST_LIST", needed_by=frozenset({Process.WORKER})),
    Check(
        "nightly file",
        _nightly,
        "correct the file that FAKESWEEP_NIGHTLY names",
        needed_by=frozenset({Process.NIGHTLY}),
    ),
)
