"""What a webhook says, and its signatures: Standard Webhooks, https://www.standardwebhooks.com."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from standardwebhooks import Webhook as Signer

from server import responses
from server.settings import GatewaySettings
from server.urls import UrlBuilder
from workers.state.keys import Keys
from workers.state.outbox import Message
from workers.state.record import Record, Status, WebhookEvent
from workers.state.records import Records
from workers.state.webhook_secrets import WebhookSecrets

if TYPE_CHECKING:
    from workers.store.presigned import PresignedUrls

_TYPES: Final = {Status.COMPLETED: "request.completed", Status.FAILED: "request.failed"}


@dataclass(frozen=True)
class SignedMessage:
    """A webhook that is ready to be sent."""

    url: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class MessageSigner:
    """Composes and signs a message anew for every try, from the record of its request."""

    settings: GatewaySettings
    records: Records
    keys: Keys
    secrets: WebhookSecrets
    presigned: PresignedUrls | None
    clock: Callable[[], float]

    def sign(self, message: Message) -> SignedMessage | None:
        """The message, signed now with every secret of the request's key; None if the request has expired."""
        record = self.records.get(message.request_id)
        if record is None or record.webhook is None:
            return None
        key = self.keys.get(record.owner)
        credits_left = self.settings.credits if key is None or key.credits is None else key.credits
        urls = UrlBuilder(self.settings.public_url or record.webhook.base_url, (), self.presigned)
        body = json.dumps(payload(message.event, record, urls, credits_left))
        message_id, now = webhook_id(message), datetime.fromtimestamp(int(self.clock()), UTC)
        signers = [Signer(secret) for secret in self.secrets.get(key.id if key else None)]
        headers = {
            "Content-Type": "application/json",
            "webhook-id": message_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": " ".join(signer.sign(message_id, now, body) for signer in signers),
        }
        return SignedMessage(record.webhook.url, headers, body.encode())


def webhook_id(message: Message) -> str:
    """The id by which a receiver knows a message that it has received before."""
    return f"msg_{message.request_id}_{message.event}"


def payload(event: WebhookEvent, record: Record, urls: UrlBuilder, credits_left: float) -> dict[str, object]:
    """What `GET /v2/requests/{id}` answers at the event, its type, and when it came about."""
    if event is WebhookEvent.STARTED:  # whatever has become of the request meanwhile
        record = replace(record, status=Status.PROCESSING, step=0, total=0)
    at = record.started_at if event is WebhookEvent.STARTED else record.finished_at
    return {
        "type": _TYPES.get(record.status, "request.started"),
        "timestamp": datetime.fromtimestamp(at or 0.0, UTC).isoformat().replace("+00:00", "Z"),
        **responses.answer(record, urls, credits_left),
    }
