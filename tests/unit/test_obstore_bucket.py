"""The options for obstore: the address of a bucket, its region, and the network settings."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.awsrequest import AWSPreparedRequest
from botocore.compat import HTTPHeaders
from botocore.httpsession import get_cert_path

from worker.aws import s3_client
from worker.obstore_bucket import Address, Network, address_of


class Caught(Exception):  # noqa: N818 - no error
    def __init__(self, request: AWSPreparedRequest) -> None:
        super().__init__()
        self.request = request


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets environment variables, and the section [default] of a configuration file."""
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)

    def put(config: str = "", **variables: str) -> None:
        (tmp_path / "config").write_text(f"[default]\n{config}")
        given = {"AWS_CONFIG_FILE": str(tmp_path / "config"), "AWS_ACCESS_KEY_ID": "a/b", "AWS_SECRET_ACCESS_KEY": "x"}
        for name, value in ({"AWS_DEFAULT_REGION": "eu-west-1"} | given | variables).items():
            monkeypatch.setenv(name, value)

    put()
    return put


def request_for(bucket: str, key: str) -> AWSPreparedRequest:
    """Returns the request that boto3 would send."""

    def catch(request: AWSPreparedRequest, **_: Any) -> None:
        raise Caught(request)

    client = s3_client(timeout_s=1, attempts=1)
    client.meta.events.register("before-send.s3.GetObject", catch)
    with pytest.raises(Caught) as caught:
        client.get_object(Bucket=bucket, Key=key)
    return caught.value.request


@pytest.mark.parametrize(
    ("config", "variables", "bucket", "base", "region"),
    [
        ("", {}, "bkt", "https://bkt.s3.eu-west-1.amazonaws.com", "eu-west-1"),
        ("", {"AWS_DEFAULT_REGION": "us-east-1"}, "bkt", "https://bkt.s3.amazonaws.com", "us-east-1"),
        ("", {}, "with.dots", "https://s3.eu-west-1.amazonaws.com/with.dots", "eu-west-1"),
        ("s3 =\n  addressing_style = path", {}, "bkt", "https://s3.eu-west-1.amazonaws.com/bkt", "eu-west-1"),
        ("s3 =\n  use_accelerate_endpoint = true", {}, "bkt", "https://bkt.s3-accelerate.amazonaws.com", "eu-west-1"),
        ("use_dualstack_endpoint = true", {}, "bkt", "https://bkt.s3.dualstack.eu-west-1.amazonaws.com", "eu-west-1"),
        ("", {"AWS_ENDPOINT_URL_S3": "http://host:9000"}, "bkt", "http://host:9000/bkt", "eu-west-1"),
        ("", {"AWS_ENDPOINT_URL": "http://host:9000/s3/"}, "bkt", "http://host:9000/s3/bkt", "eu-west-1"),
        ("endpoint_url = http://host", {}, "bkt", "http://host/bkt", "eu-west-1"),
        ("services = x\n[services x]\ns3 =\n  endpoint_url = http://host", {}, "bkt", "http://host/bkt", "eu-west-1"),
        (
            "",
            {"AWS_ENDPOINT_URL": "http://host:2", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"},
            "bkt", "https://bkt.s3.eu-west-1.amazonaws.com", "eu-west-1",
        ),
        (
            "s3 =\n  addressing_style = virtual", {"AWS_ENDPOINT_URL": "http://host:9000"},
            "bkt", "http://bkt.host:9000", "eu-west-1",
        ),
    ],
)  # fmt: skip
def test_the_address_is_the_one_that_boto3_uses(
    environment: Callable[..., None], config: str, variables: dict[str, str], bucket: str, base: str, region: str
) -> None:
    environment(config, **variables)
    assert address_of(request_for(bucket, "a b/ü+~.jpg"), "a b/ü+~.jpg") == Address(base, region)


@pytest.mark.parametrize(
    ("variables", "bucket"),
    [
        ({"AWS_ENDPOINT_URL": "https://me:secret@host"}, "bkt"),
        ({}, "arn:aws:s3-outposts:eu-west-1:123456789012:outpost/op-01234567890123456/accesspoint/x"),
    ],
    ids=["password", "outposts"],
)
def test_requests_that_obstore_cannot_make(
    environment: Callable[..., None], variables: dict[str, str], bucket: str
) -> None:
    environment("", **variables)
    assert address_of(request_for(bucket, "key"), "key") is None


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "AWS key:signature",
        "AWS4-ECDSA-P256-SHA256 Credential=key/20261126/s3/aws4_request, SignedHeaders=host, Signature=x",
        "AWS4-HMAC-SHA256 Credential=key/20261126/eu-west-1/s3express/aws4_request, SignedHeaders=host, Signature=x",
    ],
)
def test_signatures_that_obstore_does_not_make(authorization: str | None) -> None:
    headers = HTTPHeaders()
    if authorization:
        headers["Authorization"] = authorization
    request = AWSPreparedRequest("GET", "https://bkt.s3.amazonaws.com/key", headers, None, stream_output=True)
    assert address_of(request, "key") is None


@pytest.mark.parametrize(
    ("scheme", "variables", "proxy"),
    [
        ("https", {}, None),
        ("https", {"HTTPS_PROXY": "http://me:secret@proxy:3128"}, "http://me:secret@proxy:3128"),
        ("https", {"HTTPS_PROXY": "proxy:3128"}, "http://proxy:3128"),
        ("https", {"HTTPS_PROXY": "//proxy:3128"}, "http://proxy:3128"),
        ("https", {"HTTP_PROXY": "http://proxy:3128", "ALL_PROXY": "http://proxy:3128"}, None),
        ("http", {"HTTP_PROXY": "http://proxy:3128"}, "http://proxy:3128"),
        ("https", {"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "here.example"}, None),
        ("https", {"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": ".other"}, "http://proxy:3128"),
    ],
)
def test_proxies_are_those_of_boto3(
    scheme: str, variables: dict[str, str], proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    options = Network.of(f"{scheme}://s3.here.example", None, 20).options(scheme)
    assert (options["proxy_url"] if options["proxy_excludes"] == "" else None) == proxy


def test_the_time_limits_of_obstore() -> None:
    options = Network.of("https://host", None, 20).options("https")
    assert (options["connect_timeout"].seconds, options["read_timeout"].seconds) == (5, 20)
    assert Network.of("https://host", None, 2).options("https")["connect_timeout"].seconds == 2
    assert options["timeout"].days == 1  # for a large object over a slow connection
    assert (options["allow_http"], options["allow_invalid_certificates"]) == (False, False)


def test_certificates_are_those_of_boto3(tmp_path: Path) -> None:
    own = tmp_path / "own.pem"
    own.write_text("own")
    assert Network.of("https://host", str(own), 20).options("https")["root_certificate"] == b"own"
    botocores = Path(str(get_cert_path(verify=True))).read_bytes()
    assert Network.of("https://host", None, 20).options("https")["root_certificate"] == botocores
