"""The Redis user that `deploy/redis-users.acl` defines: it can do all that the application does, and little else."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError

from server.settings import GatewaySettings
from tests.conftest import REPOSITORY, wait_for_redis
from tests.faults.behaviour import Behaviour
from tests.faults.processes.caller import body_for
from tests.faults.processes.members import Member
from tests.live_server import free_port
from tests.redis_server import REDIS_SERVER
from tests.server.support import DATA_URI, Client, serving
from workers.state.connection import connect
from workers.state.keys import Keys

ACL = REPOSITORY / "deploy" / "redis-users.acl"
PASSWORD = "not-a-secret-of-anybody"
OBSERVER = "observer"


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    """A Redis that knows this user, and one of the tests' own, who sees what was refused."""
    with tempfile.TemporaryDirectory(prefix="facelight-test-") as folder:
        users = Path(folder) / "users.acl"
        given = ACL.read_text().replace("SHA256_OF_THE_PASSWORD", sha256(PASSWORD.encode()).hexdigest())
        users.write_text(f"{given}user {OBSERVER} on >{PASSWORD} +acl|log\n")
        port = free_port()
        options = ["--port", str(port), "--bind", "127.0.0.1", "--aclfile", str(users), "--save", "", "--dir", folder]
        process = subprocess.Popen([REDIS_SERVER, *options, "--loglevel", "warning"])
        try:
            url = f"redis://facelight:{PASSWORD}@127.0.0.1:{port}"
            wait_for_redis(url)
            yield url
        finally:
            process.kill()
            process.wait(10)


@pytest.fixture
def gateway(redis_url: str, tmp_path: Path) -> Iterator[tuple[Client, GatewaySettings]]:
    settings = GatewaySettings(
        redis_url=redis_url, data_dir=tmp_path, require_key=True, janitor_interval_s=0.1, heartbeat_ttl_s=2
    )
    with serving(settings) as client:
        _, secret = Keys(connect(redis_url)).add("somebody", rate=1000, credits=100)
        client.headers["x-api-key"] = secret
        yield client, settings


@pytest.fixture
def worker(gateway: tuple[Client, GatewaySettings], tmp_path: Path) -> Iterator[Member]:
    """A worker process whose models only play."""
    _, settings = gateway
    environment = {
        "FACELIGHT_REDIS_URL": settings.redis_url,
        "FACELIGHT_DATA_DIR": str(settings.data_dir),
        "FACELIGHT_HEARTBEAT_TTL_S": "2",
        "FACELIGHT_MODELS": "ic-light",
    }
    member = Member("worker", (sys.executable, "-m", "tests.faults.processes.fake_worker"), environment, tmp_path)
    member.start()
    try:
        yield member
    finally:
        member.end()


@pytest.fixture
def refused(redis_url: str) -> Iterator[list[str]]:
    """What Redis has refused the user since the test began, once it has ended: command or key, and where."""
    observer = Redis.from_url(redis_url.replace("//facelight:", f"//{OBSERVER}:"), decode_responses=True)
    observer.acl_log_reset()
    found: list[str] = []
    yield found
    found += [f"{entry['reason']} {entry['object']} in {entry['context']}" for entry in observer.acl_log()]
    assert found == []


def _wait_for(client: Client, request_id: str, state: str, timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while (found := client.get(f"/v2/requests/{request_id}/status").json()["status"]) != state:
        assert time.monotonic() < deadline, f"{found} instead of {state}"
        time.sleep(0.05)


def test_it_can_do_what_the_application_does(
    refused: list[str], gateway: tuple[Client, GatewaySettings], worker: Member
) -> None:
    client, settings = gateway
    answer = client.post("/v1/ic-light", json=body_for(Behaviour()))
    assert answer.status_code == 200, answer.text
    assert float(answer.headers["X-remaining-credits"]) == 99
    assert client.post("/upload-asset", json={"data_urls": [DATA_URI]}).status_code == 200
    long = body_for(Behaviour(steps=100, step_ms=100))
    running = client.post("/v2/ic-light", json=long, headers={"Idempotency-Key": "a"}).json()["request_id"]
    _wait_for(client, running, "PROCESSING")
    worker.kill()
    _wait_for(client, running, "QUEUED")
    waiting = client.post("/v2/ic-light", json=body_for(Behaviour())).json()["request_id"]
    assert client.delete(f"/v2/requests/{waiting}").status_code == 200
    worker.start()
    _wait_for(client, running, "PROCESSING")
    client.delete(f"/v2/requests/{running}")
    _wait_for(client, running, "FAILED")
    keys = Keys(connect(settings.redis_url))
    (key,) = [key for key in keys.all() if key.credits is not None and key.credits < 100]
    assert key.credits == 99, "what failed was given back"
    assert keys.rotate(key.id) and keys.change(key.id, {"rate": 5}) and keys.revoke(key.id)
    assert "NoPermission" not in worker.log.read_text() and "NOPERM" not in worker.log.read_text()


@pytest.mark.parametrize(
    "command",
    [
        ("FLUSHALL",),
        ("FLUSHDB",),
        ("KEYS", "*"),
        ("CONFIG", "GET", "requirepass"),
        ("CONFIG", "SET", "dir", "/tmp"),
        ("DEBUG", "SLEEP", "0"),
        ("SHUTDOWN", "NOSAVE"),
        ("SAVE",),
        ("BGREWRITEAOF",),
        ("REPLICAOF", "127.0.0.1", "1"),
        ("MODULE", "LIST"),
        ("ACL", "LIST"),
        ("MONITOR",),
        ("CLIENT", "KILL", "TYPE", "normal"),
        ("MIGRATE", "127.0.0.1", "1", "facelight:open", "0", "10"),
        ("GET", "another:application"),
        ("SET", "another:application", "1"),
        ("EVAL", "return redis.call('GET', 'another:application')", "0"),
        ("EVAL", "return redis.call('FLUSHALL')", "0"),
        ("PUBLISH", "another:channel", "x"),
    ],
    ids=" ".join,
)
def test_it_can_do_nothing_else(redis_url: str, command: tuple[str, ...]) -> None:
    with pytest.raises((NoPermissionError, ResponseError), match=r"(?i)permission|can't run|not allow|NOPERM|access"):
        Redis.from_url(redis_url).execute_command(*command)


def test_nobody_else_gets_in(redis_url: str) -> None:
    address = redis_url.partition("@")[2]
    with pytest.raises(AuthenticationError):
        Redis.from_url(f"redis://{address}").execute_command("GET", "facelight:open")


def test_the_file_opens_nothing_as_it_is() -> None:
    assert "nopass" not in ACL.read_text() and ">" not in ACL.read_text()
    assert "#SHA256_OF_THE_PASSWORD" in ACL.read_text()
