#!/usr/bin/env bash
# FastAPI 0.165.0 (on Starlette 1.10.0) names in the Allow header of a 405 only the methods of one of the handlers that
# share a path.
#
# RFC 9110 (section 15.5.6) asks for "a list of the target resource's currently supported methods". A handler per method
# is FastAPI's own way to write a resource, so GET, PUT and DELETE on one path are three routes, and the 405 is the
# answer of whichever was declared first. HEAD is not answered either, although GET is (section 9.1 asks for both).
# It matters for clients and scanners that read Allow: schemathesis reports "Allow header mismatch", caches and gateways
# that learn methods from it learn one. This project asks all routes (server/errors.py) and answers HEAD (server/head.py).
#
# Exits with 0 as long as the behaviour is as described.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check fastapi==0.165.0 starlette==1.10.0
"$folder/venv/bin/python" - <<'PYTHON'
import asyncio
from importlib.metadata import version

from fastapi import FastAPI

app = FastAPI()


@app.get("/thing")
async def read() -> str:
    return "a thing"


@app.put("/thing")
async def write() -> str:
    return "written"


@app.delete("/thing")
async def drop() -> str:
    return "gone"


async def ask(method: str) -> tuple[int, str | None]:
    sent = []
    path = {"path": "/thing", "raw_path": b"/thing", "query_string": b"", "root_path": "", "headers": []}
    scope = {"type": "http", "method": method, "scheme": "http", "server": ("a", 80), "http_version": "1.1", **path}

    async def receive() -> dict:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict) -> None:
        sent.append(message)

    await app(scope, receive, send)
    headers = dict(sent[0]["headers"])
    return sent[0]["status"], headers.get(b"allow", b"").decode() or None


print("fastapi", version("fastapi"), "starlette", version("starlette"))
answers = {method: asyncio.run(ask(method)) for method in ("GET", "PUT", "DELETE", "POST", "HEAD")}
for method, (status, allow) in answers.items():
    print(f"{method:7}{status}  Allow: {allow}")
assert [answers[method][0] for method in ("GET", "PUT", "DELETE")] == [200, 200, 200]
assert answers["POST"] == (405, "GET") and answers["HEAD"] == (405, "GET")
print("as described: the 405 hides PUT and DELETE, and HEAD is refused where GET is answered")
PYTHON
