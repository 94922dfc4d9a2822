"""What clients ask about their account."""

from __future__ import annotations

from fastapi import APIRouter

from server.auth import CallerDep, balance
from server.context import GatewayDep
from server.openapi import error_responses
from server.schemas import CreditsAnswer

router = APIRouter(tags=["account"])


@router.get("/v1/get-user-credits", operation_id="get_user_credits", responses=error_responses(401, 503))
def get_user_credits(gateway: GatewayDep, caller: CallerDep) -> CreditsAnswer:
    """The balance of the key. Clients also use this to test their key."""
    return {"credits": balance(caller, gateway), "free-credits": 0.0}
