"""One pair of routes per model: `POST /v1/<slug>` waits for the result, `POST /v2/<slug>` returns at once."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack
from typing import Final

from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response
from redis.exceptions import RedisError
from starlette.requests import ClientDisconnect

from models.catalog import MODELS
from models.model import Model
from server import responses
from server.dependencies import (
    CallerDep,
    ChangesDep,
    IdempotencyKeyDep,
    RequestsDep,
    SettingsDep,
    StoreDep,
    UrlsDep,
    may_submit,
)
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
from server.schemas import SubmitResponse
from server.urls import UrlBuilder
from workers.logs import bind_request_id
from workers.state.connection import CALL_S, wait_budget
from workers.state.record import Record, Status
from workers.store.base import Store

_log = logging.getLogger(__name__)
_OUTAGE_PAUSE_S: Final = 0.5
Endpoint = Callable[..., Awaitable[Response | SubmitResponse]]


def build_router() -> APIRouter:
    """The routes of every model of the catalog."""
    router = APIRouter(tags=["generate"])
    for model in MODELS.values():
        _add_routes(router, model)
    return router


def _add_routes(router: APIRouter, model: Model) -> None:
    errors = error_responses(400, 401, 403, 406, 409, 413, 429, 503)
    permission = [Depends(may_submit(model.slug))]
    router.add_api_route(
        f"/v1/{model.slug}",
        _generate_endpoint(model),
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
        _submit_endpoint(model),
        methods=["POST"],
        dependencies=permission,
        operation_id=f"submit_{model.slug}",
        summary=f"{model.title}: queue a request",
        description=f"{model.summary} Answers at once with the URLs to ask for the result.",
        responses={**errors, **submitted_response()},
        openapi_extra=request_body(model),
    )


def _submit_endpoint(model: Model) -> Endpoint:
    async def submit(
        request: Request, requests: RequestsDep, caller: CallerDep, urls: UrlsDep, idempotency_key: IdempotencyKeyDep
    ) -> SubmitResponse:
        new_id = str(uuid.uuid4())
        bind_request_id(new_id)
        body = await read_body(request, model.params)
        request_id = await requests.submit(new_id, model, body, caller, urls, idempotency_key)
        bind_request_id(request_id)
        return responses.submitted(request_id, urls)

    return submit


def _generate_endpoint(model: Model) -> Endpoint:
    async def generate(
        request: Request,
        response_headers: Response,
        settings: SettingsDep,
        requests: RequestsDep,
        changes: ChangesDep,
        store: StoreDep,
        caller: CallerDep,
        urls: UrlsDep,
        idempotency_key: IdempotencyKeyDep,
    ) -> Response:
        new_id = str(uuid.uuid4())
        bind_request_id(new_id)
        body = await read_body(request, model.params)

        def read_result() -> Response | None:
            record = requests.find(request_id, caller.owner)
            if not record.status.is_final:
                return None
            credits_left = caller.credit_balance() if record.status is Status.COMPLETED else 0.0
            return _final_response(record, credits_left, response_headers.headers, store, urls)

        with ExitStack() as subscriptions:
            # Subscribed before the request is enqueued, so that its completion cannot be missed.
            completed_event = subscriptions.enter_context(changes.ended(new_id))
            request_id = await requests.submit(new_id, model, body, caller, urls, idempotency_key)
            if request_id != new_id:  # repeated with its Idempotency-Key; it may have ended already
                bind_request_id(request_id)
                completed_event = subscriptions.enter_context(changes.ended(request_id))
                completed_event.set()
            result_task = asyncio.create_task(_wait_for_result(read_result, completed_event))
            disconnect_task = asyncio.create_task(_wait_for_disconnect(request))
            try:
                async with asyncio.timeout(settings.sync_timeout_s):
                    done, _ = await asyncio.wait({result_task, disconnect_task}, return_when=asyncio.FIRST_COMPLETED)
            except (TimeoutError, asyncio.CancelledError) as error:
                # The time limit, or the HTTP server's: it cancels what is still in progress when it shuts down.
                body_504 = responses.unfinished(request_id, urls)
                raise Unfinished(body_504["error"], extra=body_504) from error
            finally:
                result_task.cancel()
                disconnect_task.cancel()
            if result_task in done:
                return result_task.result()
            if idempotency_key is None:  # with one, the client can send the request again and get its result
                _log.info("cancelled: its client has disconnected")
                with wait_budget(CALL_S):
                    await run_sync(requests.cancel, request_id)
            raise ClientDisconnect

    return generate


def _final_response(
    record: Record, credits_left: float, headers: Mapping[str, str], store: Store, urls: UrlBuilder
) -> Response:
    """The response for a request that has ended: its error, its one picture, or JSON with several."""
    if record.status is Status.FAILED:
        return JSONResponse(responses.failed(record), 422, {**headers, "X-Request-Id": record.request_id})
    headers = {**headers, **responses.result_headers(record, credits_left)}
    if len(record.outputs) > 1:
        return JSONResponse(responses.result(record, urls, credits_left), 200, headers)
    data = store.read(record.outputs[0].name)
    if data is None:
        raise NotFound(f"Request {record.request_id} not found")
    return Response(data, 200, headers, record.outputs[0].media_type)


async def _wait_for_result(read_result: Callable[[], Response | None], completed_event: asyncio.Event) -> Response:
    """Call `read_result` at each event until it returns a response. Retries while Redis cannot be used."""
    while True:
        await completed_event.wait()
        completed_event.clear()
        try:
            with wait_budget(CALL_S):  # of each try: earlier calls of this HTTP request may have used up theirs
                response = await run_sync(read_result)
        except RedisError:
            await asyncio.sleep(_OUTAGE_PAUSE_S)
            completed_event.set()
            continue
        if response is not None:
            return response


async def _wait_for_disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
