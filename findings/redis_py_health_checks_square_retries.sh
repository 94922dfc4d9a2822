#!/usr/bin/env bash
# redis-py 8.1.0: with `health_check_interval`, a new connection to a silent server waits (retries + 1)² time-outs.
#
# A Redis that accepts connections and never answers (its process is stopped, packets are dropped) should cost one
# command (retries + 1) socket time-outs. That holds without health checks. With them, the greeting that every new
# connection sends (HELLO) first makes a PING, and that PING is retried by the same `Retry`, inside of the retry of the
# connection: 25 time-outs for 4 retries, which at the default of 5 s is more than two minutes. Who sets "4 retries, a
# time-out of 5 s, a health check every 30 s" expects 25 s.
#
# Why it matters here: a gateway's call blocked for 133 s. So this project switches off redis-py's retries and health
# checks, and bounds every command itself (workers/state/connection.py).
#
# Shown by counting the connections that a silent server accepts for one PING: one for each time-out.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps redis==8.1.0
"$folder/venv/bin/python" - <<'PYTHON'
import socket
import sys
import threading
import time

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

TIMEOUT_S = 0.2


def connections(retries: int, health_check_interval: int) -> int:
    """How many connections one PING makes to a server that accepts and says nothing."""
    accepted = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            while True:
                try:
                    accepted.append(server.accept()[0])
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        client = redis.Redis.from_url(
            f"redis://127.0.0.1:{server.getsockname()[1]}",
            socket_timeout=TIMEOUT_S,
            retry=Retry(NoBackoff(), retries),
            health_check_interval=health_check_interval,
        )
        began = time.monotonic()
        try:
            client.ping()
        except redis.exceptions.TimeoutError:
            seconds = time.monotonic() - began
        else:
            sys.exit("a silent server has answered")
    print(f"  {retries} retries, health check {health_check_interval:2} s: {len(accepted):2} connections, {seconds:.1f} s")
    return len(accepted)


print(f"redis-py {redis.__version__}, Python {sys.version.split()[0]}; time-out {TIMEOUT_S} s, no pause between retries")
seen = {(retries, interval): connections(retries, interval) for interval in (0, 30) for retries in (0, 1, 2, 4)}
expected = {(n, 0): n + 1 for n in (0, 1, 2, 4)} | {(n, 30): (n + 1) ** 2 for n in (0, 1, 2, 4)}
if seen != expected:
    sys.exit(f"the behaviour has changed: {seen} instead of {expected}")
print("with health checks, one command waits for (retries + 1)² time-outs")
PYTHON
