#!/usr/bin/env bash
# huggingface_hub 2.4.0: building the headers of a request makes a request of its own.
#
# `build_hf_headers()` only seems to format a User-Agent. It also looks whether an AI agent runs the process, and gets
# the list of agents for that from {HF_ENDPOINT}/api/agent-harnesses: before the first call that a program wants, once a
# day, silently if it fails (3 s of waiting where packets are dropped). Every call of the library builds headers.
#
# Why it matters: a mirror of the hub, a firewall's list of addresses, or a promise of which requests are made, knows
# nothing of that address. HF_HUB_DISABLE_TELEMETRY=1 (or DO_NOT_TRACK=1) stops it; HF_HUB_OFFLINE=1 does too, but with
# it nothing can be fetched.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check huggingface_hub==2.4.0
export HF_HOME="$folder/home"
unset HF_HUB_OFFLINE HF_HUB_DISABLE_TELEMETRY DISABLE_TELEMETRY DO_NOT_TRACK HF_TOKEN

cat > "$folder/seen.py" <<'PYTHON'
import os, sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

seen = []

class Hub(BaseHTTPRequestHandler):
    def do_GET(self):
        seen.append(f"{self.command} {self.path}")
        body = b'{"standardEnvVars": [], "harnesses": {}}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
threading.Thread(target=server.serve_forever, daemon=True).start()
os.environ["HF_ENDPOINT"] = f"http://127.0.0.1:{server.server_port}"
from huggingface_hub.utils import build_hf_headers

build_hf_headers(library_name="example")
print(seen)
PYTHON

"$folder/venv/bin/python" -c 'import huggingface_hub, sys; print("huggingface_hub", huggingface_hub.__version__, "Python", sys.version.split()[0])'
as_shipped=$("$folder/venv/bin/python" "$folder/seen.py")
rm -rf "$HF_HOME"
switched_off=$(HF_HUB_DISABLE_TELEMETRY=1 "$folder/venv/bin/python" "$folder/seen.py")
echo "requests made by build_hf_headers(), as shipped:                $as_shipped"
echo "requests made by build_hf_headers(), HF_HUB_DISABLE_TELEMETRY=1: $switched_off"
if [[ $as_shipped != "['GET /api/agent-harnesses']" || $switched_off != "[]" ]]; then
  echo "the behaviour has changed"
  exit 1
fi
