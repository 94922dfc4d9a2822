"""State, result and cancellation of requests."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Annotated, Final

from anyio.to_thread import run_sync
from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse
from redis.exceptions import RedisError

from server import responses
from server.dependencies import CallerDep, ChangesDep, RequestsDep, UrlsDep
from server.errors import NotFound
from server.http.drain import drain_of
from server.openapi import error_responses, failed_response
from server.schemas import FailedResponse, ResultResponse, StatusResponse
from workers.state.connection import CALL_S, wait_budget
from workers.state.record import Status

_FAILED: Final = failed_response()
_LONGEST_WAIT_S: Final = 60
_OUTAGE_PAUSE_S: Final = 0.5

router = APIRouter(tags=["requests"], responses=error_responses(401, 404, 503))


@router.get(
    "/v2/requests/{request_id}/status",
    operation_id="request_status",
    response_model=StatusResponse,
    responses={**_FAILED, **error_responses(400)},
)
async def request_status(
    request_id: str,
    request: Request,
    requests: RequestsDep,
    changes: ChangesDep,
    caller: CallerDep,
    urls: UrlsDep,
    wait: Annotated[
        float,
        Query(
            ge=0,
            le=_LONGEST_WAIT_S,
            allow_inf_nan=False,
            description="Extension: seconds to wait for the end of the request before its state is told.",
        ),
    ] = 0.0,
) -> JSONResponse:
    """How far a request is. A failed one is answered with 422."""

    def read() -> tuple[bool, JSONResponse]:
        record = requests.find(request_id, caller.owner)
        credits_left = caller.credit_balance() if record.status is Status.COMPLETED else 0.0
        body = responses.status(record, urls, credits_left, requests.position(record))
        return record.status.is_final, _response(body)

    if not wait:
        return (await run_sync(read))[1]
    drain, until = drain_of(request), time.monotonic() + wait
    with changes.ended(request_id) as ended, drain.wakes(ended):
        is_final, response = await run_sync(read)
        while not is_final and not drain.closing and (left_s := until - time.monotonic()) > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await ended.wait()
            ended.clear()
            try:
                with wait_budget(CALL_S):  # of each read: waiting does not use it up
                    is_final, response = await run_sync(read)
            except RedisError:
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(_OUTAGE_PAUSE_S)
                ended.set()
        return response


@router.get(
    "/v2/requests/{request_id}",
    operation_id="request_result",
    response_model=ResultResponse | StatusResponse,
    responses=_FAILED,
)
@router.get(
    "/v1/requests/{request_id}",
    operation_id="request_result_v1",
    response_model=ResultResponse | StatusResponse,
    responses=_FAILED,
    summary="Request Result (poll_url)",
)
def request_result(request_id: str, requests: RequestsDep, caller: CallerDep, urls: UrlsDep) -> JSONResponse:
    """The pictures of a request; its state while it is under way. A failed one is answered with 422."""
    record = requests.find(request_id, caller.owner)
    credits_left = caller.credit_balance() if record.status is Status.COMPLETED else 0.0
    return _response(responses.answer(record, urls, credits_left))


@router.delete(
    "/v2/requests/{request_id}",
    operation_id="cancel_request",
    response_model=StatusResponse | FailedResponse,
    responses={202: {"model": StatusResponse, "description": "The worker ends the request within a step."}},
)
def cancel_request(request_id: str, requests: RequestsDep, caller: CallerDep, urls: UrlsDep) -> JSONResponse:
    """Cancel a request: an extension, unknown to the hosted API. Answers with the state that the request is in now.

    One that waits is FAILED at once; one that a worker is at is so within a denoise step (202 until then); one that
    has ended stays as it is. Credits are given back.
    """
    record = requests.cancel(requests.find(request_id, caller.owner).request_id)
    if record is None:
        raise NotFound(f"Request {request_id} not found")
    credits_left = caller.credit_balance() if record.status is Status.COMPLETED else 0.0
    return JSONResponse(responses.status(record, urls, credits_left), 200 if record.status.is_final else 202)


def _response(body: StatusResponse | ResultResponse | FailedResponse) -> JSONResponse:
    return JSONResponse(body, 422 if body["status"] == "FAILED" else 200)
