"""Where a caller wants to be told of a request: extensions of the body, which are no parameters of a model."""

from __future__ import annotations

import asyncio
from hashlib import sha256
from typing import Annotated, Any, Final

import httpx
from pydantic import BaseModel, BeforeValidator, Field, StringConstraints, WithJsonSchema

from models.params import extension
from server.errors import InvalidParameters
from server.intake.body import Body
from server.intake.guard import CONNECT_S, Blocked, GuardedClient, explain
from server.intake.params import validate
from server.schemas import FieldError
from workers.state.record import Webhook, WebhookEvent

_MAX_URL: Final = 2048
_NAMES: Final = [event.value for event in WebhookEvent]
_DEFAULT: Final = (WebhookEvent.COMPLETED,)


def _split(value: Any) -> Any:
    return [word.strip() for word in value.split(",")] if isinstance(value, str) else value


class WebhookFields(BaseModel):
    """The fields of a body; null counts as absent."""

    webhook: Annotated[
        str | None,
        StringConstraints(strip_whitespace=True, max_length=_MAX_URL),
        WithJsonSchema({"type": "string", "format": "webhook-url", "maxLength": _MAX_URL}),
    ] = Field(
        None,
        json_schema_extra=extension,
        description="Extension, unknown to the hosted API: http(s) URL that is sent the result by POST once the "
        "request has ended. Signed as Standard Webhooks are.",
    )
    webhook_events_filter: Annotated[
        tuple[WebhookEvent, ...] | None,
        BeforeValidator(_split),
        WithJsonSchema(
            {
                "anyOf": [
                    {"type": "array", "items": {"type": "string", "enum": _NAMES}, "minItems": 1, "maxItems": 8},
                    {"type": "string", "pattern": f"^({'|'.join(_NAMES)})(,({'|'.join(_NAMES)}))?$"},
                ]
            }
        ),
    ] = Field(
        None,
        min_length=1,
        max_length=8,
        json_schema_extra=extension,
        description="Extension, unknown to the hosted API: what `webhook` is told, as a list or with commas: `started` "
        "when a worker begins, `completed` when the request has ended, failures included. `completed` by default.",
    )


class WebhookIntake:
    """Reads and checks where a caller wants to be told."""

    def __init__(self, client: GuardedClient) -> None:
        self._client = client

    async def parse(self, body: Body, default_url: str | None, owner: str, base_url: str) -> Webhook | None:
        """The webhook that a body asks for, or that its key has by default; None for neither.

        Raises `InvalidParameters`, also for a URL of the body that the guard lets nothing through to now. It is checked
        anew whenever something is sent there.
        """
        fields = validate(WebhookFields, body)
        if fields.webhook is not None:
            await self._check(fields.webhook)
        url = fields.webhook or default_url
        if url is None:
            return None
        return Webhook(url, fields.webhook_events_filter or _DEFAULT, receiver_of(owner, url), base_url)

    async def _check(self, url: str) -> None:
        try:
            async with asyncio.timeout(CONNECT_S):
                await self._client.check(httpx.URL(url))
        except (TimeoutError, Blocked, httpx.InvalidURL, ValueError, OSError) as error:
            raise InvalidParameters([FieldError(field="webhook", message=explain(error))]) from error


def receiver_of(owner: str, url: str) -> str:
    """Who is told: 16 hexadecimal digits of the SHA-256 of the owner and the URL's origin."""
    parts = httpx.URL(url)
    return sha256(f"{owner} {parts.scheme}://{parts.netloc.decode()}".encode()).hexdigest()[:16]
