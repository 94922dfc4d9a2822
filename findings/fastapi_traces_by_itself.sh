#!/usr/bin/env bash
# FastAPI 0.165.0 makes spans of its own as soon as any package of the process sets OpenTelemetry's global provider.
#
# opentelemetry-api is one of its dependencies, so nothing has to be installed or switched on. Each call then has a span
# of the kind `server`, named by method and route, below the client's `traceparent`, and, inside of it, spans for
# dependencies, endpoint and serialization. Who adds a middleware that makes a server span too, as was needed before, has
# two for each call; the instrumentation of opentelemetry-instrumentation-asgi is recognised, own code is not.
# `url.path` and `url.query` are recorded as they come, but for five names of signatures in the query: who keeps them out
# of logs has to keep them out of spans as well.
# `FastAPI(telemetry=...)` turns parts off. This project keeps the server span, masks both (server/http/middleware.py),
# and turns the rest off (server/app.py).
#
# Exits with 0 as long as the behaviour is as described.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check fastapi==0.165.0 starlette==1.10.0 \
  opentelemetry-sdk==1.45.2
"$folder/venv/bin/python" - <<'PYTHON'
import asyncio
from importlib.metadata import requires, version

from fastapi import FastAPI
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

CLIENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def build(**options: object) -> FastAPI:
    app = FastAPI(**options)

    @app.get("/files/{name}")
    async def file(name: str) -> str:
        return name

    return app


async def ask(app: FastAPI) -> None:
    path = {"path": "/files/secret.png", "raw_path": b"/files/secret.png", "query_string": b"key=secret", "root_path": ""}
    headers = [(b"host", b"a"), (b"traceparent", CLIENT)]
    scope = {"type": "http", "method": "GET", "scheme": "http", "server": ("a", 80), "http_version": "1.1", **path}

    async def receive() -> dict:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict) -> None:
        pass

    await app({**scope, "headers": headers}, receive, send)


print("fastapi", version("fastapi"), "starlette", version("starlette"), "opentelemetry-sdk", version("opentelemetry-sdk"))
plain, off = build(), build(telemetry={"tracing": False})
only = build(telemetry={"operation_spans": False})
exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
seen = {}
asyncio.run(ask(plain))
seen["before a provider is set"] = exporter.get_finished_spans()
trace.set_tracer_provider(provider)
for name, app in (("after that, by itself", plain), ("operation_spans off", only), ("tracing off", off)):
    exporter.clear()
    asyncio.run(ask(app))
    seen[name] = exporter.get_finished_spans()
for name, spans in seen.items():
    print(f"{name:26}", [f"{span.name} ({span.kind.name})" for span in spans])
server = [span for span in seen["after that, by itself"] if span.kind.name == "SERVER"]
print(dict(server[0].attributes))
assert any(line.startswith("opentelemetry-api") and "extra" not in line for line in requires("fastapi"))
assert seen["before a provider is set"] == () and seen["tracing off"] == ()
assert [span.name for span in server] == ["GET /files/{name}"]
assert f"{server[0].parent.span_id:016x}" == "b7ad6b7169203331"
assert server[0].attributes["url.path"] == "/files/secret.png" and server[0].attributes["url.query"] == "key=secret"
assert len(seen["after that, by itself"]) > 1 and len(seen["operation_spans off"]) == 1
print("as described: a server span without being asked, with path and query as they came")
PYTHON
