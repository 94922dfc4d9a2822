"""State and result of requests."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from server import answers
from server.auth import CallerDep, balance
from server.context import GatewayDep
from server.links import LinksDep
from server.lookup import find_record
from server.openapi import error_responses, failed_response
from server.schemas import FailedAnswer, ResultAnswer, StatusAnswer
from workers.records import Status

router = APIRouter(tags=["requests"], responses={**error_responses(401, 404, 503), **failed_response()})


@router.get("/v2/requests/{request_id}/status", operation_id="request_status", response_model=StatusAnswer)
def request_status(request_id: str, gateway: GatewayDep, caller: CallerDep, links: LinksDep) -> JSONResponse:
    """How far a request is. A failed one is answered with 422."""
    record = find_record(request_id, caller.owner, gateway)
    return _answer(answers.status(record, links, balance(caller, gateway)))


@router.get("/v2/requests/{request_id}", operation_id="request_result", response_model=ResultAnswer | StatusAnswer)
@router.get(
    "/v1/requests/{request_id}",
    operation_id="request_result_v1",
    response_model=ResultAnswer | StatusAnswer,
    summary="Request Result (poll_url)",
)
def request_result(request_id: str, gateway: GatewayDep, caller: CallerDep, links: LinksDep) -> JSONResponse:
    """The pictures of a request; its state while it is under way. A failed one is answered with 422."""
    record = find_record(request_id, caller.owner, gateway)
    if record.status is Status.COMPLETED:
        return _answer(answers.result(record, links, balance(caller, gateway)))
    return _answer(answers.status(record, links, balance(caller, gateway)))


def _answer(body: StatusAnswer | ResultAnswer | FailedAnswer) -> JSONResponse:
    return JSONResponse(body, 422 if body["status"] == "FAILED" else 200)
