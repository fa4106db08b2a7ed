"""Fetches from one bucket of S3 with obstore, with the address, credentials and network settings that boto3 uses.

obstore (Rust) fetches an object in a fraction of boto3's CPU time, and outside Python's lock. On its own, it would read
other settings than boto3. So we give it all of them: the address from a request that boto3 sent, the rest from boto3's
session. Only worker.s3_store loads this module, and only when it fetches from S3.
"""

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote, urlsplit

import obstore
from botocore.awsrequest import AWSPreparedRequest
from botocore.credentials import ReadOnlyCredentials
from botocore.httpsession import get_cert_path
from botocore.utils import get_environ_proxies
from obstore.exceptions import BaseError, GenericError
from obstore.store import S3Store

from worker.aws import AWS_ERRORS, CONNECT_TIMEOUT_S

if TYPE_CHECKING:
    from obstore import GetResult
    from obstore.store import S3Credential

_TRIES = 3
AGAIN_S = 300.0
"""If obstore failed three times on a bucket and never fetched from it, it is tried again after this time."""

_OTHER_KEY = re.compile(r"(?:^|/)\.{0,2}(?:/|\Z)|[\x00-\x1f\x7f]")
"""Keys with an empty part, with `.` or `..` as a part, or with a control character. obstore refuses most of them, and
removes a slash at the beginning or the end, so it would fetch another object."""

_OTHER_ETAG = re.compile(r"[^\x20-\x7e]")
"""Characters that a header cannot have: obstore panics when it gets one (object_store 0.14.2, with_aws_sigv4)."""

_SIGNED = re.compile(r"AWS4-HMAC-SHA256 Credential=.+/\d{8}/([^/,]+)/s3/aws4_request,")


@dataclass(frozen=True)
class Address:
    """Where a bucket is: an object's URL is `base`, a slash and its key. Requests are signed for `region`."""

    base: str
    region: str


def address_of(request: AWSPreparedRequest, key: str) -> Address | None:
    """Returns the address of the bucket from which boto3 got `key` with this request.

    None if obstore cannot send such requests: another signature (access points in several regions, directory buckets,
    S3 on Outposts), or a password in the URL, which obstore would send instead of the signature.
    """
    authorization = request.headers.get("Authorization", "")
    signed = _SIGNED.match(authorization.decode() if isinstance(authorization, bytes) else authorization)
    path = "/" + quote(key, safe="/~")
    if signed is None or not request.url.endswith(path) or "@" in urlsplit(request.url).netloc:
        return None
    return Address(request.url.removesuffix(path), signed[1])


@dataclass(frozen=True)
class Network:
    """How obstore reaches the endpoint, with boto3's settings: a proxy for each scheme, and the PEM file."""

    timeout_s: float
    proxies: dict[str, str] = field(repr=False)  # may hold passwords
    ca_bundle: str

    @staticmethod
    def of(endpoint: str, ca_bundle: str | None, timeout_s: float) -> "Network":
        """Returns what boto3 uses for that endpoint. `ca_bundle` is boto3's setting with this name."""
        return Network(timeout_s, get_environ_proxies(endpoint), ca_bundle or str(get_cert_path(verify=True)))

    def options(self, scheme: str) -> dict[str, Any]:
        """Returns obstore's client options. All are given, because obstore also reads them from AWS_… variables.

        Raises OSError when the bundle cannot be read. obstore trusts the system's certificates, too.
        """
        proxy = self.proxies.get(scheme)
        if proxy and not proxy.startswith(("http:", "https:")):
            proxy = f"http://{proxy.removeprefix('//')}"
        return {
            "allow_http": scheme == "http",
            "allow_invalid_certificates": False,
            "http1_only": True,
            "connect_timeout": timedelta(seconds=min(self.timeout_s, CONNECT_TIMEOUT_S)),
            "read_timeout": timedelta(seconds=self.timeout_s),
            "timeout": timedelta(days=1),  # for the whole answer: a large object on a slow line must arrive
            "root_certificate": Path(self.ca_bundle).read_bytes(),
            # If we give no proxy, obstore takes the one in ALL_PROXY. So we give one that is used for no host.
            "proxy_url": proxy or "http://127.0.0.1:9",
            "proxy_excludes": "" if proxy else "*,0.0.0.0/0,::/0",
        }


@dataclass(repr=False)  # it holds secrets
class ObstoreBucket:
    """Gets the objects of one bucket. Thread-safe.

    `credentials` is called before each request, so that expired credentials are never used.
    """

    FAILURES: ClassVar = (BaseError, OSError, ValueError, *AWS_ERRORS)
    """What get() and the bytes() of its answer raise. AWS_ERRORS come from boto3, when it finds no credentials."""

    name: str
    address: Address
    network: Network
    credentials: Callable[[], ReadOnlyCredentials]
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _signing: ReadOnlyCredentials | None = None
    _store: S3Store | None = None
    _proven: bool = False
    _failures: int = 0
    _again_at: float = 0.0

    def can_get(self, key: str, etag: str | None) -> bool:
        """Whether obstore sends exactly this key and this ETag, and can reach the bucket at all."""
        usable = self._proven or self._failures < _TRIES or time.monotonic() > self._again_at
        return usable and not (_OTHER_KEY.search(key) or _OTHER_ETAG.search(etag or ""))

    def get(self, key: str, etag: str | None) -> "GetResult":
        """Returns the answer, whose body is not read yet. It tries only once. Raises FAILURES."""
        store = self._store_for(self.credentials())
        answer = obstore.get(store, key, options={"if_match": f'"{etag}"'} if etag else None)
        # obstore follows a redirect to any page; boto3 does not. Every object of S3 has an ETag, other pages may not.
        found = (answer.meta["e_tag"] or "").strip('"')
        if not found or (etag and found != etag):
            raise ValueError(f"an answer with the ETag {found!r}")
        return answer

    @staticmethod
    def may_pass(failure: Exception) -> bool:
        """Whether the network or a busy server may be the cause. Otherwise the server refused the request."""
        return isinstance(failure, GenericError)

    def succeeded(self) -> None:
        """Notes that obstore has fetched an object, so it can reach this bucket."""
        self._proven = True

    def failed(self) -> bool:
        """Counts a failure with an object that boto3 then got. Returns True if only boto3 is used during AGAIN_S."""
        self._failures += 1
        self._again_at = time.monotonic() + AGAIN_S
        return not self._proven and self._failures == _TRIES

    def _store_for(self, credentials: ReadOnlyCredentials) -> S3Store:
        with self._lock:
            if self._store is None or self._signing != credentials:
                self._store, self._signing = self._open(credentials), credentials
            return self._store

    def _open(self, credentials: ReadOnlyCredentials) -> S3Store:
        signing: S3Credential = {
            "access_key_id": credentials.access_key or "",
            "secret_access_key": credentials.secret_key or "",
            "token": credentials.token,
            "expires_at": None,
        }
        return S3Store(
            self.name,
            # Both names of the endpoint are given. Otherwise the variable AWS_ENDPOINT_URL_S3 would override the first.
            config={
                "endpoint": self.address.base,
                "aws_endpoint_url_s3": self.address.base,
                "virtual_hosted_style_request": True,  # the endpoint has the bucket in it, in either style
                "region": self.address.region,
                "skip_signature": False,
                "s3_express": False,
                "request_payer": False,
            },
            client_options=self.network.options(urlsplit(self.address.base).scheme),  # type: ignore[arg-type]
            retry_config={"max_retries": 0},
            # Not in `config`: there, obstore would take a missing token from AWS_SESSION_TOKEN.
            credential_provider=lambda: signing,
        )
