"""What clients ask about their account."""

from __future__ import annotations

from fastapi import APIRouter, Request

from server.auth import balance, caller_of
from server.dependencies import gateway_of
from server.openapi import error_responses
from server.schemas import CreditsResponse

router = APIRouter(tags=["account"])


@router.get("/v1/get-user-credits", operation_id="get_user_credits", responses=error_responses(401, 503))
def get_user_credits(request: Request) -> CreditsResponse:
    """The balance of the key. Clients also use this to test their key."""
    return {"credits": balance(caller_of(request), gateway_of(request)), "free-credits": 0.0}
