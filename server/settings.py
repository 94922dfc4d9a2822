"""Settings of the gateway, read once at start from `FACELIGHT_*` variables and passed down."""

from __future__ import annotations

import os
import re
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Final, Self
from urllib.parse import urlsplit

from pydantic import Field, IPvAnyNetwork, field_validator, model_validator
from pydantic_settings import NoDecode

from models.catalog import MODELS
from models.options import Words, split_words
from server.intake.guard import USER_AGENT, trust
from workers.settings import CommonSettings
from workers.store.base import S3_LOCATION

Networks = Annotated[tuple[IPvAnyNetwork, ...], NoDecode]
"""A comma-separated list of CIDR ranges in the environment."""
_KEY: Final = re.compile(r"[!-~]+")
_USER_AGENT: Final = re.compile(r"[!-~]([ -~]{0,198}[!-~])?")
_COST: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{1,6})?")


class GatewaySettings(CommonSettings):
    """What the gateway needs besides."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65_535, description="Port to listen on.")
    public_url: str | None = Field(
        None, description="Address clients reach the server by. Not set: taken from each request's headers."
    )
    presigned_endpoint: str | None = Field(
        None,
        description="URL by which callers reach the server of an `s3://` store, such as "
        "https://s3.eu-central-1.amazonaws.com. Results then name their pictures there, by presigned URLs that are "
        "valid until the picture expires. Not set: the gateway sends pictures.",
    )
    api_keys: Words = Field(
        (),
        repr=False,
        description="Accepted API keys, comma-separated: all models, no limits, unmetered. None: no key is asked for.",
    )
    require_key: bool = Field(
        False, description="Ask for a key even if FACELIGHT_API_KEYS is empty: `facelight keys` issues some."
    )
    allow_anonymous: bool = Field(False, description="Permit listening beyond this machine without API keys.")
    sync_timeout_s: float = Field(600, gt=0, description="How long a v1 call waits for its result before it gets 504.")
    max_output_megapixels: float = Field(
        64, gt=0, description="Limit of number_of_images x width x height of the result, in megapixels."
    )
    queue_limit: int = Field(1000, ge=1, description="Requests that may wait per model; more get 429.")
    queue_limit_per_key: int = Field(
        500, ge=1, description="Requests of one API key that may wait per model; more get 429."
    )
    fetch_allow_cidrs: Networks = Field(
        (), description="Private address ranges that image URLs and webhooks may point to, comma-separated CIDRs."
    )
    fetch_ca_file: Path | None = Field(
        None,
        description="PEM file of certificate authorities, such as a company's own, that the hosts of image URLs and of "
        "webhooks may have their certificates from, besides the public ones.",
    )
    fetch_user_agent: str = Field(
        USER_AGENT,
        description="User-Agent by which hosts of image URLs and of webhooks know this server; some want an address in "
        "it.",
    )
    fetches_per_key: int = Field(
        4, ge=1, description="Pictures that one process fetches for one key at the same time; others wait."
    )
    max_body_mb: int = Field(64, ge=1, description="Largest request body in MiB; more gets 413.")
    upload_quota_mb: int = Field(
        4096, ge=1, description="MiB that one key may upload to `/upload-asset` in 24 hours; more gets 429."
    )
    max_connections: int = Field(1000, ge=1, description="Connections that one process keeps open; more get 503.")
    page: bool = Field(True, description="Serve the page at `/` on which pictures can be made; `off` removes it.")
    cors_origins: Words = Field(
        (),
        description="Origins such as `https://app.example.com` whose pages may call the API from a browser, "
        "comma-separated; `*` is any. None: no pages may.",
    )
    access_log: bool = Field(
        True, description="Log one line per HTTP request: method, path, status, milliseconds, name of the API key."
    )
    drain_delay_s: float = Field(
        3,
        ge=0,
        description="After SIGTERM, how long requests are still accepted while `/health/ready` says 503 already.",
    )
    drain_timeout_s: int = Field(
        15, ge=1, description="After that, how long requests in progress may take; v1 calls that still wait get 504."
    )
    janitor_interval_s: float = Field(
        5, gt=0, description="Pause between two runs of the janitor, which requeues, repairs and deletes."
    )
    credits: float = Field(
        1_000_000, ge=0, allow_inf_nan=False, description="Balance shown to callers whose key is not metered."
    )
    credit_costs: Words = Field(
        tuple(f"{slug}=1" for slug in MODELS),
        description="Credits that a picture of a model costs, comma-separated. Metered keys pay them.",
    )

    _split = field_validator("fetch_allow_cidrs", mode="before")(split_words)

    @field_validator("api_keys")
    @classmethod
    def _sendable(cls, keys: tuple[str, ...]) -> tuple[str, ...]:
        if not all(_KEY.fullmatch(key) for key in keys):
            raise ValueError("API keys hold printable ASCII characters only, and no space; commas stand between them")
        return keys

    @field_validator("fetch_user_agent")
    @classmethod
    def _one_line(cls, user_agent: str) -> str:
        if not _USER_AGENT.fullmatch(user_agent):
            raise ValueError("must be 1 to 200 printable ASCII characters, without blanks around them")
        return user_agent

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            parts = urlsplit(origin)
            if origin != "*" and (
                parts.scheme not in ("http", "https") or origin != f"{parts.scheme}://{parts.netloc}"
            ):
                raise ValueError("must be origins such as https://app.example.com, without a path, or *")
        return origins

    @field_validator("credit_costs")
    @classmethod
    def _costs(cls, costs: tuple[str, ...]) -> tuple[str, ...]:
        for slug, _, cost in (word.partition("=") for word in costs):
            if slug not in MODELS or not _COST.fullmatch(cost):
                raise ValueError(f"must be such as {next(iter(MODELS))}=1.5, of models {', '.join(MODELS)}")
        return costs

    @field_validator("public_url", "presigned_endpoint")
    @classmethod
    def _absolute(cls, url: str | None) -> str | None:
        if not url:
            return None
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("must be an absolute http(s) URL without query, such as https://images.example.com")
        return url.rstrip("/")

    @model_validator(mode="after")
    def _presigns_for_a_bucket(self) -> Self:
        if self.presigned_endpoint and not S3_LOCATION.fullmatch(self.store_location):
            raise ValueError("FACELIGHT_PRESIGNED_ENDPOINT needs FACELIGHT_STORE to be s3://bucket/prefix")
        return self

    @model_validator(mode="after")
    def _trusts_readable_files(self) -> Self:
        for name, file in (("SSL_CERT_FILE", None), ("FACELIGHT_FETCH_CA_FILE", self.fetch_ca_file)):
            try:
                if file or name in os.environ:
                    trust(file)
            except OSError as error:  # also ssl.SSLError
                raise ValueError(f"{name}: no certificates can be read from it: {error.strerror or error}") from None
        return self

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        if not (self.asks_for_key or self.allow_anonymous or _is_loopback(self.host)):
            raise ValueError(
                f"refusing to listen on {self.host} without API keys: set FACELIGHT_API_KEYS or "
                "FACELIGHT_REQUIRE_KEY=true, or FACELIGHT_ALLOW_ANONYMOUS=true to serve everyone who can reach this "
                "machine"
            )
        return self

    @property
    def asks_for_key(self) -> bool:
        """Whether callers must send a key."""
        return self.require_key or bool(self.api_keys)

    def cost_of(self, slug: str, pictures: int) -> float:
        """Credits that a request for so many pictures of a model costs; 1 each if nothing is said of the model."""
        costs = dict(word.split("=") for word in self.credit_costs)
        return float(costs.get(slug, 1)) * pictures


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
