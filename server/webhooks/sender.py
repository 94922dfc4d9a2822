"""Sends the messages of the outbox, each from one gateway process at a time.

A message is tried at once and after each of `PAUSES_S`; a receiver may ask for a longer pause by Retry-After. 2xx is
success, 410 ends the tries, a redirect is not followed. Receivers are served side by side, with a few messages at a
time each, so that a slow one delays its own messages only.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final

import httpx
from anyio.to_thread import run_sync
from redis.exceptions import RedisError

from server.changes import ChangeListener
from server.intake.guard import Blocked, GuardedClient, explain
from server.webhooks.message import MessageSigner, SignedMessage
from workers.errors import OtherVersion, StoreUnavailable
from workers.state.outbox import Message, Outbox

_log = logging.getLogger(__name__)
PAUSES_S: Final = (5, 30, 120, 300, 900, 1800)
"""Before each try but the first; all of them fit into the hour for which a result is kept."""
TRY_S: Final = 15.0
_SLOTS: Final = 64
"""Messages that one process sends at the same time."""
_PER_RECEIVER: Final = 4
_OUTAGE_PAUSE_S: Final = 5.0
_LAST_TRIES_S: Final = 2.0
"""How long messages may take that are being sent when the process ends; others send them when their lease is over."""


class WebhookSender:
    """Leases what is due, and sends it; woken by whatever writes to the outbox."""

    def __init__(self, outbox: Outbox, signer: MessageSigner, client: GuardedClient, changes: ChangeListener) -> None:
        self._outbox = outbox
        self._signer = signer
        self._client = client
        self._changes = changes
        self._sending: Counter[str] = Counter()
        """Messages that are being sent, by receiver."""
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Send until cancelled."""
        with self._changes.outbox() as due:
            try:
                while True:
                    due.clear()
                    left_s = await self._send_due(due)
                    with suppress(TimeoutError):
                        async with asyncio.timeout(left_s):
                            await due.wait()
            finally:
                if self._tasks:
                    await asyncio.wait(self._tasks, timeout=_LAST_TRIES_S)
                for task in self._tasks:
                    task.cancel()

    async def _send_due(self, due: asyncio.Event) -> float | None:
        """Begin to send what is due; returns in how many seconds to look again, None for not before `due` is set."""
        slots = _SLOTS - self._sending.total()
        if not slots:
            return None
        try:
            messages, left_s = await run_sync(self._outbox.lease, slots, _PER_RECEIVER, dict(self._sending))
        except RedisError as error:
            _log.warning("webhooks wait for Redis: %s", error)
            return _OUTAGE_PAUSE_S
        except Exception:  # noqa: BLE001 - whatever the outbox holds must not end the process' sender
            _log.exception("the outbox cannot be read")
            return _OUTAGE_PAUSE_S
        for message in messages:
            self._sending[message.receiver] += 1
            task = asyncio.create_task(self._send(message))
            self._tasks.add(task)
            task.add_done_callback(lambda done, message=message: self._done(done, message, due))  # type: ignore[misc]
        return left_s

    def _done(self, task: asyncio.Task[None], message: Message, due: asyncio.Event) -> None:
        self._tasks.discard(task)
        self._sending[message.receiver] -= 1
        self._sending += Counter()  # without receivers that nothing is sent to
        due.set()
        if not task.cancelled() and (error := task.exception()):
            _log.error("a webhook could not be sent", exc_info=error, extra={"request_id": message.request_id})

    async def _send(self, message: Message) -> None:
        """Try once; without Redis nothing is noted, and the message is sent again when its lease is over."""
        try:
            signed = await run_sync(self._signer.sign, message)
            if signed is None:
                await run_sync(self._outbox.give_up, message, "the request has expired")
                return
            status, answer, retry_after_s = await self._post(signed)
            if 200 <= status < 300:
                await run_sync(self._outbox.sent, message)
            elif status == HTTPStatus.GONE or message.tries >= len(PAUSES_S):
                _log.warning("a webhook is given up: %s", answer, extra={"request_id": message.request_id})
                await run_sync(self._outbox.give_up, message, answer)
            else:
                pause_s = max(PAUSES_S[message.tries], retry_after_s)
                _log.info(
                    "a webhook is tried again in %d s: %s", pause_s, answer, extra={"request_id": message.request_id}
                )
                await run_sync(self._outbox.postpone, message, pause_s, answer)
        except (RedisError, StoreUnavailable, OtherVersion) as error:
            _log.warning("a webhook waits: %s", error, extra={"request_id": message.request_id})

    async def _post(self, signed: SignedMessage) -> tuple[int, str, int]:
        """Status (0: none came), what to say of it, and the seconds that the receiver wants to be left alone."""
        try:
            async with (
                asyncio.timeout(TRY_S),
                self._client.stream("POST", httpx.URL(signed.url), signed.headers, signed.body) as response,
            ):
                answer = f"answered with status {response.status_code}"
                return response.status_code, answer, _retry_after(response.headers.get("retry-after", ""))
        except TimeoutError:
            return 0, f"no answer within {TRY_S:g} s", 0
        except (Blocked, httpx.InvalidURL, httpx.HTTPError, ValueError, OSError) as error:
            return 0, explain(error), 0


def _retry_after(header: str) -> int:
    """Seconds from now (RFC 9110, 10.2.3); 0 without a header, or for a malformed one."""
    if header.strip().isdecimal():
        return int(header.strip()[:9])
    try:
        at = parsedate_to_datetime(header)
    except ValueError:
        return 0
    return max(0, math.ceil((at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds()))
