"""Credentials, proxies and certificates: obstore uses those that boto3 finds, and looks for none itself."""

import datetime
import ipaddress
import ssl
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.object_server import Answer, ObjectServer, object_server
from worker.errors import StorageUnavailableError
from worker.messages import ImageRef
from worker.s3_store import S3ImageStore

Put = Callable[..., None]


@pytest.fixture
def put(tmp_path: Path, s3_environment: str, monkeypatch: pytest.MonkeyPatch) -> Put:
    """Sets these variables, and unsets those that have priority over them."""
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_CA_BUNDLE", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)

    def set_all(config: str = "", **variables: str | None) -> None:
        (tmp_path / "config").write_text(config)
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
        for name, value in variables.items():
            if value is None:
                monkeypatch.delenv(name, raising=False)
            else:
                monkeypatch.setenv(name, value)

    return set_all


@pytest.fixture
def server() -> Iterator[ObjectServer]:
    with object_server() as found:
        yield found


def fetched(times: int = 3) -> list[bytes]:
    store = S3ImageStore(max_bytes=1000, timeout_s=5)
    return [store.fetch(ImageRef(uri="s3://bkt/k")) for _ in range(times)]


def test_credentials_are_refreshed_before_they_expire(put: Put, server: ObjectServer, tmp_path: Path) -> None:
    """Each key of this process is valid for five minutes. boto3 refreshes keys that expire within ten."""
    script = tmp_path / "keys.py"
    script.write_text(
        "import datetime, json, pathlib\n"
        f"number = pathlib.Path({str(tmp_path / 'number')!r})\n"
        "n = int(number.read_text()) + 1 if number.exists() else 1\n"
        "number.write_text(str(n))\n"
        "end = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(minutes=5)\n"
        "print(json.dumps({'Version': 1, 'AccessKeyId': f'KEY{n}', 'SecretAccessKey': 'x',\n"
        "                  'SessionToken': f'token{n}', 'Expiration': end.isoformat()}))\n"
    )
    put(
        f"[default]\ncredential_process = {sys.executable} {script}\n",
        AWS_ENDPOINT_URL=server.url, AWS_ACCESS_KEY_ID=None, AWS_SECRET_ACCESS_KEY=None,
    )  # fmt: skip
    fetched(4)
    assert [asked.by_obstore for asked in server.asked] == [False, True, True, True]
    keys = [asked.credential[0] for asked in server.asked]
    assert len(set(keys)) == 4
    assert [asked.headers["x-amz-security-token"] for asked in server.asked] == [
        key.replace("KEY", "token") for key in keys
    ]


def test_variables_that_only_obstore_knows_are_ignored(put: Put, server: ObjectServer, tmp_path: Path) -> None:
    (tmp_path / "credentials").write_text("[work]\naws_access_key_id = WORK\naws_secret_access_key = x\n")
    put(
        f"[profile work]\nendpoint_url = {server.url}\nregion = eu-south-2\n",
        AWS_PROFILE="work",
        AWS_SHARED_CREDENTIALS_FILE=str(tmp_path / "credentials"),
        AWS_ACCESS_KEY_ID=None,
        AWS_SECRET_ACCESS_KEY=None,
        AWS_SESSION_TOKEN="of another login",
        AWS_SKIP_SIGNATURE="true",
        AWS_REGION="xx-wrong-1",
        AWS_DEFAULT_REGION=None,
        AWS_ENDPOINT="http://127.0.0.1:9",
        AWS_REQUEST_PAYER="true",
        AWS_PROXY_URL="http://127.0.0.1:9",
        AWS_S3_EXPRESS="true",
    )
    fetched()
    assert [asked.by_obstore for asked in server.asked] == [False, True, True]
    for asked in server.asked:
        assert asked.credential == ("WORK", "eu-south-2")
        assert "x-amz-security-token" not in asked.headers
        assert "x-amz-request-payer" not in asked.headers


def test_a_web_identity_token_in_a_file(put: Put, server: ObjectServer, s3_url: str, tmp_path: Path) -> None:
    """Kubernetes gives a pod such a token (IRSA). boto3 gets keys for it from STS, and obstore signs with them."""
    (tmp_path / "token").write_text("a.web.identity")
    put(
        AWS_ENDPOINT_URL_S3=server.url, AWS_ENDPOINT_URL_STS=s3_url, AWS_ACCESS_KEY_ID=None, AWS_SECRET_ACCESS_KEY=None,
        AWS_WEB_IDENTITY_TOKEN_FILE=str(tmp_path / "token"), AWS_ROLE_ARN="arn:aws:iam::123456789012:role/fakesweep",
    )  # fmt: skip
    fetched()
    assert [asked.by_obstore for asked in server.asked] == [False, True, True]
    assert all("x-amz-security-token" in asked.headers for asked in server.asked)
    assert {asked.credential[0][:4] for asked in server.asked} == {"ASIA"}, "temporary keys"


def test_a_proxy_and_buckets_in_host_names(put: Put, server: ObjectServer) -> None:
    """The server acts as a proxy: it sees whole URLs, with host names that do not exist."""
    put(
        "[default]\ns3 =\n  addressing_style = virtual\n",
        HTTP_PROXY=server.url.replace("//", "//me:secret@"), AWS_ENDPOINT_URL="http://s3.nowhere.test",
    )  # fmt: skip
    fetched()
    assert [asked.by_obstore for asked in server.asked] == [False, True, True]
    assert {asked.path for asked in server.asked} == {"http://bkt.s3.nowhere.test/k"}
    assert {asked.headers["proxy-authorization"] for asked in server.asked} == {"Basic bWU6c2VjcmV0"}


def test_obstore_uses_no_proxy_that_boto3_does_not_use(put: Put, server: ObjectServer) -> None:
    nobody = "http://127.0.0.1:9"
    put(ALL_PROXY=nobody, HTTPS_PROXY=nobody, HTTP_PROXY=nobody, NO_PROXY="127.0.0.1", AWS_ENDPOINT_URL=server.url)
    fetched()
    assert [asked.by_obstore for asked in server.asked] == [False, True, True]


def test_a_private_ca_bundle(put: Put, tmp_path: Path) -> None:
    with object_server(own_certificate(tmp_path)) as server:
        put(AWS_ENDPOINT_URL=server.url, AWS_CA_BUNDLE=str(tmp_path / "certificate.pem"))
        fetched()
        assert [asked.by_obstore for asked in server.asked] == [False, True, True]

        put(AWS_CA_BUNDLE=None, REQUESTS_CA_BUNDLE=None)
        with pytest.raises(StorageUnavailableError, match="SSLError"):
            fetched(1)

        put("[default]\nca_bundle = " + str(tmp_path / "certificate.pem"))
        server.asked.clear()
        fetched()
        assert [asked.by_obstore for asked in server.asked] == [False, True, True]


def test_a_missing_ca_bundle_does_not_matter_over_http(put: Put, server: ObjectServer) -> None:
    put(AWS_ENDPOINT_URL=server.url, AWS_CA_BUNDLE="/nowhere/certificates.pem")
    server.answer = lambda _: Answer(b"x")
    assert fetched() == [b"x"] * 3


def own_certificate(folder: Path) -> ssl.SSLContext:
    """A server's context whose certificate for 127.0.0.1 is vouched for by `certificate.pem` only."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a test")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    return context
