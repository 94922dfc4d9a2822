"""Settings, read once at start from `FACELIGHT_*` variables and passed down."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Final, Literal, Self, TypeVar

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from models.catalog import MODELS
from workers.errors import SettingsError
from workers.logs import LogFormat
from workers.store.base import S3_LOCATION

_RQ_VARIABLE: Final = "RQ_KEY_PREFIX"
_RQ_PREFIX: Final = "rq"
"""Stands in the scripts, which Redis runs, and in the keys that `deploy/redis-users.acl` and the monitoring name."""
Words = Annotated[tuple[str, ...], NoDecode]
"""A comma-separated list in the environment."""


Kind = TypeVar("Kind", bound="CommonSettings")


def read_settings(kind: type[Kind]) -> Kind:
    """Read settings from the environment; raises `SettingsError` that names what does not fit.

    To be called before RQ is imported, which reads a variable of its own then.
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


def split_words(value: object) -> object:
    """Split a comma-separated string into its words; leave everything else as it is."""
    if isinstance(value, str):
        return tuple(word.strip() for word in value.split(",") if word.strip())
    return value


class CommonSettings(BaseSettings):
    """What every process of the application must agree on."""

    model_config = SettingsConfigDict(env_prefix="FACELIGHT_", env_ignore_empty=True, frozen=True, extra="ignore")

    redis_url: str = Field(
        "redis://127.0.0.1:6379/0",
        description="Redis that holds queue and records. `facelight serve` starts its own one when this is not set.",
    )
    data_dir: Path = Field(Path("var"), description="Folder for everything the server writes.")
    store: str | None = Field(
        None,
        description="Where pictures are kept: a folder, or `s3://bucket/prefix`, whose server and credentials boto3's "
        "own variables name: AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, …; AWS_REQUEST_CHECKSUM_CALCULATION=when_required is "
        "for a server that does not know trailing checksums. Not set: `store` in the data folder.",
    )
    result_ttl_s: int = Field(3600, ge=1, description="How long a finished request and its pictures are kept.")
    request_ttl_s: int = Field(
        86_400, ge=60, description="How long an unfinished request, and an uploaded picture, is kept at most."
    )
    heartbeat_ttl_s: int = Field(
        10, ge=2, description="A worker that was silent for so long is dead, and its job is given to another."
    )
    max_attempts: int = Field(2, ge=1, description="How often a request is tried when workers die on it.")
    offline: bool = Field(
        False,
        description="Never ask the network for anything: weights are not fetched, and image URLs may point only to the "
        "ranges of FACELIGHT_FETCH_ALLOW_CIDRS.",
    )
    log_level: str = Field("INFO", description="Level of the log: DEBUG, INFO, WARNING or ERROR.")
    log_format: LogFormat = Field("text", description="Lines of the log: `text`, or `json` with one object per line.")

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


class WorkerSettings(CommonSettings):
    """What a worker process needs besides."""

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
        "auto", description="torch device, such as `cuda:0` or `cpu`; `auto` takes a GPU if there is one."
    )
    cpu_noise: bool = Field(
        False,
        description="Draw ic-light's noise on the CPU: a seed then gives the same picture on every device, but another "
        "one than a GPU's own noise. pulid-lightning always does.",
    )
    pulid_body_share: Literal["comfyui", "official"] = Field(
        "comfyui",
        description="How pulid-lightning weighs the face in `high-fidelity`: as the ComfyUI port that the hosted model "
        "runs, or as PuLID's own code.",
    )
    checkpoints: Words = Field(
        (),
        description="Checkpoints that pulid-lightning keeps, comma-separated, of `default`, `artistic`, `realistic`. "
        "Not set: all that are installed.",
    )
    checkpoint_memory: Literal["auto", "device", "host"] = Field(
        "auto",
        description="Where checkpoints wait: `device` keeps them side by side; `host` keeps their UNets in the host's "
        "memory, one on the device at a time; `auto` takes `device` if they fit and leave 8 GiB to work in.",
    )
    compile: Literal["auto", "off", "on", "max"] = Field(
        "auto",
        description="Compile networks at start, before anything is served: `auto` does so for a GPU alone, and falls "
        "back to eager execution where it fails, which the log and `/health/ready` say; `off` never does; `on` always "
        "does, and a model for which it fails is not served; `max` is `on` with a search for the fastest kernels, "
        "which takes many minutes at the first start. Kernels are kept for later starts: in TORCHINDUCTOR_CACHE_DIR "
        "and TRITON_CACHE_DIR, else in `compiled` in the data folder.",
    )
    fp8: bool = Field(
        False,
        description="Compute pulid-lightning's transformers in float8. Faster, and **changes pictures**. Needs a GPU "
        "of compute capability 8.9 or more (Ada, Hopper and later), and keeps all checkpoints on it.",
    )
    job_timeout_s: int = Field(900, ge=1, description="A job that runs longer ends as FAILED.")
    max_batch: int = Field(
        8,
        ge=1,
        description="How many requests of the same sizes and steps are drawn in one run at most, while many wait; 1 "
        "draws each alone.",
    )

    _split = field_validator("models", "checkpoints", mode="before")(split_words)

    @field_validator("models")
    @classmethod
    def _known(cls, slugs: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [slug for slug in slugs if slug not in MODELS]:
            raise ValueError(f"unknown model {unknown[0]!r}; there are {', '.join(MODELS)}")
        return slugs

    @field_validator("checkpoints")
    @classmethod
    def _loadable(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        known = MODELS["pulid-lightning"].params.variants
        if unknown := [name for name in names if name not in known]:
            raise ValueError(f"unknown checkpoint {unknown[0]!r}; there are {', '.join(known)}")
        return tuple(dict.fromkeys(names))

    @model_validator(mode="after")
    def _rounded_on_the_device(self) -> Self:
        if self.fp8 and self.checkpoint_memory == "host":
            raise ValueError("FACELIGHT_FP8 cannot be used with FACELIGHT_CHECKPOINT_MEMORY=host")
        return self

    @property
    def real_dir(self) -> Path:
        """Folder of the weights that are fetched: the one that is named, or `weights/real` in the data folder."""
        return self.weights_dir or self.data_dir / "weights" / "real"

    @property
    def demo_dir(self) -> Path:
        """Folder of the demo weights."""
        return self.data_dir / "weights" / "demo"
