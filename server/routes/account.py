"""The account of an API key."""

from __future__ import annotations

from fastapi import APIRouter

from server.dependencies import CallerDep
from server.openapi import error_responses
from server.schemas import CreditsResponse

router = APIRouter(tags=["account"])


@router.get("/v1/get-user-credits", operation_id="get_user_credits", responses=error_responses(401, 503))
def get_user_credits(caller: CallerDep) -> CreditsResponse:
    """The balance of the key. Clients also use this to test their key."""
    return {"credits": caller.credit_balance(), "free-credits": 0.0}
