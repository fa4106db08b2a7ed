"""The command for webhooks: it sends them, and looks after the endpoints that get them."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from producers.commands.options import (
    EXIT_FAILED,
    Json,
    Yes,
    confirm,
    environment,
    needs_extra,
    open_database,
    print_json,
    time_of,
)
from worker.errors import UsageError

if TYPE_CHECKING:
    from producers.webhooks.posting import Poster
    from worker.settings import Settings

app = typer.Typer()

SHOWN = 100
"""How many dead messages are shown."""


class Action(StrEnum):
    """What is done with webhooks."""

    SEND = "send"
    ADD = "add"
    LIST = "list"
    REMOVE = "remove"
    DEAD = "dead"
    REPLAY = "replay"
    TEST = "test"


_OPTIONS = {
    Action.ADD: {"url", "kind"},
    Action.LIST: {"as_json"},
    Action.REMOVE: {"yes"},
    Action.DEAD: {"as_json"},
    Action.REPLAY: {"message", "since"},
}
_FLAGS = {"url": "URL", "as_json": "--json"}
_WITHOUT_NAME, _WITH_OR_WITHOUT = {Action.SEND, Action.LIST}, {Action.DEAD}


@app.command()
def webhooks(
    action: Annotated[Action, typer.Argument(metavar="send|add|list|remove|dead|replay|test", help="What to do.")],
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="The endpoint's name.")] = None,
    url: Annotated[str | None, typer.Argument(metavar="[URL]", help="For add: where messages are sent.")] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(
            help="For add: finding.flagged, review.decided, scan.done, scan.paused or drift.alarm. Can be repeated."
        ),
    ] = None,
    message: Annotated[str | None, typer.Option(metavar="ID", help="For replay: this message alone.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="For replay: delivered messages, too, from this time on.")
    ] = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Send webhooks until SIGTERM, or look after the endpoints that get them.

    add prints the secret that signs the messages once. remove also deletes the endpoint's messages. dead shows messages
    that nobody tries to send any more, the newest first. replay sends an endpoint's dead messages again, and does not
    wait for the next attempt of the others. test sends one message at once, and shows what the receiver answers.
    """
    _check(action, name, {"url": url, "kind": kind, "message": message, "since": since, "yes": yes, "as_json": as_json})
    settings = environment()
    match action:
        case Action.SEND:
            _send(settings)
        case Action.ADD:
            _add(settings, str(name), str(url), kind or [])
        case Action.LIST:
            _list(settings, as_json=as_json)
        case Action.REMOVE:
            _remove(settings, str(name), yes=yes)
        case Action.DEAD:
            _dead(settings, name, as_json=as_json)
        case Action.REPLAY:
            _replay(settings, str(name), message, since)
        case Action.TEST:
            _test(settings, str(name))


def _check(action: Action, name: str | None, given: dict[str, Any]) -> None:
    if action not in _WITH_OR_WITHOUT and (action in _WITHOUT_NAME) != (name is None):
        raise UsageError(f"{action} takes no name" if name else f"{action} takes the name of an endpoint")
    if action is Action.ADD and not (given["url"] and given["kind"]):
        raise UsageError("add takes a name, a URL, and --kind for each kind of message")
    for option, value in given.items():
        if value and option not in _OPTIONS.get(action, set()):
            raise UsageError(f"{_FLAGS.get(option, f'--{option}')} does not belong to {action}")


def _poster(settings: "Settings") -> "Poster":
    from ipaddress import ip_network

    try:
        from producers.webhooks.posting import Poster
    except ImportError as error:
        raise needs_extra("webhooks", error) from error
    return Poster([ip_network(one) for one in settings.webhooks_networks])


def _send(settings: "Settings") -> None:
    poster = _poster(settings)
    from producers.webhooks.sender import CONNECTIONS, Sender
    from producers.webhooks.serving import pages_of
    from worker import endpoint, telemetry

    telemetry.configure_logging(settings)
    telemetry.init_sentry(settings)
    database = open_database(settings, pool_size=CONNECTIONS, process="webhooks")
    sender = Sender(database, poster, keep_days=settings.webhooks_keep_days)
    try:
        with endpoint.served(pages_of(sender), settings.webhooks_port, "FAKESWEEP_WEBHOOKS_PORT"):
            sender.run()
    finally:
        database.dispose()
        telemetry.flush()


