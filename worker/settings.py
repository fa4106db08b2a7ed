"""All settings, from the environment, read once and passed down. A bad value fails at start with its name."""

from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from worker.errors import ConfigurationError
from worker.messages import LIVE_QUEUE, MAX_ATTEMPT, SCAN_QUEUE
from worker.secret_files import SecretFiles
from worker.tls import BrokerTls
from worker.wording import worded


def _comma_list(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


CommaList = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_comma_list)]


Folders = Annotated[CommaList, AfterValidator(lambda folders: tuple(str(Path(one).resolve()) for one in folders))]


Networks = Annotated[CommaList, AfterValidator(lambda networks: tuple(str(ip_network(one)) for one in networks))]
"""Networks as texts, such as 10.1.0.0/16. An address alone is a network of one."""


class EnvironmentSettings(BaseSettings):
    """Settings that are read from the environment, each from a variable that begins with the class's prefix."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """See pydantic-settings, whose own source of secret files is replaced (worker/secret_files.py)."""
        del dotenv_settings, file_secret_settings
        return init_settings, SecretFiles(settings_cls, env_settings), env_settings

    @classmethod
    def from_environment(cls) -> Self:
        """Returns the settings. Raises ConfigurationError, which names the first wrong variable and what is wrong."""
        try:
            return cls()
        except ValidationError as error:
            fault = error.errors()[0]
            field = str(fault["loc"][0])
            name = field if field.isupper() else f"{cls.model_config['env_prefix']}{field.upper()}"
            raise ConfigurationError(f"{name} is not valid: {worded(fault)} (it is {fault['input']!r})") from None


class Settings(EnvironmentSettings):
    """All settings in one frozen object. The variables are DATABASE_URL, BROKER_URL, SENTRY_DSN and `FAKESWEEP_…`.

    boto3 reads the settings of S3 itself: `AWS_ENDPOINT_URL_S3`, `AWS_REGION`, credentials.
    """

    model_config = SettingsConfigDict(env_prefix="FAKESWEEP_", frozen=True, populate_by_name=True)

    database_url: SecretStr = Field(default=SecretStr(""), validation_alias="DATABASE_URL")
    broker_url: SecretStr = Field(default=SecretStr(""), validation_alias="BROKER_URL")
    sentry_dsn: SecretStr = Field(default=SecretStr(""), validation_alias="SENTRY_DSN")
    secrets_dir: Path | None = None
    """A folder with a file for each secret, named like its variable (worker/secret_files.py)."""
    broker_ca_file: Path | None = None
    """The CA that signed the broker's certificate, for amqps:// and rediss://. Default: the CAs of the system."""
    broker_cert_file: Path | None = None
    """Our own certificate, for a broker that asks for one. broker_key_file is its key."""
    broker_key_file: Path | None = None

    detector: str = "fakevlm"
    """A shipped description's name, a .toml file, or the place of detector.toml: folder, s3://bucket/prefix, hub id."""
    also: CommaList = ()
    """Further detectors, which give second opinions (docs/second-opinions.md). Each is named like `detector`."""
    model: str | None = None
    """Overrides the description's model: a folder, s3://bucket/prefix or a hub id."""
    revision: str | None = None
    """Overrides the description's revision (a hub commit)."""
    prompt: str | None = None
    """Chooses another of the description's prompts."""
    dtype: str | None = None
    quantization: str | None = None
    kv_cache_dtype: str | None = None
    """These three override the description's [engine], so each value makes another detector."""
    model_cache: Path = Path("~/.cache/fakesweep")
    """Where models from S3 are kept. The hub's client has its own place (HF_HOME)."""
    engine: Literal["vllm", "transformers"] = "vllm"
    engine_stall_s: float = Field(default=300, gt=0)
    """If the engine has images but finishes none for this time, it counts as hung. The first image may take half an
    hour, because kernels are compiled for it.
    """
    health_port: int | None = Field(default=None, ge=0, le=65535)
    """Port of GET /health and /metrics. None: they are not served. 0: any free port. GPU n's replica uses port + n."""
    nightly_port: int | None = Field(default=None, ge=0, le=65535)
    """Port on which `fakesweep nightly` answers GET /metrics. None: they are not served."""
    listen_port: int | None = Field(default=None, ge=0, le=65535)
    """The same for `fakesweep listen`. All three may run on one machine, with the same environment."""
    gpu_memory_utilization: float = Field(default=0.9, gt=0, le=1)
    max_num_seqs: int = Field(default=384, ge=1)
    max_num_batched_tokens: int | None = Field(default=None, ge=800)
    """Tokens in one step of vLLM. Default: 2048 on a GPU, 800 on a CPU."""
    scan_images_in_engine: int | None = Field(default=None, ge=1)
    """Images of scans in the engine at the same time. Default: those of 16 steps on a GPU (48), of 8 on a CPU (8)."""
    scan_images_beside_live: int | None = Field(default=None, ge=1)
    """The same while a live image is in the engine. Default: those of 2 steps on a GPU (6), of 1 step on a CPU (1)."""

    threads: int | None = Field(default=None, ge=1, le=256)
    """Messages of scans at the same time. Default: 8, and 4 more for each CPU that the process may use, up to 32."""
    live_threads: int = Field(default=4, ge=1, le=64)
    """Messages of the live queue at the same time. They have threads of their own."""
    image_memory_mib: int = Field(default=4096, ge=256)
    """Memory for images: fetched files, images in full size while they are decoded, and what the engine gets."""
    database_connections: int = Field(default=8, ge=2, le=256)
    """The most connections to Postgres that a worker process opens. A quarter of them are for live images."""
    queues: CommaList = (LIVE_QUEUE, SCAN_QUEUE)

    fetch_timeout_s: float = Field(default=20, gt=0)
    max_bytes: int = Field(default=64 * 2**20, ge=1)
    max_pixels: int = Field(default=100_000_000, ge=1)
    min_edge: int = Field(default=8, ge=1)
    """Pixels of the shorter edge. Smaller images are not judged."""
    allowed_buckets: CommaList = ()
    """Buckets that messages may name. Empty: all that the credentials can read."""
    allowed_folders: Folders = ()
    """Folders that file:// messages may name. Empty: all."""

    trust_list: Path | None = None
    """A file with the certificates, in PEM, of the signers whose C2PA manifests are trusted. Without it, it is the
    shipped list of the C2PA. With `none`, no signer is trusted or refused.
    """

    max_queue_depth: int = Field(default=2000, ge=1)
    """A producer waits while the queue has this many messages. 2,000 are about 32,000 images: minutes for one GPU."""

    retry_limit: int = Field(default=5, ge=0, lt=MAX_ATTEMPT)
    """How often an image is published again, with a delay, while its storage is away. Then its outcome is a failure."""
    retry_delay_s: int = Field(default=30, ge=1, le=900)
    """The delay before the first of them. It doubles each time, up to 15 minutes."""

    nightly: Path | None = None
    """The TOML file of `fakesweep nightly` (docs/nightly.md)."""
    timezone: str = "UTC"
    """The time zone of the crontabs in that file, as the IANA database names it, such as Europe/Berlin."""

    webhooks_port: int | None = Field(default=None, ge=0, le=65535)
    """Port on which `fakesweep webhooks send` answers GET /metrics and /health. None: they are not served."""
    webhooks_networks: Networks = ()
    """Networks that are not public and to which webhooks may go, such as 10.1.0.0/16. Plain http only works there."""
    webhooks_keep_days: int = Field(default=30, ge=1)
    """How long messages stay after they were delivered or have died."""

    log_format: Literal["json", "console"] = "json"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @property
    def broker_tls(self) -> BrokerTls:
        """The files for TLS to the broker."""
        return BrokerTls(self.broker_ca_file, self.broker_cert_file, self.broker_key_file)

    @field_validator("queues")
    @classmethod
    def _ours(cls, queues: tuple[str, ...]) -> tuple[str, ...]:
        if not queues or not set(queues) <= {LIVE_QUEUE, SCAN_QUEUE}:
            raise ValueError(f"must name {LIVE_QUEUE}, {SCAN_QUEUE} or both, separated by a comma")
        return queues

    @field_validator("timezone")
    @classmethod
    def _known(cls, timezone: str) -> str:
        try:
            ZoneInfo(timezone)
        except (KeyError, ValueError, OSError):
            raise ValueError("must be a time zone of the IANA database, such as Europe/Berlin") from None
        return timezone
