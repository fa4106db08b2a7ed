"""The settings of `fakesweep web`. Settings of all processes are in worker/settings.py."""

import ipaddress
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from worker.errors import ConfigurationError
from worker.settings import CommaList, EnvironmentSettings, Folders

PREFIX = "FAKESWEEP_WEB_"
LEAST_OF_A_SECRET = 32
"""The shortest secret, in characters."""
MAKE_ONE = "python3 -c 'import secrets; print(secrets.token_urlsafe(48))'"


class LoginKind(StrEnum):
    """How people log in."""

    OIDC = "oidc"
    PROXY = "proxy"
    DEMO = "demo"


class WebSettings(EnvironmentSettings):
    """One frozen object, from the variables `FAKESWEEP_WEB_…`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, populate_by_name=True)

    host: str = "127.0.0.1"
    port: int = Field(default=8400, ge=0, le=65535)
    secret: SecretStr = SecretStr("")
    """Signs sessions and addresses of pictures; 32 characters or more. All web processes share it."""
    url: str = ""
    """Where people reach the desk, such as https://review.example.org. The demo's login needs none."""
    trusted_proxies: CommaList = ()
    """Addresses or networks of proxies whose X-Forwarded-For and X-Forwarded-Proto are believed."""
    login: LoginKind = LoginKind.OIDC
    oidc_issuer: str = ""
    oidc_client_id: str = ""
    oidc_client_secret: SecretStr = SecretStr("")
    proxy_secret: SecretStr = SecretStr("")
    """The proxy sends this in X-Fakesweep-Proxy-Secret. Without it, the proxy's other headers are ignored."""
    proxy_header: str = "X-Forwarded-User"
    """The header in which the proxy names the person."""
    second_share: float = Field(default=0.1, ge=0, le=1)
    """The share of contents that a second reviewer also looks at."""
    reasons: Path | None = None
    """A TOML file of reason codes; without it, the ones that come with Fakesweep."""
    claim_s: float = Field(default=600, gt=0)
    """How long a claim is valid after the last sign of its page."""
    picture_ttl_s: int = Field(default=600, gt=0)
    """How long the address of a picture is valid."""
    picture_edge: int = Field(default=1600, ge=64, le=4096)
    """The longer edge of a picture on a page, in pixels."""
    image_memory_mib: int = Field(default=2048, ge=256)
    """Memory for pictures in the making: files, and decoded images in full size."""
    session_s: int = Field(default=8 * 3600, gt=0)
    """How long a login lasts."""

    api_rate_per_minute: int = Field(default=600, ge=1)
    """How many requests each token may make in any minute, in each web process."""
    api_max_body_bytes: int = Field(default=4 * 2**20, ge=1024)
    """The longest body of a request."""
    api_max_images: int = Field(default=1000, ge=1, le=10_000)
    """How many images a submission may have."""
    api_max_wait_s: int = Field(default=60, ge=0, le=600)
    """The longest time that a request may wait for verdicts."""
    api_key_hours: int = Field(default=24, ge=1)
    """How long idempotency keys are kept."""
    allowed_buckets: CommaList = Field(default=(), validation_alias="FAKESWEEP_ALLOWED_BUCKETS")
    """Buckets that requests may name, as in worker.settings. Empty allows all buckets that the credentials can read."""
    allowed_folders: Folders = Field(default=(), validation_alias="FAKESWEEP_ALLOWED_FOLDERS")
    """Folders that requests may name with file:///. Empty allows none, unlike for workers."""

    @property
    def heartbeat_s(self) -> float:
        """How often an open page says that it is open."""
        return max(1.0, self.claim_s / 10)

    def check(self) -> None:
        """Raises ConfigurationError for settings that are missing, too short, or do not fit together."""
        _check_secret("SECRET", self.secret)
        if self.login is LoginKind.DEMO:
            if not is_loopback(self.host) or self.trusted_proxies:
                raise ConfigurationError(
                    f"{PREFIX}LOGIN is demo, which lets anybody in: {PREFIX}HOST must be 127.0.0.1, ::1 or localhost, "
                    f"and {PREFIX}TRUSTED_PROXIES empty; for others than yourself, set {PREFIX}LOGIN to oidc or proxy"
                )
            return
        _check_url("URL", self.url, "https://review.example.org")
        if self.login is LoginKind.PROXY:
            _check_secret("PROXY_SECRET", self.proxy_secret)
        else:
            _check_url("OIDC_ISSUER", self.oidc_issuer, "https://accounts.example.org")
            if not self.oidc_client_id:
                raise ConfigurationError(
                    f"{PREFIX}OIDC_CLIENT_ID is not set: give the id that the provider has for this client"
                )


def is_loopback(host: str) -> bool:
    """Returns whether a name or an address is this machine's own."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _check_secret(name: str, secret: SecretStr) -> None:
    length = len(secret.get_secret_value())
    if length < LEAST_OF_A_SECRET:
        said = f"has {length} characters, and needs {LEAST_OF_A_SECRET}" if length else "is not set"
        raise ConfigurationError(f"{PREFIX}{name} {said}: make one with {MAKE_ONE}")


def _check_url(name: str, url: str, example: str) -> None:
    """Only https is allowed, except on this machine, for tests and trials."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    safe = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))
    if not (safe and host) or parts.query or parts.fragment or parts.username:
        said = f"is {url!r}" if url else "is not set"
        raise ConfigurationError(f"{PREFIX}{name} {said}: give an https address, such as {example}")