def _add(settings: "Settings", name: str, url: str, kinds: Sequence[str]) -> None:
    poster = _poster(settings)
    from asyncio import run

    from producers.webhooks.addresses import place_of, resolve
    from producers.webhooks.endpoints import add_endpoint
    from worker.tables import WebhookKind

    unknown = [text for text in kinds if text not in set(WebhookKind)]
    if unknown:
        raise UsageError(f"--kind {unknown[0]}: give one of {', '.join(WebhookKind)}")
    place = place_of(url)
    try:
        run(resolve(place, poster.networks))
    except OSError as error:
        raise UsageError(f"{place.host} has no address here ({error.strerror}): check the name") from None
    typer.echo(add_endpoint(open_database(settings), name, url, [WebhookKind(text) for text in kinds]))


def _list(settings: "Settings", *, as_json: bool) -> None:
    from producers.reporting.progress import printable
    from producers.webhooks.endpoints import endpoints

    rows = endpoints(open_database(settings))
    if as_json:
        print_json({"endpoints": [_texts(row) for row in rows]})
        return
    for row in rows:
        state = "disabled (410 Gone)" if row["disabled_at"] else "enabled"
        counts = f"{row['waiting']} waiting  {row['dead']} dead"
        typer.echo(printable(f"{row['name']}  {state}  {counts}  {','.join(row['kinds'])}  {row['url']}"))


def _remove(settings: "Settings", name: str, *, yes: bool) -> None:
    from producers.webhooks import endpoints

    database = open_database(settings)
    endpoint_id, _ = endpoints.find_endpoint(database, name)
    left = endpoints.waiting(database, endpoint_id)
    confirm(f"This removes the endpoint {name}, and deletes its messages. {left} of them were not sent yet", yes=yes)
    endpoints.remove_endpoint(database, endpoint_id)


def _dead(settings: "Settings", name: str | None, *, as_json: bool) -> None:
    from producers.reporting.progress import printable
    from producers.webhooks import endpoints

    database = open_database(settings)
    endpoint_id = endpoints.find_endpoint(database, name)[0] if name else None
    rows = [_texts(row) for row in endpoints.dead_messages(database, endpoint_id, SHOWN)]
    if as_json:
        print_json({"dead": rows})
        return
    for row in rows:
        shown = (row[one] for one in ("created_at", "endpoint", "message_id", "kind", "subject", "answer"))
        typer.echo(printable("  ".join(map(str, shown))))


def _replay(settings: "Settings", name: str, message: str | None, since: str | None) -> None:
    from producers.webhooks import endpoints

    if message and since:
        raise UsageError("--message and --since do not go together")
    one, time = _id_of(message) if message else None, time_of(since, "--since")
    database = open_database(settings)
    endpoint_id, _ = endpoints.find_endpoint(database, name)
    replayed = endpoints.replay(database, endpoint_id, message=one, since=time)
    typer.echo(f"{replayed} {'message' if replayed == 1 else 'messages'} will be sent again")


def _id_of(text: str) -> UUID:
    try:
        return UUID(text.removeprefix("msg_"))
    except ValueError:
        raise UsageError(f"--message {text!r}: give an id as fakesweep webhooks dead prints it") from None


def _test(settings: "Settings", name: str) -> None:
    poster = _poster(settings)
    from producers.webhooks.endpoints import find_endpoint

    _, endpoint = find_endpoint(open_database(settings), name)
    answer = poster.test(endpoint)
    typer.echo(answer.said)
    if not answer.delivered:
        raise typer.Exit(EXIT_FAILED)


def _texts(row: dict[str, Any]) -> dict[str, Any]:
    return {key: _shown(value) for key, value in row.items()}


def _shown(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return value if isinstance(value, (int, list)) or value is None else str(value)
