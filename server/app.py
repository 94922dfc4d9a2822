"""The gateway's ASGI application."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.telemetry import TelemetryConfig

from server.dependencies import build_gateway
from server.errors import add_error_handlers
from server.head import HeadAsGet
from server.http.drain import Drain
from server.http.middleware import BodyLimit, RedisWaitBudget, RequestLog, ResponseHeadersMiddleware, SpanPath
from server.maintenance import run_janitor
from server.openapi import DESCRIPTION, EXPOSED_HEADERS, document
from server.routes import account, docs, events, files, generate, health, page, requests, uploads
from server.settings import GatewaySettings
from workers.state.connection import CALL_S
from workers.traces import tracer_provider

if TYPE_CHECKING:
    from server.metrics.calls import CallMetrics

_CORS: Final[dict[str, Any]] = {
    "allow_methods": ("GET", "HEAD", "POST", "DELETE"),
    "allow_headers": (
        "x-api-key",
        "Authorization",
        "Content-Type",
        "Idempotency-Key",
        "Range",
        "Last-Event-ID",
        "traceparent",
        "tracestate",
    ),
    "expose_headers": EXPOSED_HEADERS,
}


def create_app(settings: GatewaySettings, metrics: CallMetrics | None = None) -> FastAPI:
    """Build the application. Connections and files are opened when it starts. `metrics` counts its calls."""
    app = FastAPI(
        title="facelight",
        version=version("facelight"),
        description=DESCRIPTION,
        lifespan=partial(_lifespan, settings, metrics),
        redirect_slashes=False,
        openapi_url=None,  # see `server.routes.docs`
        docs_url=None,  # the framework's own page loads its scripts from elsewhere; see `server.routes.docs`
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
        telemetry=_telemetry(),
    )
    app.openapi = partial(document, app, settings.asks_for_key)  # type: ignore[method-assign]  # as FastAPI documents
    app.state.drain = Drain()
    app.add_middleware(HeadAsGet)
    app.add_middleware(RedisWaitBudget, seconds=CALL_S)
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_mb * 1024**2)
    if settings.cors_origins:
        app.add_middleware(CORSMiddleware, allow_origins=settings.cors_origins, **_CORS)
    app.add_middleware(ResponseHeadersMiddleware, drain=app.state.drain)
    add_error_handlers(app)
    # Routes are matched in this order, so the most frequent ones come first.
    routers = [
        requests.router,
        generate.build_router(),
        events.router,
        docs.router,
        files.router,
        health.router,
        uploads.router,
        account.router,
        *([page.build_router()] if settings.page else []),
    ]
    for router in routers:
        app.include_router(router)
    paths = [getattr(route, "path", "") for router in routers for route in router.routes]
    segments = {segment for path in paths for segment in path.split("/") if "{" not in segment}
    app.add_middleware(RequestLog, known_segments=segments, access_log=settings.access_log, metrics=metrics)
    if tracer_provider() is not None:
        app.add_middleware(SpanPath, known_segments=segments)
    return app


def _telemetry() -> TelemetryConfig:
    """Of FastAPI's own telemetry: one span for each HTTP call where traces are on, and nothing besides.

    Left to itself it joins in as soon as any package of the process sets OpenTelemetry's global providers.
    """
    provider = tracer_provider()
    only: TelemetryConfig = {"metrics": False, "logs": False, "operation_spans": False, "auto_configure": False}
    return {**only, "tracing": provider is not None, "tracer_provider": provider}


@asynccontextmanager
async def _lifespan(settings: GatewaySettings, metrics: CallMetrics | None, app: FastAPI) -> AsyncIterator[None]:
    gateway = build_gateway(settings, metrics)
    app.state.gateway = gateway
    tasks = [
        asyncio.create_task(gateway.changes.listen()),
        asyncio.create_task(gateway.webhooks.run()),
        asyncio.create_task(run_janitor(gateway.janitor, gateway.redis, settings.janitor_interval_s)),
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await gateway.changes.close()
        for client in gateway.guarded:
            await client.close()
        gateway.redis.close()
