"""Settings of the gateway, read once at start from `FACELIGHT_*` variables and passed down."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Annotated, Final, Self
from urllib.parse import urlsplit

from pydantic import Field, IPvAnyNetwork, field_validator, model_validator
from pydantic_settings import NoDecode

from workers.settings import CommonSettings, Words, split_words

Networks = Annotated[tuple[IPvAnyNetwork, ...], NoDecode]
"""A comma-separated list of CIDR ranges in the environment."""
_KEY: Final = re.compile(r"[!-~]+")


class GatewaySettings(CommonSettings):
    """What the gateway needs besides."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65_535, description="Port to listen on.")
    public_url: str | None = Field(
        None, description="Address clients reach the server by. Not set: taken from each request's headers."
    )
    api_keys: Words = Field((), description="Accepted API keys, comma-separated. None: no key is asked for.")
    allow_anonymous: bool = Field(False, description="Permit listening beyond this machine without API keys.")
    sync_timeout_s: float = Field(600, gt=0, description="How long a v1 call waits for its result before it gets 504.")
    max_output_megapixels: float = Field(
        64, gt=0, description="Limit of number_of_images x width x height of the result, in megapixels."
    )
    queue_limit: int = Field(1000, ge=1, description="Requests that may wait per model; more get 429.")
    fetch_allow_cidrs: Networks = Field(
        (), description="Private address ranges that image URLs may point to, comma-separated CIDRs."
    )
    max_body_mb: int = Field(64, ge=1, description="Largest request body in MiB; more gets 413.")
    janitor_interval_s: float = Field(5, gt=0, description="Pause between two rounds of repairs and cleaning.")
    credits: float = Field(
        1_000_000, ge=0, allow_inf_nan=False, description="Balance shown to clients. Nothing is metered."
    )

    _split = field_validator("api_keys", "fetch_allow_cidrs", mode="before")(split_words)

    @field_validator("api_keys")
    @classmethod
    def _sendable(cls, keys: tuple[str, ...]) -> tuple[str, ...]:
        if not all(_KEY.fullmatch(key) for key in keys):
            raise ValueError("an API key may hold printable ASCII characters only, and no space")
        return keys

    @field_validator("public_url")
    @classmethod
    def _absolute(cls, url: str | None) -> str | None:
        if not url:
            return None
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("must be an absolute http(s) URL without query, such as https://images.example.com")
        return url.rstrip("/")

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        if not (self.api_keys or self.allow_anonymous or _is_loopback(self.host)):
            raise ValueError(
                f"refusing to listen on {self.host} without API keys: set FACELIGHT_API_KEYS, or "
                "FACELIGHT_ALLOW_ANONYMOUS=true to serve everyone who can reach this machine"
            )
        return self


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
