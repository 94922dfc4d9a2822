"""`POST /v1/<model>` waits for the pictures, `POST /v2/<model>` answers at once; one pair per model."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import ExitStack
from functools import partial
from typing import Any, Final, NoReturn

from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response
from redis.exceptions import RedisError
from starlette.requests import ClientDisconnect

from models.catalog import MODELS, Model
from server import responses
from server.auth import Caller, balance, caller_of, may_submit
from server.dependencies import Gateway, gateway_of
from server.errors import NotFound, Unfinished
from server.intake.body import read_body
from server.openapi import (
    error_responses,
    failed_response,
    picture_response,
    request_body,
    submitted_response,
    unfinished_response,
)
from server.requests import IdempotencyKey, cancel, check_key, find_record, submit
from server.schemas import SubmitResponse
from server.urls import UrlBuilder, urls_of
from workers.state.connection import CALL_S, wait_budget
from workers.state.record import Record, Status

_log = logging.getLogger(__name__)
_OUTAGE_PAUSE_S: Final = 0.5
Endpoint = Callable[..., Awaitable[Response | SubmitResponse]]


def build_router() -> APIRouter:
    """The operations of every model of the catalog."""
    router = APIRouter(tags=["generate"])
    for model in MODELS.values():
        _add_operations(router, model)
    return router


def _add_operations(router: APIRouter, model: Model) -> None:
    errors = error_responses(400, 401, 403, 406, 409, 413, 429, 503)
    permission = [Depends(may_submit(model.slug))]
    router.add_api_route(
        f"/v1/{model.slug}",
        _waiting(model),
        methods=["POST"],
        dependencies=permission,
        operation_id=f"run_{model.slug}",
        summary=f"{model.title}: wait for the pictures",
        description=f"{model.summary} One picture comes back as it is, several as JSON with their URLs.",
        response_class=Response,
        responses={**errors, **picture_response(), **failed_response(), **unfinished_response()},
        openapi_extra=request_body(model),
    )
    router.add_api_route(
        f"/v2/{model.slug}",
        _queued(model),
        methods=["POST"],
        dependencies=permission,
        operation_id=f"submit_{model.slug}",
        summary=f"{model.title}: queue a request",
        description=f"{model.summary} Answers at once with the URLs to ask for the result.",
        responses={**errors, **submitted_response()},
        openapi_extra=request_body(model),
    )


def _queued(model: Model) -> Endpoint:
    async def queue(request: Request, idempotency_key: IdempotencyKey = None) -> SubmitResponse:
        check_key(idempotency_key)
        gateway, owner, urls = gateway_of(request), caller_of(request).owner, urls_of(request)
        body = await read_body(request, model.params)
        request_id = await submit(_new_request_id(), model, body, owner, gateway, urls, idempotency_key)
        return responses.submitted(request_id, urls)

    return queue


def _new_request_id() -> str:
    return str(uuid.uuid4())


def _waiting(model: Model) -> Endpoint:
    async def generate(request: Request, told: Response, idempotency_key: IdempotencyKey = None) -> Response:
        check_key(idempotency_key)
        gateway, caller, urls = gateway_of(request), caller_of(request), urls_of(request)
        body, new_id = await read_body(request, model.params), _new_request_id()
        with ExitStack() as waiting:
            # Registered before there is a request: its end cannot be missed, and nobody has to look for it before.
            may_have_ended = waiting.enter_context(gateway.completions.subscribe(new_id))
            request_id = await submit(new_id, model, body, caller.owner, gateway, urls, idempotency_key)
            if request_id != new_id:
                may_have_ended = waiting.enter_context(gateway.completions.subscribe(request_id))
                may_have_ended.set()
            look = partial(_result, request_id, caller, told, gateway, urls)
            gone = _departure(request, request_id, idempotency_key is None, gateway)
            return await _finished(request_id, _once_ended(look, may_have_ended), gone, gateway, urls)

    return generate


async def _finished(
    request_id: str,
    result: Coroutine[Any, Any, Response],
    gone: Coroutine[Any, Any, NoReturn],
    gateway: Gateway,
    urls: UrlBuilder,
) -> Response:
    """The answer for a request once it has ended; raises `Unfinished` when that takes too long.

    A server that is told to stop cancels those who still wait when it has waited long enough itself. `gone` raises as
    soon as the client is not there any more.
    """
    ended, left = asyncio.ensure_future(result), asyncio.ensure_future(gone)
    try:
        async with asyncio.timeout(gateway.settings.sync_timeout_s):
            await asyncio.wait({ended, left}, return_when=asyncio.FIRST_COMPLETED)
        return ended.result() if ended.done() else left.result()
    except (TimeoutError, asyncio.CancelledError) as error:
        answer = responses.unfinished(request_id, urls)
        raise Unfinished(answer["error"], extra=answer) from error
    finally:
        ended.cancel()
        left.cancel()


async def _departure(request: Request, request_id: str, alone: bool, gateway: Gateway) -> NoReturn:
    """Wait until the client has hung up. Its request is cancelled then, if nobody else can know of it."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    if alone:
        _log.info("%s is cancelled: its client has left", request_id)
        with wait_budget(CALL_S):
            await run_sync(cancel, request_id, gateway)
    raise ClientDisconnect


async def _once_ended(look: Callable[[], Response | None], may_have_ended: asyncio.Event) -> Response:
    """What `look` finds once it finds something. Outages of Redis are waited out: the request has been accepted."""
    while True:
        await may_have_ended.wait()
        may_have_ended.clear()
        try:
            with wait_budget(CALL_S):  # of each look: the call may have waited for minutes, and for Redis before
                found = await run_sync(look)
        except RedisError:
            await asyncio.sleep(_OUTAGE_PAUSE_S)
            may_have_ended.set()
            continue
        if found is not None:
            return found


def _result(request_id: str, caller: Caller, told: Response, gateway: Gateway, urls: UrlBuilder) -> Response | None:
    """The answer for a request that has ended, with the headers that were `told` before; None while it goes on."""
    record = find_record(request_id, caller.owner, gateway)
    if not record.status.is_final:
        return None
    if record.status is Status.FAILED:
        return JSONResponse(responses.failed(record), 422, {**told.headers, "X-Request-Id": request_id})
    credits_left = balance(caller, gateway)
    headers = {**told.headers, **responses.result_headers(record, credits_left)}
    if len(record.outputs) > 1:
        return JSONResponse(responses.result(record, urls, credits_left), 200, headers)
    return _picture(record, headers, gateway)


def _picture(record: Record, headers: dict[str, str], gateway: Gateway) -> Response:
    output = record.outputs[0]
    data = gateway.store.read(output.name)
    if data is None:
        raise NotFound(f"Request {record.request_id} not found")
    return Response(data, 200, headers, output.media_type)
