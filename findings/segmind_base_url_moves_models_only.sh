#!/usr/bin/env bash
# segmind 1.3.0, the client library of the hosted image endpoints, takes a `base_url`. Only calls of models go there:
# files, accounts, models, generations, webhooks, pixelflows and finetune have other absolute addresses written into
# them, which httpx puts in the place of its base_url. So a program that was moved to a server on premises by that one
# argument still sends every photo that it uploads, and its API key with each such call, to the vendor's cloud.
# And 3xx answers count as success: of a redirect, `run_sync` returns the empty body as if it were the picture.
# Nothing is sent here: httpx's transport is replaced by one that writes down the address and answers by itself.
# Ends with status 0 while that is so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check segmind==1.3.0 httpx==0.28.1

cat > "$folder/ask.py" <<'PYTHON'
import sys
from importlib.metadata import version

import httpx

asked = []


def answer(_transport, request):
    asked.append(request)
    request.read()
    moved = request.url.path.endswith("/moved")
    headers = {"location": "https://images.example.com/elsewhere"} if moved else {}
    return httpx.Response(307 if moved else 200, headers=headers, json=None if moved else {}, request=request)


httpx.HTTPTransport.handle_request = answer

from segmind import SegmindClient  # noqa: E402

OURS = "images.example.com"
client = SegmindClient(api_key="the-key", base_url=f"https://{OURS}/v1")
with open(sys.argv[1], "wb") as photo:
    photo.write(b"the photo")
calls = {
    "run_sync": lambda: client.run_sync("ic-light", prompt="x"),
    "files.upload": lambda: client.files.upload(sys.argv[1]),
    "accounts.current": client.accounts.current,
    "models.list": client.models.list,
    "generations.list": client.generations.list,
    "generations.history": client.generations.history,
    "generations.get": lambda: client.generations.get("0123"),
    "webhooks.get": client.webhooks.get,
    "pixelflows.run": lambda: client.pixelflows.run(workflow_id="0123", poll=False),
    "finetune.list": client.finetune.list,
}
print("segmind", version("segmind"), "httpx", httpx.__version__, "base_url", client.base_url)
hosts, photos = {}, set()
for name, call in calls.items():
    call()
    hosts[name] = asked[-1].url.host
    carried = "key" if asked[-1].headers.get("x-api-key") == "the-key" else "no key"
    if b"dGhlIHBob3Rv" in asked[-1].content:  # base64 of the photo
        photos.add(name)
    photo = " and the photo" if name in photos else ""
    print(f"{name:20} {asked[-1].method:4} {asked[-1].url}  with {carried}{photo}")
moved = client.run_sync("moved", prompt="x")
print(f"run_sync of a redirect returns, without an error: {moved.status_code} {moved.content!r}")
elsewhere = {name for name, host in hosts.items() if host != OURS}
as_told = elsewhere == set(calls) - {"run_sync"} and photos == {"files.upload"} and moved.status_code == 307
print("as described" if as_told else "segmind behaves in another way now")
sys.exit(not as_told)
PYTHON
env -u SEGMIND_API_KEY "$folder/venv/bin/python" "$folder/ask.py" "$folder/photo.png"
