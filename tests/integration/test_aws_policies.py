"""The policies of deploy/aws, on an S3 that enforces policies: each process can do its work, and nothing else."""

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from itertools import islice
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import settings as moto_settings
from moto.server import ThreadedMotoServer

from producers.listing import Rules
from producers.sources import open_source
from tests.documents import ROOT
from worker.errors import FakesweepError, ImageError, Reason
from worker.messages import ImageRef
from worker.s3_store import S3ImageStore

POLICIES = ROOT / "deploy" / "aws"
NOT_ENFORCED = float("inf")


@dataclass
class Aws:
    """An S3 endpoint with the buckets of the policies. `become` sets who makes the next calls."""

    url: str
    environment: pytest.MonkeyPatch

    def become(self, policy: str) -> None:
        """Becomes a user with this policy and no other right. From here on, rights are enforced."""
        moto_settings.INITIAL_NO_AUTH_ACTION_COUNT = NOT_ENFORCED
        self._use("admin", "admin")
        iam = boto3.client("iam", endpoint_url=self.url)
        iam.create_user(UserName=policy)
        document = (POLICIES / f"{policy}.json").read_text()
        iam.put_user_policy(UserName=policy, PolicyName=policy, PolicyDocument=document)
        key = iam.create_access_key(UserName=policy)["AccessKey"]
        self._use(key["AccessKeyId"], key["SecretAccessKey"])
        moto_settings.INITIAL_NO_AUTH_ACTION_COUNT = 0

    def _use(self, key: str, secret: str) -> None:
        self.environment.setenv("AWS_ACCESS_KEY_ID", key)
        self.environment.setenv("AWS_SECRET_ACCESS_KEY", secret)


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    made = Aws(url, monkeypatch)
    before = moto_settings.INITIAL_NO_AUTH_ACTION_COUNT
    try:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
        monkeypatch.setenv("AWS_REGION", "eu-central-1")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
        made._use("admin", "admin")
        client = boto3.client("s3")
        for bucket in ("photos", "inventory"):
            with suppress(client.exceptions.BucketAlreadyOwnedByYou):  # moto keeps buckets from one server to the next
                client.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
            client.put_object(Bucket=bucket, Key="a.jpg", Body=b"bytes")
        client.put_object(Bucket="inventory", Key="list.jsonl", Body=b'{"source-ref": "s3://photos/a.jpg"}\n')
        yield made
    finally:
        moto_settings.INITIAL_NO_AUTH_ACTION_COUNT = before
        server.stop()


def listed(source: str) -> list[str]:
    pages = open_source([source], Rules(), lambda _line: None).pages(None)
    return [ref.uri for page in islice(pages, 10) for ref in page.refs]


def refused(method: str, **arguments: object) -> bool:
    try:
        getattr(boto3.client("s3"), method)(**arguments)
    except ClientError as error:
        return bool(error.response["ResponseMetadata"]["HTTPStatusCode"] == HTTPStatus.FORBIDDEN)
    return False


def test_a_worker_fetches_and_changes_nothing(aws: Aws) -> None:
    aws.become("worker")
    store = S3ImageStore(max_bytes=100)
    assert store.fetch(ImageRef(uri="s3://photos/a.jpg")) == b"bytes"
    assert store.fetch(ImageRef(uri="s3://photos/a.jpg")) == b"bytes"  # obstore fetches it this time
    with pytest.raises(ImageError) as missing:
        store.fetch(ImageRef(uri="s3://photos/gone.jpg"))
    assert missing.value.reason is Reason.NOT_FOUND
    assert refused("put_object", Bucket="photos", Key="a.jpg", Body=b"")
    assert refused("delete_object", Bucket="photos", Key="a.jpg")
    assert refused("list_buckets")


def test_a_producer_lists_and_reads_manifests(aws: Aws) -> None:
    aws.become("producer")
    assert listed("s3://photos/") == ["s3://photos/a.jpg"]
    assert listed("s3://inventory/list.jsonl") == ["s3://photos/a.jpg"]
    assert refused("put_object", Bucket="inventory", Key="list.jsonl", Body=b"")


def test_a_listener_sees_no_image(aws: Aws) -> None:
    aws.become("listen")
    with pytest.raises(ImageError) as denied:
        S3ImageStore(max_bytes=100).fetch(ImageRef(uri="s3://photos/a.jpg"))
    assert denied.value.reason is Reason.ACCESS_DENIED
    with pytest.raises(FakesweepError):
        listed("s3://photos/")


@pytest.mark.parametrize("path", sorted(POLICIES.glob("*.json")), ids=lambda path: path.stem)
def test_no_policy_has_a_wildcard_action_or_allows_every_resource(path: Path) -> None:
    for statement in json.loads(path.read_text())["Statement"]:
        actions = statement["Action"]
        assert all("*" not in action for action in ([actions] if isinstance(actions, str) else actions))
        assert statement["Resource"] != "*"
