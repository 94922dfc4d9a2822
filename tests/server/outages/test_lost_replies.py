"""Every script may be sent twice: the connection breaks after Redis has run it, and the reply is lost."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from server import maintenance
from server.dependencies import Gateway, build_gateway
from server.errors import TooManyRequests
from server.limits import Rates, UploadQuota
from server.settings import GatewaySettings
from tests.conftest import REPOSITORY
from tests.faults.processes.shim import Shim
from tests.server.conftest import NEVER
from tests.server.support import DATA_URI, PNG, body_for, serving
from tests.workers.state.support import claim, complete, wakeups_key
from workers.state.connection import connect
from workers.state.keys import Keys
from workers.state.listing import Listing
from workers.state.outbox import Outbox
from workers.state.record import Audit, Idempotency, Output, Record, Status, Webhook, WebhookEvent
from workers.state.records import Records
from workers.state.registry import ModelReport, ModelState, WorkerReport
from workers.state.scripts import load_script, new_call_id
from workers.state.statistics import StatisticsReader
from workers.state.webhook_secrets import WebhookSecrets

LUA = REPOSITORY / "workers" / "state" / "lua"
QUEUE_KEY = ("ic-light", "foreground")
PICTURE = (Output("name.png", "image/png", 10, 32, 32),)


class World:
    """A gateway's parts, and a worker's, on a Redis behind a shim that can lose replies."""

    def __init__(self, shim: Shim, redis_url: str, folder: Path) -> None:
        self.shim = shim
        self.redis: Any = Redis.from_url(redis_url)
        """Not behind the shim."""
        self.gateway: Gateway = build_gateway(
            GatewaySettings(redis_url=shim.url, data_dir=folder, request_ttl_s=60, upload_quota_mb=1)
        )
        self.records = Records(self.gateway.redis, result_ttl_s=3600, request_ttl_s=60)
        self.keys = Keys(self.gateway.redis)
        self.payer = self.keys.add("payer", credits=10)[0].id
        self.gateway.redis.ping()  # a connection is there, so that the next command is the script

    @contextmanager
    def losing(self, command: bytes = b"EVALSHA") -> Iterator[None]:
        """Lose the reply to the first such command of the block, which must be sent."""
        before = self.shim.lost
        self.shim.lose_answer(command)
        yield
        assert self.shim.lost == before + 1, "no reply was lost"

    def submit(self, request_id: str = "a", **options: Any) -> str:
        return self.records.create(request_id, *QUEUE_KEY, self.payer, {}, 3.0, **options)

    def claimed(self) -> Record:
        self.submit()
        record = claim(self.records, *QUEUE_KEY, "worker-a")
        assert record is not None
        return record

    @property
    def credits(self) -> float | None:
        key = self.keys.get(self.payer)
        assert key is not None
        return key.credits

    def status(self, request_id: str = "a") -> Status:
        record = self.records.get(request_id)
        assert record is not None
        return record.status


@pytest.fixture
def world(own_redis_socket: Path, own_redis_url: str, tmp_path: Path) -> Iterator[World]:
    with Shim(own_redis_socket) as shim:
        yield World(shim, own_redis_url, tmp_path)


def create(world: World) -> None:
    with world.losing():
        assert world.submit(idempotency=Idempotency("key", "print")) == "a"
    assert world.records.depth("ic-light") == 1
    assert world.credits == 7
    assert world.redis.llen("rq:queue:facelight-ic-light-foreground") == 1


def claim_batch(world: World) -> None:
    for request_id in ("a", "b"):
        world.submit(request_id)
    with world.losing():
        found = world.records.claim_batch([QUEUE_KEY], "worker-a", new_call_id(), wakeup=b"none")
    assert [(record.request_id, record.attempt) for record in found] == [("a", 1)]
    assert world.status("b") is Status.QUEUED


def finish(world: World) -> None:
    record = world.claimed()
    with world.losing():
        assert complete(world.records, record, PICTURE, 1.5)
    assert world.status() is Status.COMPLETED
    world.submit("b")
    failing = claim(world.records, *QUEUE_KEY, "worker-a")
    assert failing is not None
    assert world.credits == 4
    with world.losing():
        assert world.records.fail(failing, "No face was found.")
    assert world.credits == 7, "refunded once"


def requeue(world: World) -> None:
    record = world.claimed()
    with world.losing():
        assert world.records.requeue(record)
    assert world.status() is Status.QUEUED
    assert world.records.depth("ic-light") == 1


def cancel(world: World) -> None:
    world.submit()
    with world.losing():
        record = world.records.cancel("a")
    assert record is not None
    assert record.status is Status.FAILED
    assert world.credits == 10, "refunded once"


def report(world: World) -> None:
    record = world.claimed()
    world.records.cancel("a")
    with world.losing():
        assert world.records.report(record, 2, 4)
    noted = world.records.get("a")
    assert noted is not None
    assert (noted.step, noted.total) == (2, 4)


def audit(world: World) -> None:
    world.submit()
    world.redis.hincrbyfloat("facelight:request:a", "created_at", -100)
    with world.losing():
        assert world.records.audit(0, 10) == Audit(1, ("a",))
    assert world.status() is Status.FAILED
    assert world.credits == 10, "refunded once"


def reconcile_wakeups(world: World) -> None:
    world.submit()
    wakeups = wakeups_key(*QUEUE_KEY)
    world.redis.delete(wakeups)
    with world.losing():
        assert world.records.reconcile_wakeups(QUEUE_KEY) == 1
    assert world.redis.llen(wakeups) == 1


def heartbeat(world: World) -> None:
    played = WorkerReport("played", "cpu", {"ic-light": ModelReport(ModelState.READY, "demo", "", ("foreground",))})
    with world.losing():
        world.gateway.registry.heartbeat(played)
    assert [worker.name for worker in world.gateway.registry.live_workers()] == ["played"]


def live_workers(world: World) -> None:
    world.gateway.registry.heartbeat(WorkerReport("played", "cpu", {}))
    with world.losing():
        assert [worker.name for worker in world.gateway.registry.live_workers()] == ["played"]


def forget_workers(world: World) -> None:
    world.gateway.registry.heartbeat(WorkerReport("played", "cpu", {}))
    world.redis.delete("facelight:worker:played")
    forget = world.gateway.redis.register_script(load_script("forget_workers"))
    with world.losing():
        forget(keys=["facelight:workers", "facelight:counts"], args=["facelight:worker:", "played"])
    assert world.redis.hget("facelight:counts", "worker:lost") == b"1"
    assert world.gateway.registry.live_workers() == []


def statistics(world: World) -> None:
    world.submit()
    with world.losing():
        assert StatisticsReader(world.gateway.redis).read().waiting[QUEUE_KEY] == 1


def listing(world: World) -> None:
    world.submit()
    with world.losing():
        assert [found.request_id for found in Listing(world.gateway.redis).find(["a"])] == ["a"]


def add(world: World) -> None:
    with world.losing():
        key, secret = world.keys.add("alice", credits=5, rate=2)
    assert world.keys.find(secret) == key
    assert (key.name, key.credits, key.rate) == ("alice", 5, 2)
    assert [key.name for key in world.keys.all()] == ["payer", "alice"]


def find(world: World) -> None:
    key, secret = world.keys.add("alice")
    with world.losing():
        found = world.keys.find(secret)
    assert found is not None
    assert found.id == key.id


def revoke(world: World) -> None:
    with world.losing():
        assert world.keys.revoke("payer") == world.payer
    assert world.keys.all() == []


def rotate(world: World) -> None:
    with world.losing():
        secret = world.keys.rotate("payer")
    assert secret is not None
    found = world.keys.find(secret)
    assert found is not None
    assert found.id == world.payer
    assert world.redis.hlen("facelight:key-digests") == 1


def change(world: World) -> None:
    with world.losing():
        changed = world.keys.change(world.payer, {"rate": 5}, added=100)
    assert changed is not None
    assert (changed.credits, changed.rate) == (110, 5)
    assert world.credits == 110


def rate(world: World) -> None:
    key = world.keys.change(world.payer, {"rate": 2})
    assert key is not None
    limits = Rates(world.gateway.redis)
    for left in (1, 0):
        with world.losing():
            headers = limits.count(key)
        assert headers["RateLimit"].startswith(f'"requests";r={left};')
    with world.losing(), pytest.raises(TooManyRequests):
        limits.count(key)
    assert world.redis.zcard(f"facelight:rate:{key.id}") == 2


def upload(world: World) -> None:
    quota = UploadQuota(world.gateway.redis, 1000)
    for size in (600, 400):
        with world.losing():
            quota.count("alice", size)
    assert world.redis.get("facelight:uploads:alice") == b"1000"
    with world.losing(), pytest.raises(TooManyRequests):
        quota.count("alice", 1)


def release_lock(world: World) -> None:
    with world.losing(b"SET"):
        ran = maintenance.run_once_locked(world.gateway.janitor, world.gateway.redis)
    assert ran, "it recognises its own lock"
    assert not world.redis.exists("facelight:janitor")
    unlock = world.gateway.redis.register_script(load_script("release_lock"))
    world.redis.set("facelight:janitor", "me")
    with world.losing():
        unlock(keys=["facelight:janitor"], args=["me"])
    assert not world.redis.exists("facelight:janitor")


def told(world: World) -> Outbox:
    """An outbox with one message, that of request a."""
    webhook = Webhook("https://example.com/", (WebhookEvent.COMPLETED,), "receiver", "http://facelight.example")
    world.submit(webhook=webhook)
    world.records.cancel("a")
    return Outbox(world.gateway.redis)


def lease(world: World) -> None:
    outbox = told(world)
    with world.losing():
        (message,), _ = outbox.lease(10, 10, {})
    assert (message.id, message.tries) == ("a:completed", 0)


def settle(world: World) -> None:
    outbox = told(world)
    (message,), _ = outbox.lease(10, 10, {})
    with world.losing():
        outbox.postpone(message, 60, "no answer")
    assert [(one.tries, one.failed) for one in outbox.outstanding()] == [(1, False)]
    assert world.redis.zscore("facelight:webhooks", "receiver") == pytest.approx(time.time() + 60, abs=5)


def replay(world: World) -> None:
    outbox = told(world)
    (message,), _ = outbox.lease(10, 10, {})
    outbox.give_up(message, "gone")
    with world.losing():
        assert outbox.replay([message.id]) == [message.id]
    assert [(one.tries, one.failed) for one in outbox.outstanding()] == [(0, False)]


def secrets(world: World) -> None:
    held = WebhookSecrets(world.gateway.redis)
    first = held.get(None)
    with world.losing():
        assert held.rotate(None)[1:] == first
    assert len(held.get(None)) == 2


CASES: dict[Callable[[World], None], str] = {
    create: "create",
    claim_batch: "claim",
    finish: "finish",
    requeue: "requeue",
    cancel: "cancel",
    report: "report",
    audit: "audit",
    reconcile_wakeups: "reconcile_wakeups",
    heartbeat: "heartbeat",
    live_workers: "live_workers",
    forget_workers: "forget_workers",
    statistics: "statistics",
    listing: "read_records",
    add: "key_add",
    find: "key_find",
    revoke: "key_revoke",
    rotate: "key_rotate",
    change: "key_change",
    rate: "count_request",
    upload: "count_upload",
    release_lock: "release_lock",
    lease: "webhooks_lease",
    settle: "webhooks_settle",
    replay: "webhooks_replay",
    secrets: "webhook_secrets",
}
"""Each script, and the test that loses a reply of it."""


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_a_lost_reply_changes_nothing(case: Callable[[World], None], world: World) -> None:
    case(world)


def source() -> str:
    """The code of gateway and workers."""
    files = [path for folder in ("server", "workers") for path in (REPOSITORY / folder).rglob("*.py")]
    return "\n".join(path.read_text() for path in files)


def test_no_script_is_forgotten() -> None:
    heads = {path.stem: path.read_text().partition("\n")[0] for path in LUA.glob("*.lua")}
    required = {name for head in heads.values() for name in re.findall(r"\w+", head.partition("requires")[2])}
    assert set(CASES.values()) == set(heads) - required
    registered = re.findall(r"(register_script|IdempotentScript)\((?:redis, )?load_script\(\"(\w+)\"\)\)", source())
    assert {name for _, name in registered} == set(heads) - required
    for how, name in registered:
        assert (how == "IdempotentScript") == ("once" in heads[name]), name


def test_no_script_is_sent_in_another_way() -> None:
    others = re.compile(r"\.(eval|evalsha|script_load|lock|pipeline|fcall)\(")
    assert others.findall(source()) == []


def test_two_calls_are_applied_twice(world: World) -> None:
    for _ in range(2):
        world.keys.change("payer", {}, added=1)
    assert world.credits == 12


def test_over_http(redis_socket: Path, redis_url: str, tmp_path: Path) -> None:
    """A request whose count got no reply is served, and counted once."""
    with Shim(redis_socket) as shim:
        settings = GatewaySettings(redis_url=shim.url, data_dir=tmp_path, require_key=True, janitor_interval_s=NEVER)
        key, secret = Keys(connect(redis_url)).add("alice", rate=100, credits=10)
        redis: Any = Redis.from_url(redis_url)
        with serving(settings) as client:
            client.headers["x-api-key"] = secret
            for number in range(12):  # whichever of its scripts it hits
                shim.lose_answer(b"EVALSHA")
                answer = client.post("/v2/ic-light", json=body_for("ic-light"))
                assert answer.status_code in (200, 406), answer.text
                assert answer.headers.get("ratelimit", f'"requests";r={99 - number};').startswith(
                    f'"requests";r={99 - number};'
                )
                shim.lose_answer(b"EVALSHA")
                client.post("/upload-asset", json={"data_urls": [DATA_URI]})
            assert shim.lost == 24
            assert client.get("/v1/get-user-credits").json()["credits"] == 0, "ten were charged"
            assert redis.zcard(f"facelight:rate:{key.id}") == 12
            assert redis.get(f"facelight:uploads:{key.id}") == str(12 * len(PNG)).encode()
