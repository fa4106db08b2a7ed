"""Where webhooks may go, how they are signed, and when they are sent again. Nothing is sent here."""

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from ipaddress import ip_network
from typing import Any
from uuid import UUID

import httpx2
import pytest
from fastapi.testclient import TestClient
from standardwebhooks import Webhook

from producers.webhooks.addresses import Place, check, place_of, resolve
from producers.webhooks.outbox import DELAYS_S, JITTER, delay_s
from producers.webhooks.posting import (
    LONGEST_WAIT_S,
    Answer,
    Endpoint,
    Message,
    Poster,
    _answer,
    _seconds_of,
    _try_each,
    limits_of,
    signed_headers,
)
from tests.documents import first
from worker.errors import AddressRefusedError, UsageError

HTTPS = Place(https=True, host="h", port=443)
HTTP = Place(https=False, host="h", port=80)
SECRET = "whsec_" + "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
MESSAGE = Message(1, UUID(int=7), "scan.done", "s", {"name": "Käse \x7f"}, datetime(2026, 11, 28, tzinfo=UTC), 1)
_TOO_LATE = "Fri, 31 Dec 9999 23:59:59 -0900"

PUBLIC = ["93.184.216.34", "2606:4700::1", "::ffff:93.184.216.34", "64:ff9b::5db8:d822", "2002:5db8:d822::1"]
REFUSED = [
    "127.0.0.1", "127.8.9.1", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
    "192.0.2.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255",
    "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1", "::7f00:1",
    "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::1", "2002:a9fe:a9fe::1",
    "2001:0:7f00:1::1", "fec0::1",
]  # fmt: skip


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_allowed_by_https_only(address: str) -> None:
    check(HTTPS, [address], ())
    with pytest.raises(AddressRefusedError, match="plain http"):
        check(HTTP, [address], ())


@pytest.mark.parametrize("address", REFUSED)
def test_other_addresses_are_refused_also_beside_a_public_one(address: str) -> None:
    for given in ([address], ["93.184.216.34", address]):
        with pytest.raises(AddressRefusedError, match="not a public address: see FAKESWEEP_WEBHOOKS_NETWORKS"):
            check(HTTPS, given, ())


def test_networks_of_the_setting_are_allowed_also_by_http() -> None:
    networks = [ip_network("10.1.0.0/16"), ip_network("::1")]
    for place in (HTTPS, HTTP):
        check(place, ["10.1.2.3", "::1"], networks)
        with pytest.raises(AddressRefusedError):
            check(place, ["10.2.0.1"], networks)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "2130706433", "0x7f.1", "127.1", "localhost", "[::1]", "[::ffff:7f00:1]"]
)
def test_each_way_to_write_this_machine_is_refused(host: str) -> None:
    with pytest.raises(AddressRefusedError):
        asyncio.run(resolve(place_of(f"https://{host}/"), ()))


@pytest.mark.parametrize(
    "url",
    ["", "example.org", "ftp://example.org", "https://", "https://user:p@example.org", "https://example.org/#a",
     "https://example.org:x/", "https://example.org/a b", "https://example.org/\n", "file:///etc/passwd"],
)  # fmt: skip
def test_a_url_that_no_webhook_can_have_is_refused(url: str) -> None:
    with pytest.raises(UsageError):
        place_of(url)


@pytest.mark.parametrize(
    "url",
    ["https://user:pa55@example.org/", "https://user:pa55", "https://[pa55", "ftp://example.org/pa55",
     "https://example.org/pa55#a", "https://example.org/?key=pa55 b"],
)  # fmt: skip
def test_a_refused_url_is_not_repeated(url: str) -> None:
    with pytest.raises(UsageError) as refused:
        place_of(url)
    assert "pa55" not in str(refused.value)


def test_the_signature_is_that_of_the_library_for_the_very_bytes() -> None:
    headers = signed_headers(SECRET, MESSAGE)
    payload = Webhook(SECRET).verify(MESSAGE.body().encode(), headers)
    assert payload == {"type": "scan.done", "timestamp": "2026-11-28T00:00:00Z", "data": {"name": "Käse \x7f"}}
    assert headers["webhook-id"] == "msg_00000000000000000000000000000007"


def test_the_secret_is_in_no_text() -> None:
    assert SECRET not in repr(Endpoint("e", "https://example.org", SECRET))


def test_the_receiver_of_the_document_takes_each_message_once(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    exec(first("webhooks.md", "python").replace("whsec_…", SECRET), names)  # the document's program
    with TestClient(names["app"], raise_server_exceptions=False) as client:
        for headers, status in [({}, 200), ({}, 200), ({"webhook-signature": "v1,eA=="}, 500)]:
            sent = signed_headers(SECRET, MESSAGE) | headers
            assert client.post("/fakesweep", content=MESSAGE.body().encode(), headers=sent).status_code == status
    assert capsys.readouterr().out == "scan.done {'name': 'Käse \\x7f'}\n"


def test_a_name_that_does_not_resolve_is_an_answer() -> None:
    endpoint = Endpoint("e", "https://nothing.invalid/", SECRET)
    (answer,) = asyncio.run(Poster().post(endpoint, [MESSAGE]))
    assert not answer.delivered
    assert "gaierror" in answer.said
    with pytest.raises(OSError, match="this is not the name of a host"):
        asyncio.run(resolve(place_of("https://a..b/"), []))


def test_the_waits_are_those_of_the_specification_with_jitter() -> None:
    for attempts, planned in enumerate(DELAYS_S, start=1):
        waits = {delay_s(attempts, Answer("500")) for _ in range(50)}
        assert planned * (1 - JITTER) <= min(waits) < max(waits) <= planned * (1 + JITTER)
    assert delay_s(1, Answer("503", retry_after_s=700)) == 700
    assert len(DELAYS_S) == 9


def test_the_next_address_is_tried_if_the_first_accepts_no_connection() -> None:
    def receive(request: httpx2.Request) -> httpx2.Response:
        if request.url.host == "192.0.2.1":
            raise httpx2.ConnectTimeout("dropped")
        return httpx2.Response(204)

    async def send() -> Answer:
        async with httpx2.AsyncClient(transport=httpx2.MockTransport(receive)) as client:
            return await _try_each(client, Endpoint("e", "https://h/", SECRET), MESSAGE, ["192.0.2.1", "192.0.2.2"])

    assert asyncio.run(send()).delivered
    limits = limits_of(20, addresses=3)
    assert limits.connect is not None
    assert limits.connect * 3 < 20 == limits.read, "the last one has time to answer"


def test_an_answer_can_be_stored() -> None:
    assert Poster()._failed(ValueError("a\0b\n")).said == "ValueError: a?b?"


def test_retry_after_of_a_success_means_nothing() -> None:
    late = {"Retry-After": "100"}
    assert [_answer(httpx2.Response(status, headers=late)).retry_after_s for status in (200, 503)] == [0, 100]


def test_a_receiver_cannot_ask_for_more_than_a_day() -> None:
    assert _answer(httpx2.Response(503, headers={"Retry-After": "999999999"})).retry_after_s == LONGEST_WAIT_S


def test_retry_after_is_a_number_or_a_date() -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    assert [_seconds_of(one) for one in ("120", "", "-5", "soon", "1e9", "٣", _TOO_LATE)] == [120, 0, 0, 0, 0, 0, 0]
    assert 97 < _seconds_of(soon) <= 100
