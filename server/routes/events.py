"""Server-sent events: the states and the progress of a request as they come about. An extension of the hosted API."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Final, cast

from anyio.to_thread import run_sync
from fastapi import APIRouter, Header, Request
from fastapi.responses import Response
from fastapi.sse import EventSourceResponse, format_sse_event
from redis.exceptions import RedisError

from server import responses
from server.changes import ChangeListener
from server.dependencies import CallerDep, ChangesDep, RequestsDep, UrlsDep
from server.errors import NotFound
from server.head import method_of
from server.http.drain import Drain, drain_of
from server.openapi import error_responses, events_responses
from server.schemas import FailedResponse, StatusResponse
from workers.state.connection import CALL_S, wait_budget
from workers.state.record import Record, Status

router = APIRouter(tags=["requests"])
HEARTBEAT_S: Final = 15.0
"""Seconds without an event after which a comment is sent: proxies end connections that are silent for a minute."""
_OUTAGE_PAUSE_S: Final = 2.0
_HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
_ORDER: Final = {Status.PROCESSING: 0, Status.QUEUED: 1, Status.COMPLETED: 2, Status.FAILED: 2}
"""States in the order in which they follow on the begin of an attempt."""

_NEXT_S, _AHEAD_PER_S = 1.0, 4
"""How often a request's place in the queue is read: those of the first four every second, behind them every n / 4
seconds, and no less often than a comment is sent. No message tells it, since a claimed request would have to tell all
that wait."""

Body = StatusResponse | FailedResponse
Read = Callable[[], tuple[Record, Body]]
"""Reads a request: its record, and the body of its status. Raises `NotFound` or `RedisError`."""


@router.get(
    "/v2/requests/{request_id}/events",
    operation_id="request_events",
    response_class=Response,
    responses={**events_responses(), **error_responses(401, 404, 503)},
)
async def request_events(
    request_id: str,
    request: Request,
    requests: RequestsDep,
    changes: ChangesDep,
    caller: CallerDep,
    urls: UrlsDep,
    last_event_id: Annotated[str | None, Header(alias="Last-Event-ID")] = None,
) -> Response:
    """Follow a request: an extension, unknown to the hosted API. An event for every change of state or progress.

    Also for a better place in the queue, which is read every second near its head, and less often behind.

    The data of an event is what `…/status` answers at that moment. The stream ends with the final state; a client that
    was cut off comes back with `Last-Event-ID`, and is told the present state. Comments keep the connection alive.
    """

    def read() -> tuple[Record, Body]:
        record = requests.find(request_id, caller.owner)
        credits_left = caller.credit_balance() if record.status is Status.COMPLETED else 0.0
        return record, responses.status(record, urls, credits_left, requests.position(record))

    first = await run_sync(read)
    if first[0].status.is_final and event_id(first[0]) == last_event_id:
        return Response(status_code=204, headers=_HEADERS)  # or an EventSource would come back for ever
    if method_of(request) == "HEAD":
        return EventSourceResponse((), headers=_HEADERS)
    return EventSourceResponse(_events(read, first, changes, drain_of(request)), headers=_HEADERS)


def event_id(record: Record) -> str:
    """The id of an event: attempt, place of the state in it, step. Each number grows while those before it stay."""
    return f"{record.attempt}-{_ORDER[record.status]}-{record.step}"


async def _events(
    read: Read, first: tuple[Record, Body], changes: ChangeListener, drain: Drain
) -> AsyncIterator[bytes]:
    """Encoded events, from the state that was read first to the final one. Changes at one time become one event."""
    (record, body), sent, told = first, "", None
    with changes.changed(record.request_id) as changed, drain.wakes(changed):
        while True:
            position = cast("int | None", body.get("queue_position"))
            # A request that is claimed between two reads has no place any more: that alone is no news.
            if event_id(record) != sent or position not in (told, None):
                sent, told = event_id(record), position
                yield format_sse_event(event="status", data_str=json.dumps(body), id=event_id(record))
            if record.status.is_final:
                return
            if drain.closing:
                yield format_sse_event(comment="this process ends: connect again")
                return
            while not await _is_set(changed, _quiet_s(position)):
                yield format_sse_event(comment="")
                if position is not None:
                    break
            changed.clear()
            try:
                with wait_budget(CALL_S):  # of each read: the call as a whole has no end
                    record, body = await run_sync(read)
            except NotFound:  # it has expired
                return
            except RedisError:
                await asyncio.sleep(_OUTAGE_PAUSE_S)
                changed.set()


def _quiet_s(position: int | None) -> float:
    """Seconds to wait for a change before something is sent, or the place in the queue is read."""
    return HEARTBEAT_S if position is None else min(HEARTBEAT_S, max(_NEXT_S, position / _AHEAD_PER_S))


async def _is_set(event: asyncio.Event, timeout_s: float) -> bool:
    """Wait for an event; False if the time is over."""
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return False
    return True
