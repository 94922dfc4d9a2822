"""State, result and end of requests."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from server import responses
from server.auth import balance, caller_of
from server.dependencies import gateway_of
from server.errors import NotFound
from server.openapi import error_responses, failed_response
from server.requests import cancel, find_record
from server.schemas import FailedResponse, ResultResponse, StatusResponse
from server.urls import urls_of
from workers.state.record import Record, Status

router = APIRouter(tags=["requests"], responses=error_responses(401, 404, 503))
_FAILED: Final = failed_response()


@router.get(
    "/v2/requests/{request_id}/status", operation_id="request_status", response_model=StatusResponse, responses=_FAILED
)
def request_status(request_id: str, request: Request) -> JSONResponse:
    """How far a request is. A failed one is answered with 422."""
    record = find_record(request_id, caller_of(request).owner, gateway_of(request))
    return _answer(responses.status(record, urls_of(request), _credits_left(record, request)))


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
def request_result(request_id: str, request: Request) -> JSONResponse:
    """The pictures of a request; its state while it is under way. A failed one is answered with 422."""
    record = find_record(request_id, caller_of(request).owner, gateway_of(request))
    tell = responses.result if record.status is Status.COMPLETED else responses.status
    return _answer(tell(record, urls_of(request), _credits_left(record, request)))


@router.delete(
    "/v2/requests/{request_id}",
    operation_id="cancel_request",
    response_model=StatusResponse | FailedResponse,
    responses={202: {"model": StatusResponse, "description": "The worker ends the request within a step."}},
)
def cancel_request(request_id: str, request: Request) -> JSONResponse:
    """Cancel a request: an extension, unknown to the hosted API. Answers with the state that the request is in now.

    One that waits is FAILED at once; one that a worker is at is so within a denoise step (202 until then); one that
    has ended stays as it is. Credits are given back.
    """
    gateway = gateway_of(request)
    record = cancel(find_record(request_id, caller_of(request).owner, gateway).request_id, gateway)
    if record is None:
        raise NotFound(f"Request {request_id} not found")
    body = responses.status(record, urls_of(request), _credits_left(record, request))
    return JSONResponse(body, 200 if record.status.is_final else 202)


def _credits_left(record: Record, request: Request) -> float:
    """The caller's balance; 0 without asking for it, if the request has not come so far that it is told."""
    return balance(caller_of(request), gateway_of(request)) if record.status is Status.COMPLETED else 0.0


def _answer(body: StatusResponse | ResultResponse | FailedResponse) -> JSONResponse:
    return JSONResponse(body, 422 if body["status"] == "FAILED" else 200)
