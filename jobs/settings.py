"""Settings, from `EDICT_*` environment variables or from a running embedded stack.

Only entry points (the command line, the worker's main) read settings; everything else receives
what it needs as arguments.
"""

import json
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from jobs.addresses import parse_networks
from jobs.errors import ConfigurationError
from jobs.model_names import MARK, split_name, split_revision

_USER = re.compile(r"(?<=://).*@", re.DOTALL)
_SECRET_PARAMETER = re.compile(r"(?i)([?&;][^=&;]*(?:password|secret|token)[^=&;]*=)[^&;]*")

STACK_FILE = "stack.json"
"""Written into the home by a running embedded stack: the settings to reach it."""


def _split(value: object) -> object:
    if not isinstance(value, str):
        return value
    return [part.strip() for part in value.split(",") if part.strip()]


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]


class Settings(BaseSettings):
    """Where the services are, and the limits at the door."""

    # A variable that is set to nothing, as compose files like to do, is not set.
    model_config = SettingsConfigDict(
        env_prefix="EDICT_", env_ignore_empty=True, frozen=True, extra="forbid"
    )

    home: Path = Path(".edict")
    """Folder of the embedded stack; unused where the URLs below are set."""
    database_url: SecretStr = SecretStr("")
    redis_url: SecretStr = SecretStr("")
    s3_endpoint_url: str | None = None
    """None: Amazon S3."""
    s3_public_url: str | None = None
    """Where clients of the HTTP API reach the same store, to load results and put uploads; None:
    where we do."""
    s3_region: str = "us-east-1"
    s3_bucket: str = ""
    s3_access_key_id: str | None = None
    s3_secret_access_key: SecretStr | None = None
    """None for both keys: boto3 looks in its usual places (profile, instance role)."""

    models: Names = ("demo",)
    """The catalogue: model folders or hub ids (`name@revision` pins one, `+lora=FILE:SCALE` adds an
    adapter; see `jobs.model_names`) that jobs may name. The first is the default."""
    source_buckets: Names = ()
    """Buckets besides our own that jobs may read images from."""
    source_hosts: Names = ()
    """Hosts (`name` or `name:port`) whose `https://` images may be named over HTTP."""
    source_roots: Names = ()
    """Folders of the API's machine (absolute paths) whose images may be named over HTTP."""
    max_source_bytes: int = Field(default=64 * 2**20, gt=0)
    max_source_pixels: int = Field(default=64_000_000, gt=0)

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision of the network; round trips are exact at any."""
    rungs: Annotated[tuple[int, ...] | None, NoDecode, BeforeValidator(_split)] = None
    """Batch shapes of the engine, in network rows; a guided image takes two. None: as many as the
    device's memory holds, found by trying."""
    compile: Literal["auto", "on", "off"] = "off"
    """Whether `torch.compile` makes the network faster; auto: on GPUs. Takes minutes at start."""
    vae_tile_pixels: int | None = Field(default=None, gt=0)
    """Side of the tiles in which the VAE runs larger images, to save memory; None: whole."""
    auxiliary_batch: int = Field(default=1, ge=1, le=64)
    """Images that the VAE is given at once, and prompts the text encoders, idle rows included."""
    worker_shards: int = Field(default=8, ge=1, le=64)
    """Messages that a worker process has in hand at once. With more than it takes to fill the
    device's batches, images come and go while it computes."""
    stop_grace_seconds: float = Field(default=10.0, ge=0, allow_inf_nan=False)
    """How long a worker that is told to stop goes on with jobs that can end in that time."""

    lease_seconds: float = Field(default=30.0, gt=0, allow_inf_nan=False)
    """How long a claim lives without a heartbeat; several come in that time."""
    max_attempts: int = Field(default=3, ge=1)
    redeliver_seconds: float = Field(default=10.0, gt=0, allow_inf_nan=False)
    """After this time a queued job that nobody claimed is announced again, if its queue is
    empty, or has come to what was sent that much later."""
    announce_window: int = Field(default=4_096, ge=1)
    """Bulk jobs of a model that are announced at once, at most; the next follow as workers claim
    them."""

    webhook_url: str | None = None
    """Told of the end of every batch, and of jobs that are in none, unless a submission names
    another."""
    webhook_secret: SecretStr | None = None
    """Signs webhooks: `whsec_` and 24 to 64 bytes in base64. Only the control process needs it."""
    webhook_allow: Names = ()
    """Networks, such as 10.1.0.0/16, that webhooks may call though they are not public."""

    tracing_endpoint: str | None = None
    """Where spans go: an OTLP/HTTP collector, such as http://localhost:4318. None: nothing is
    traced."""

    @field_validator("tracing_endpoint")
    @classmethod
    def _is_http_without_user(cls, endpoint: str | None) -> str | None:
        if endpoint is not None and not re.fullmatch(r"https?://[^/@\s]+(/[^@\s]*)?", endpoint):
            raise ValueError(
                "is not of the form http://host:4318; a collector's credentials go into "
                "OTEL_EXPORTER_OTLP_HEADERS"
            )
        return endpoint

    @field_validator("s3_public_url")
    @classmethod
    def _is_a_store(cls, url: str | None) -> str | None:
        if url is not None and not re.fullmatch(r"https?://[^/@\s]+", url):
            raise ValueError("is not of the form https://host:8333")
        return url

    @field_validator("webhook_allow")
    @classmethod
    def _are_networks(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        parse_networks(names)
        return names

    @field_validator("source_roots")
    @classmethod
    def _are_folders(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if not Path(name).is_absolute() or Path(name) == Path("/"):
                raise ValueError(
                    f"{name!r} is no absolute path below /; write for example /srv/photos"
                )
        return names

    @field_validator("models")
    @classmethod
    def _has_a_default(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not names or not all(names):
            raise ValueError("names no model; give at least one folder or hub id, such as 'demo'")
        for name in names:
            split_name(name)
        return names

    @property
    def default_model(self) -> str:
        """The model that jobs get when they name none."""
        return self.models[0]

    def require_services(self) -> Self:
        """Check that every service is named.

        Raises:
            ConfigurationError: names the missing variables and the embedded alternative.
        """
        needed = {
            "EDICT_DATABASE_URL": self.database_url.get_secret_value(),
            "EDICT_REDIS_URL": self.redis_url.get_secret_value(),
            "EDICT_S3_BUCKET": self.s3_bucket,
        }
        missing = [name for name, value in needed.items() if not value]
        if missing:
            raise ConfigurationError(
                f"{', '.join(missing)} not set, and no embedded stack runs in {self.home}. "
                "Start one with `edict up` in another shell, or set the variables"
            )
        return self


def load_settings(home: Path | None = None) -> Settings:
    """Read the environment; what it leaves open comes from the embedded stack running in `home`.

    Raises:
        ConfigurationError: a value is out of its domain; names the variable.
    """
    try:
        settings = Settings() if home is None else Settings(home=home)
        if settings.database_url.get_secret_value():
            return settings
        return Settings(
            **{**_stack_values(settings.home), **settings.model_dump(exclude_unset=True)}
        )
    except ValidationError as error:
        first = error.errors()[0]
        name = "EDICT_" + "_".join(str(part) for part in first["loc"]).upper()
        raise ConfigurationError(f"{name}: {first['msg']} (got {first['input']!r:.120})") from None


def _stack_values(home: Path) -> dict[str, Any]:
    file = home / STACK_FILE
    try:
        published = json.loads(file.read_text())
        environment, pid = dict(published["environment"]), int(published["pid"])
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (ValueError, TypeError, KeyError):
        raise ConfigurationError(
            f"{file} is damaged; stop `edict up`, remove the file and start it again"
        ) from None
    if not _is_alive(pid):
        # The stack was killed and left its file: its addresses lead nowhere.
        return {}
    return {
        name.removeprefix("EDICT_").lower(): value
        for name, value in environment.items()
        if name.removeprefix("EDICT_").lower() in Settings.model_fields
    }


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def parse_model(name: str) -> tuple[str, str | None]:
    """Tell what jobs and queues call a model, and its revision if it is pinned.

    A name with adapters stays whole: all that is pinned in it is part of the name.
    """
    return (name, None) if MARK in name else split_revision(name)


def without_password(url: str) -> str:
    """The URL as it may be shown: user, password and secret parameters replaced.

    No parser: a password with an unquoted `/` or `#` would end the host for one, and be shown.
    """
    return _SECRET_PARAMETER.sub(r"\1***", _USER.sub("***@", url))
