"""Signs messages and sends them to their receiver."""

import asyncio
import json
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any
from uuid import UUID, uuid4

import httpx2
from standardwebhooks import Webhook

from producers.webhooks.addresses import Network, place_of, resolve
from worker.errors import AddressRefusedError

TIMEOUT_S = 20.0
"""How long an attempt may take as a whole. The specification recommends 15 to 30 s."""
LONGEST_WAIT_S = 24 * 3600.0
"""The longest time that a receiver may ask for with Retry-After."""


@dataclass(frozen=True)
class Endpoint:
    """Where messages go, and what signs them."""

    name: str
    url: str
    secret: str = field(repr=False)


@dataclass(frozen=True)
class Message:
    """A message of the outbox, taken for its attempt number `attempts`, which begins with 1."""

    id: int
    message_id: UUID
    kind: str
    subject: str
    data: dict[str, Any]
    created_at: datetime
    attempts: int

    def body(self) -> str:
        """Returns the JSON text that is signed and sent. It changes only if `fakesweep forget` removes something."""
        at = self.created_at.astimezone(UTC).isoformat().replace("+00:00", "Z")
        body = {"type": self.kind, "timestamp": at, "data": self.data}
        return json.dumps(body, ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True)
class Answer:
    """What came of an attempt: `said` is the status, or why there is none. `gone`: the receiver wants nothing more."""

    said: str
    delivered: bool = False
    gone: bool = False
    retry_after_s: float = 0.0


@dataclass(frozen=True)
class Poster:
    """Sends messages. `networks` are those that are not public, and allowed. `trust` are the CAs for https."""

    networks: Sequence[Network] = ()
    trust: ssl.SSLContext = field(default_factory=ssl.create_default_context)
    timeout_s: float = TIMEOUT_S

    async def post(self, endpoint: Endpoint, messages: Sequence[Message]) -> list[Answer]:
        """Sends these messages at the same time, and returns an answer for each. It raises nothing.

        Redirects are not followed, and no proxy of the environment is used.
        """
        try:
            async with asyncio.timeout(self.timeout_s):
                addresses = await resolve(place_of(endpoint.url), self.networks)
        except Exception as error:  # noqa: BLE001 - whatever it is, no message was sent
            return [self._failed(error)] * len(messages)
        limits = limits_of(self.timeout_s, len(addresses))
        async with httpx2.AsyncClient(verify=self.trust, trust_env=False, timeout=limits) as client:
            return await asyncio.gather(*(self._one(client, endpoint, one, addresses) for one in messages))

    def test(self, endpoint: Endpoint) -> Answer:
        """Sends a message of the kind `fakesweep.test`, which is in no outbox, and returns the answer."""
        made = Message(0, uuid4(), "fakesweep.test", endpoint.name, {"endpoint": endpoint.name}, datetime.now(UTC), 1)
        return asyncio.run(self.post(endpoint, [made]))[0]

    async def _one(
        self, client: httpx2.AsyncClient, endpoint: Endpoint, message: Message, addresses: Sequence[str]
    ) -> Answer:
        try:
            async with asyncio.timeout(self.timeout_s):  # httpx2 limits each step, and not the whole
                return await _try_each(client, endpoint, message, addresses)
        except Exception as error:  # noqa: BLE001 - a message that cannot be sent must not stop the others
            return self._failed(error)

    def _failed(self, error: Exception) -> Answer:
        match error:
            case TimeoutError() | httpx2.TimeoutException():
                return Answer(f"no answer within {self.timeout_s:g} s")
            case AddressRefusedError():
                return Answer(str(error))
        said = f"{type(error).__name__}: {error}"[:300]
        return Answer("".join(one if one.isprintable() else "?" for one in said))  # Postgres stores no NUL


def limits_of(timeout_s: float, addresses: int) -> httpx2.Timeout:
    """Returns the limits of the steps of an attempt. If no address but the last one works, it still has its time."""
    return httpx2.Timeout(timeout_s, connect=timeout_s / (addresses + 1))


async def _try_each(
    client: httpx2.AsyncClient, endpoint: Endpoint, message: Message, addresses: Sequence[str]
) -> Answer:
    """Sends to the first address that accepts a connection."""
    *others, last = addresses
    for address in others:
        try:
            return await _send(client, endpoint, message, address)
        except (httpx2.ConnectError, httpx2.ConnectTimeout):
            continue
    return await _send(client, endpoint, message, last)


async def _send(client: httpx2.AsyncClient, endpoint: Endpoint, message: Message, address: str) -> Answer:
    """Sends to this address, with the name of the URL in the Host header and in TLS."""
    url = httpx2.URL(endpoint.url)
    host = url.raw_host.decode("ascii")
    request = client.build_request(
        "POST",
        url.copy_with(host=address),
        content=message.body().encode(),
        headers={"Host": url.netloc.decode("ascii"), **signed_headers(endpoint.secret, message)},
        extensions={"sni_hostname": host},
    )
    response = await client.send(request, stream=True)  # the body is never read: it may be endless
    await response.aclose()
    return _answer(response)


def signed_headers(secret: str, message: Message) -> dict[str, str]:
    """Returns the headers of the specification. The time is that of the attempt."""
    now, name = datetime.now(UTC), f"msg_{message.message_id.hex}"
    return {
        "Content-Type": "application/json",
        "User-Agent": "fakesweep",
        "webhook-id": name,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign(name, now, message.body()),
    }


def _answer(response: httpx2.Response) -> Answer:
    status = response.status_code
    if response.is_success:
        return Answer(str(status), delivered=True)
    return Answer(
        str(status),
        gone=status == HTTPStatus.GONE,
        retry_after_s=min(_seconds_of(response.headers.get("retry-after", "")), LONGEST_WAIT_S),
    )


def _seconds_of(retry_after: str) -> float:
    """Returns the seconds of a Retry-After header, which holds a number or a date; 0 for anything else."""
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after)
    try:
        at = parsedate_to_datetime(retry_after).astimezone(UTC)
    except (ValueError, OverflowError):
        return 0.0
    return max((at - datetime.now(UTC)).total_seconds(), 0.0)
