"""The commands for audit packages."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from producers.commands.completion import complete_scan
from producers.commands.options import Json, environment, needs_extra, open_database, print_json, time_of, uri_of
from worker.errors import PackageDoubtError, UsageError

if TYPE_CHECKING:
    from producers.audit.selection import Selection
    from producers.audit.signing import Signer
    from worker.database import Database

app = typer.Typer()
audit = typer.Typer(no_args_is_help=True)
app.add_typer(
    audit,
    name="audit",
    help="Build and verify audit packages: what was decided, by whom and under which rules, signed.",
)

After = Annotated[
    Path | None, typer.Option(metavar="PACKAGE", exists=True, dir_okay=False, help="The package before this one.")
]


@audit.command()
def key(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The private key; FILE.pub is the public one.")],
) -> None:
    """Make a pair of keys (Ed25519). Keep FILE secret, and give FILE.pub to those who verify."""
    try:
        from producers.audit.signing import make_key
    except ImportError as error:
        raise needs_extra("audit", error) from None
    typer.echo(make_key(file))


@audit.command()
def build(
    output: Annotated[Path, typer.Option(metavar="FILE", help="The package to write, a zip.")],
    scan: Annotated[
        str | None,
        typer.Argument(
            metavar="[SCAN]",
            help="A scan's id, the first characters of it (4 or more), or its name.",
            autocompletion=complete_scan,
        ),
    ] = None,
    uri: Annotated[list[str] | None, typer.Option(help="What was found at this uri. Can be repeated.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="What was decided at this time or later (ISO 8601).")
    ] = None,
    key: Annotated[Path | None, typer.Option(metavar="FILE", help="The private key that signs (PEM, Ed25519).")] = None,
    signer: Annotated[
        str | None,
        typer.Option(
            metavar="COMMAND", help="A command that signs stdin and writes the signature. Needs --public-key."
        ),
    ] = None,
    public_key: Annotated[Path | None, typer.Option(metavar="FILE", help="The public key of --signer (PEM).")] = None,
    after: After = None,
    after_public_key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The public key (PEM) of the package before, if the key has changed since."),
    ] = None,
    evaluation: Annotated[
        list[Path] | None,
        typer.Option(metavar="PATH", exists=True, help="A folder of `fakesweep evaluate`, or a file. Can be repeated."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a package about SCAN, about --uri, or about what was decided --since a time.

    It holds findings, verdicts, detectors, policies, provenance, reviews and events, and is signed.
    """
    if [scan is not None, bool(uri), since is not None].count(True) != 1:
        raise UsageError("say what the package is about: SCAN, --uri or --since, and only one of them")
    try:
        from producers.audit.building import build as build_package
    except ImportError as error:
        raise needs_extra("audit", error) from None
    signing = _signer(key, signer, public_key)
    database = open_database(environment())
    before = _before(after, after_public_key, signing, output)
    selection = _selection(database, scan, uri, since)
    built = build_package(database, selection, signing, output, after=before, evaluations=evaluation or ())
    if as_json:
        print_json({"sha256": built.sha256, "rows": built.rows, "notes": list(built.notes)})
        return
    for note in built.notes:
        typer.echo(f"fakesweep: {note}", err=True)
    typer.echo(built.sha256)


@audit.command()
def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="The package.")],
    public_key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The public key (PEM) that must have signed it.")
    ] = None,
    any_key: Annotated[
        bool,
        typer.Option("--any-key", help="Use the key that the package names: then anybody can have signed."),
    ] = False,
    after: After = None,
    as_json: Json = False,
) -> None:
    """Check every byte of a package, offline. Name the first place of doubt, if there is one."""
    if (public_key is not None) == any_key:
        raise UsageError(
            "give either --public-key FILE with the key that must have signed, or --any-key to check only that nothing "
            "was changed since somebody signed"
        )
    try:
        from producers.audit.signing import public_key as read_key
        from producers.audit.verifying import verify as verify_package
    except ImportError as error:
        raise needs_extra("audit", error) from None
    verified = verify_package(file, read_key(public_key) if public_key else None, after)
    if as_json:
        found = {"sha256": verified.sha256, "keyid": verified.keyid, "key_given": not any_key, "files": verified.files}
        print_json({**verified.predicate, **found})  # `found` comes last: a package may say anything under these names
        return
    typer.echo(f"{file}: nothing was changed since the key {verified.keyid} signed it")
    if any_key:
        typer.echo(
            "fakesweep: the package itself names this key, so anybody can have signed: give --public-key", err=True
        )


def _signer(key: Path | None, command: str | None, public: Path | None) -> "Signer":
    from producers.audit.signing import public_key, signer_by, signer_with

    if (key is None) == (command is None):
        raise UsageError("say who signs: --key FILE or --signer COMMAND; `fakesweep audit key FILE` makes a key")
    if (command is None) != (public is None):
        raise UsageError("--signer and --public-key belong together")
    if key is not None:
        return signer_with(key)
    return signer_by(str(command), public_key(Path(str(public))))


def _before(after: Path | None, key: Path | None, signer: "Signer", output: Path) -> str | None:
    """Verifies the package before, and returns its SHA-256. It must be ours, because we sign that it came before."""
    from producers.audit.signing import public_key
    from producers.audit.verifying import verify as verify_package

    if after is None:
        if key is not None:
            raise UsageError("--after-public-key belongs to --after")
        return None
    if output.exists() and output.samefile(after):
        raise UsageError("--output would replace the package of --after: give another --output")
    try:
        return verify_package(after, public_key(key) if key else signer.public).sha256
    except PackageDoubtError as error:
        raise PackageDoubtError(
            f"--after {after}", str(error), "if the key has changed since, give --after-public-key"
        ) from None


def _selection(database: "Database", scan: str | None, uris: list[str] | None, since: str | None) -> "Selection":
    from producers.audit.selection import Selection
    from producers.scan_names import scan_named

    if scan is not None:
        return Selection(scan_id=scan_named(database, scan))
    return Selection(uris=tuple(map(uri_of, uris or ())), since=time_of(since, "--since"))
