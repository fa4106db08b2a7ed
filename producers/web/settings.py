"""The settings of `fakesweep web`, beside those that all processes share (worker/settings.py)."""

from enum import StrEnum
from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from worker.errors import ConfigurationError

PREFIX = "FAKESWEEP_WEB_"


class LoginKind(StrEnum):
    """How people come in."""

    OIDC = "oidc"
    PROXY = "proxy"
    DEMO = "demo"


class WebSettings(BaseSettings):
    """One frozen object, from the variables `FAKESWEEP_WEB_…`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, populate_by_name=True)

    host: str = "127.0.0.1"
    port: int = Field(default=8400, ge=0, le=65535)
    secret: SecretStr = SecretStr("")
    """Signs sessions and addresses of pictures; 32 characters or more. All web processes share it."""
    login: LoginKind = LoginKind.OIDC
    oidc_issuer: str = ""
    oidc_client_id: str = ""
    oidc_client_secret: SecretStr = SecretStr("")
    proxy_secret: SecretStr = SecretStr("")
    """What the proxy sends in X-Fakesweep-Proxy-Secret. Without it, nobody believes the proxy's other headers."""
    proxy_header: str = "X-Forwarded-User"
    """In which header the proxy says who comes in."""
    second_share: float = Field(default=0.1, ge=0, le=1)
    """The share of contents that a second reviewer looks at too."""
    reasons: Path | None = None
    """A TOML file of reason codes; without it, the ones that come with Fakesweep."""
    claim_s: float = Field(default=600, gt=0)
    """How long a claim holds after the last sign of life of its page."""
    picture_ttl_s: int = Field(default=600, gt=0)
    """How long the address of a picture works."""
    picture_edge: int = Field(default=1600, ge=64, le=4096)
    """The longer edge of a picture on a page, in pixels."""
    session_s: int = Field(default=8 * 3600, gt=0)
    """How long somebody stays logged in."""

    @classmethod
    def from_environment(cls) -> Self:
        """The settings; raises ConfigurationError with the name of the first wrong variable and what is wrong."""
        try:
            return cls()
        except ValidationError as error:
            fault = error.errors()[0]
            name = f"{PREFIX}{str(fault['loc'][0]).upper()}"
            raise ConfigurationError(f"{name} is not valid: {fault['msg']} (it is {fault['input']!r})") from None
