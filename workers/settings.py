"""Settings, read once at start from `FACELIGHT_*` variables and passed down."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import Field, ValidationError, create_model, field_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

from models.catalog import MODELS
from models.options import ModelOptions, Words
from workers.errors import SettingsError
from workers.logs import LogFormat
from workers.state.address import parse_address
from workers.store.base import S3_LOCATION

_RQ_VARIABLE: Final = "RQ_KEY_PREFIX"
_RQ_PREFIX: Final = "rq"
"""Fixed in the Lua scripts, and in the keys that `deploy/redis-users.acl` and the monitoring name."""
_SECRETS: Final = Path("/run/secrets")
"""Where container engines mount secrets: each file is the setting of its name, unless the variable is set."""


Kind = TypeVar("Kind", bound="CommonSettings")


def read_settings(kind: type[Kind]) -> Kind:
    """Read settings from the environment; raises `SettingsError` that names the invalid ones.

    To be called before RQ is imported, which reads a variable of its own at import.
    """
    if os.environ.get(_RQ_VARIABLE, _RQ_PREFIX) != _RQ_PREFIX:
        raise SettingsError(
            f"{_RQ_VARIABLE} must not be set: the queues' keys begin with `{_RQ_PREFIX}:` everywhere. To "
            "keep applications apart, let FACELIGHT_REDIS_URL name another database or server."
        )
    try:
        return kind()
    except ValidationError as error:
        raise SettingsError("; ".join(_complaint(details) for details in error.errors())) from None


def _complaint(details: ErrorDetails) -> str:
    message = details["msg"].removeprefix("Value error, ")
    return f"FACELIGHT_{details['loc'][0]}".upper() + f": {message}" if details["loc"] else message


class CommonSettings(BaseSettings):
    """Settings that all processes share."""

    model_config = SettingsConfigDict(
        env_prefix="FACELIGHT_",
        env_ignore_empty=True,
        frozen=True,
        extra="ignore",
        secrets_dir=_SECRETS if _SECRETS.is_dir() else None,
    )

    redis_url: str = Field(
        "redis://127.0.0.1:6379/0",
        description="Redis that holds queue and records; `redis+sentinel://` finds the master by its Sentinels, see "
        "[redis.md](redis.md). `facelight serve` starts its own one when this is not set.",
    )
    data_dir: Path = Field(Path("var"), description="Folder for everything the server writes.")
    store: str | None = Field(
        None,
        description="Where pictures are kept: a folder, or `s3://bucket/prefix`, whose server and credentials boto3's "
        "own variables name: AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, …; AWS_REQUEST_CHECKSUM_CALCULATION=when_required is "
        "for a server that does not know trailing checksums. Not set: `store` in the data folder.",
    )
    result_ttl_s: int = Field(
        3600, ge=1, description="How long a finished request and its pictures are kept, in seconds."
    )
    request_ttl_s: int = Field(
        86_400, ge=60, description="How long a request may wait, and an uploaded picture is kept, in seconds."
    )
    heartbeat_ttl_s: int = Field(
        10,
        ge=2,
        description="A worker without a heartbeat for so long is presumed dead and its requests are requeued; seconds.",
    )
    max_attempts: int = Field(2, ge=1, description="Attempts at a request whose workers die.")
    offline: bool = Field(
        False,
        description="No access to the internet: weights are not fetched, and image URLs and webhooks may point only to "
        "the ranges of FACELIGHT_FETCH_ALLOW_CIDRS.",
    )
    metrics_port: int = Field(
        0,
        ge=0,
        le=65_534,
        description="Port on which the process tells its metrics to Prometheus, see [operations.md](operations.md); 0: "
        "none. Never the public port, and every process of a host needs one of its own: the worker of `facelight "
        "serve` takes the next one.",
    )
    metrics_host: str = Field(
        "127.0.0.1",
        description="Address to listen on for Prometheus. There is no key for it: no network that callers reach.",
    )
    log_level: str = Field("INFO", description="Level of the log: DEBUG, INFO, WARNING or ERROR.")
    log_format: LogFormat = Field("text", description="Lines of the log: `text`, or `json` with one object per line.")

    @field_validator("redis_url")
    @classmethod
    def _connectable(cls, url: str) -> str:
        parse_address(url)
        return url

    @field_validator("store")
    @classmethod
    def _storable(cls, location: str | None) -> str | None:
        if location and "://" in location and not S3_LOCATION.fullmatch(location):
            raise ValueError("must be a folder or s3://bucket/prefix")
        return location

    @property
    def store_location(self) -> str:
        """Where pictures are kept: a folder, or `s3://bucket/prefix`."""
        return self.store or str(self.data_dir / "store")


_OPTIONS: Final[Any] = create_model("_OPTIONS", __base__=tuple(model.options for model in MODELS.values()))
"""The options of all models: each is a setting of the worker."""


class WorkerSettings(CommonSettings, _OPTIONS):
    """Settings of a worker process, with the options of every model."""

    weights_dir: Path | None = Field(
        None,
        description="Folder of weights. Not set: `weights/real` in the data folder.",
    )
    demo: bool = Field(
        False,
        description="Serve demo weights, built in `weights/demo` of the data folder, while no weights were fetched "
        "and FACELIGHT_WEIGHTS_DIR is not set. Small stand-ins, for demonstration only. `facelight serve` sets it for "
        "its worker unless it is `false`; any other worker without weights serves nothing.",
    )
    models: Words = Field(tuple(MODELS), description="Models that this worker serves, comma-separated.")
    device: str = Field(
        "auto", description="torch device, such as `cuda:0` or `cpu`; `auto` selects a GPU if there is one."
    )
    job_timeout_s: int = Field(
        900,
        ge=1,
        description="Time budget of a request in seconds, all stages together; beyond it the request fails at its next "
        "denoise step. A stage that does not return within 10 s more ends the worker process.",
    )
    max_batch: int = Field(
        8,
        ge=1,
        description="Largest batch of requests of the same sizes and steps, formed while the queue is long; 1 executes "
        "each alone.",
    )

    @field_validator("models")
    @classmethod
    def _known(cls, slugs: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [slug for slug in slugs if slug not in MODELS]:
            raise ValueError(f"unknown model {unknown[0]!r}; there are {', '.join(MODELS)}")
        return slugs

    def options_of(self, slug: str) -> ModelOptions:
        """The options of model `slug`."""
        kind = MODELS[slug].options
        return kind.model_validate({name: getattr(self, name) for name in kind.model_fields})

    @property
    def real_dir(self) -> Path:
        """Folder of the weights that are fetched: the one that is named, or `weights/real` in the data folder."""
        return self.weights_dir or self.data_dir / "weights" / "real"

    @property
    def demo_dir(self) -> Path:
        """Folder of the demo weights."""
        return self.data_dir / "weights" / "demo"
