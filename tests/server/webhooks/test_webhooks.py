"""Webhooks: whoever asked for it is told of the begin and the end of a request, in a form that receivers can verify."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import pytest
from redis import Redis
from replicate.webhook import InvalidSignatureError
from standardwebhooks import WebhookVerificationError

from server.settings import GatewaySettings
from server.webhooks import sender
from tests.server.conftest import MakeSettings
from tests.server.outages.test_without_redis import own_redis
from tests.server.support import PNG, Client, FakeWorker, body_for, image_field, serving
from tests.server.webhooks.support import PATIENCE_S, Receiver, let_time_pass, pauses, receiving
from workers.state.connection import connect
from workers.state.keys import Keys
from workers.state.outbox import LEASE_S, Outbox, Outstanding
from workers.state.record import Webhook, WebhookEvent
from workers.state.records import Records
from workers.state.webhook_secrets import WebhookSecrets


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


@pytest.fixture
def secret(worker: FakeWorker) -> str:
    """What the server signs with for callers without an issued key."""
    return WebhookSecrets(worker.redis).get(None)[0]


def outstanding(redis: Redis, count: int = 1, **fields: Any) -> list[Outstanding]:
    """Wait until so many messages are outstanding that have these fields."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        found = Outbox(redis).outstanding()
        fitting = [one for one in found if all(getattr(one, name) == value for name, value in fields.items())]
        if len(fitting) == count:
            return fitting
        assert time.monotonic() < deadline, found
        time.sleep(0.01)


def test_a_result_is_told_as_it_is_answered(
    client: Client, worker: FakeWorker, receiver: Receiver, secret: str
) -> None:
    request_id = client.submit(webhook=receiver.url, number_of_images=2)
    worker.complete(request_id)
    (delivery,) = receiver.wait_for(1)
    delivery.verify(secret)
    told = delivery.json
    result = client.get(f"/v2/requests/{request_id}").json()
    assert told == {"type": "request.completed", "timestamp": told["timestamp"], **result}
    assert datetime.fromisoformat(told["timestamp"]).timestamp() == pytest.approx(time.time(), abs=60)
    assert told["output"].startswith(str(client.base_url))
    assert delivery.headers["content-type"] == "application/json"
    outstanding(worker.redis, 0)


def test_what_was_changed_on_the_way_is_refused(
    client: Client, worker: FakeWorker, receiver: Receiver, secret: str
) -> None:
    worker.complete(client.submit(webhook=receiver.url))
    (delivery,) = receiver.wait_for(1)
    forged = type(delivery)(delivery.path, delivery.headers, delivery.body.replace(b"COMPLETED", b"FAILED"))
    with pytest.raises(WebhookVerificationError):
        forged.verify(secret)
    with pytest.raises((WebhookVerificationError, InvalidSignatureError)):
        delivery.verify("whsec_" + "A" * 43 + "=")


def test_failures_are_ends(client: Client, worker: FakeWorker, receiver: Receiver) -> None:
    failed, cancelled = client.submit(webhook=receiver.url), client.submit(webhook=receiver.url)
    worker.fail(failed)
    client.delete(f"/v2/requests/{cancelled}")
    told = {delivery.json["request_id"]: delivery.json for delivery in receiver.wait_for(2)}
    for request_id in (failed, cancelled):
        answer = client.get(f"/v2/requests/{request_id}").json()
        expected = {"type": "request.failed", "timestamp": told[request_id]["timestamp"], **answer}
        assert told[request_id] == expected


@pytest.mark.parametrize(
    "events", [["started", "completed"], "started,completed", "completed, started", ["started"], "completed", None]
)
def test_what_is_told_can_be_chosen(
    client: Client, worker: FakeWorker, receiver: Receiver, secret: str, events: Any
) -> None:
    request_id = client.submit(webhook=receiver.url, webhook_events_filter=events)
    expected = ["request.started"] if "started" in (events or ()) else []
    worker.start(request_id)
    begun = receiver.wait_for(len(expected))
    worker.complete(request_id)
    expected += ["request.completed"] if "completed" in (events or ("completed",)) else []
    found = receiver.wait_for(len(expected))
    outstanding(worker.redis, 0)
    assert [delivery.json["type"] for delivery in found] == expected
    assert len({delivery.id for delivery in found}) == len(expected)
    for delivery in begun:
        delivery.verify(secret)
        assert (delivery.json["status"], delivery.json["metrics"]) == ("PROCESSING", {})
        assert "progress" not in delivery.json


@pytest.mark.parametrize("form", ["multipart", "urlencoded"])
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_forms_and_calls_that_wait(
    client: Client, worker: FakeWorker, receiver: Receiver, form: str, version: str
) -> None:
    fields = {"webhook": receiver.url, "webhook_events_filter": "started,completed"}
    body: dict[str, Any] = {"data": {**body_for("ic-light"), **fields}}
    if form == "multipart":
        picture = image_field("ic-light")
        body = {"data": {"prompt": "a portrait", **fields}, "files": {picture: ("photo.png", PNG)}}
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(client.post, f"/{version}/ic-light", **body)
        request_id = worker.await_request("ic-light")
        worker.complete(request_id)
        assert call.result().status_code == 200
    found = receiver.wait_for(2)
    assert {delivery.json["type"] for delivery in found} == {"request.started", "request.completed"}
    assert {delivery.json["request_id"] for delivery in found} == {request_id}


def test_an_empty_field_of_a_form_is_no_webhook(client: Client, worker: FakeWorker) -> None:
    answer = client.post("/v2/ic-light", data={**body_for("ic-light"), "webhook": " ", "webhook_events_filter": ""})
    assert answer.status_code == 200, answer.text
    assert worker.record(answer.json()["request_id"]).webhook is None


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"webhook": "ftp://127.0.0.1/"}, "webhook"),
        ({"webhook": "not a URL"}, "webhook"),
        ({"webhook": "http://"}, "webhook"),
        ({"webhook": "http://10.0.0.1/hook"}, "webhook"),
        ({"webhook": "http://[::1]/hook"}, "webhook"),
        ({"webhook": 7}, "webhook"),
        ({"webhook": "http://127.0.0.1/" + "x" * 2048}, "webhook"),
        ({"webhook_events_filter": "ended"}, "webhook_events_filter"),
        ({"webhook_events_filter": ["started", "output"]}, "webhook_events_filter"),
        ({"webhook_events_filter": []}, "webhook_events_filter"),
    ],
)
def test_refused(client: Client, worker: FakeWorker, fields: dict[str, Any], field: str) -> None:
    answer = client.post("/v2/ic-light", json=body_for("ic-light", **fields))
    assert answer.status_code == 400, answer.text
    assert answer.json()["detail"][0]["field"].partition(".")[0] == field
    assert worker.records.depth("ic-light") == 0


@pytest.fixture
def keyed(make_settings: MakeSettings, own_redis_url: str) -> Iterator[tuple[Client, GatewaySettings]]:
    settings = make_settings(redis_url=own_redis_url, require_key=True, fetch_allow_cidrs="127.0.0.0/8")
    with serving(settings) as client:
        yield client, settings


def test_a_key_has_a_default_and_secrets_of_its_own(keyed: tuple[Client, GatewaySettings], receiver: Receiver) -> None:
    client, settings = keyed
    worker, redis = FakeWorker(settings), connect(settings.redis_url)
    keys, secrets = Keys(redis), WebhookSecrets(redis)
    key, client.headers["x-api-key"] = keys.add("alice", credits=10)
    keys.change(key.id, {"webhook": f"{receiver.url}/default"})
    (first,) = secrets.get(key.id)
    assert first != secrets.get(None)[0]
    worker.complete(client.submit())
    worker.complete(client.submit(webhook=f"{receiver.url}/other"))
    found = {delivery.path: delivery for delivery in receiver.wait_for(2)}
    assert set(found) == {"/hook/default", "/hook/other"}
    for delivery in found.values():
        delivery.verify(first)
    assert found["/hook/default"].json["metrics"]["remaining_credits"] <= 9

    second, older = secrets.rotate(key.id)
    assert (older, second != first) == (first, True)
    worker.complete(client.submit())
    both = receiver.wait_for(3)[2]
    for one in (first, second):
        both.verify(one)
    assert secrets.retire(key.id) == [second]
    worker.complete(client.submit())
    last = receiver.wait_for(4)[3]
    last.verify(second)
    with pytest.raises(WebhookVerificationError):
        last.verify(first)
    keys.change(key.id, {"webhook": None})
    worker.complete(client.submit())
    outstanding(redis, 0)
    assert len(receiver.deliveries) == 4


def test_urls_are_those_that_the_request_was_made_by(
    make_settings: MakeSettings, own_redis_url: str, receiver: Receiver
) -> None:
    settings = make_settings(redis_url=own_redis_url, fetch_allow_cidrs="127.0.0.0/8")
    worker = FakeWorker(settings)
    forwarded = {"X-Forwarded-Host": "images.example.com", "X-Forwarded-Proto": "https", "X-Forwarded-Prefix": "/api"}
    with serving(settings) as client:
        answer = client.post("/v2/ic-light", json=body_for("ic-light", webhook=receiver.url), headers=forwarded)
        worker.complete(answer.json()["request_id"])
        (first,) = receiver.wait_for(1)
    assert first.json["output"].startswith("https://images.example.com/api/files/")
    with serving(settings.model_copy(update={"public_url": "https://public.example.com"})) as client:
        answer = client.post("/v2/ic-light", json=body_for("ic-light", webhook=receiver.url), headers=forwarded)
        worker.complete(answer.json()["request_id"])
        assert receiver.wait_for(2)[1].json["output"].startswith("https://public.example.com/files/")


def test_the_whole_schedule(client: Client, worker: FakeWorker, receiver: Receiver, secret: str) -> None:
    receiver.answer = lambda _: (500, {})
    request_id = client.submit(webhook=receiver.url)
    worker.complete(request_id)
    for tries, pause_s in enumerate(sender.PAUSES_S, 1):
        receiver.wait_for(tries)
        (waiting,) = outstanding(worker.redis, tries=tries, failed=False)
        assert waiting.answer == "answered with status 500"
        assert pauses(worker.redis)[0] == pytest.approx(pause_s, abs=3)
        let_time_pass(worker.redis, pause_s + 1)
    found = receiver.wait_for(7)
    (given_up,) = outstanding(worker.redis, failed=True)
    assert (given_up.tries, given_up.url) == (7, receiver.url)
    assert {delivery.id for delivery in found} == {f"msg_{request_id}_completed"}
    assert sum(sender.PAUSES_S) + 7 * sender.TRY_S < 3600
    receiver.answer = lambda _: (200, {})
    assert Outbox(worker.redis).replay([given_up.id, "nobody:completed"]) == [given_up.id]
    again = receiver.wait_for(8)[-1]
    again.verify(secret)
    assert again.id == found[0].id
    outstanding(worker.redis, 0)


@pytest.mark.parametrize(
    ("status", "headers", "pause_s"),
    [
        (503, {"Retry-After": "240"}, 240),
        (429, {"Retry-After": "1"}, 5),
        (503, {"Retry-After": "soon"}, 5),
        (302, {"Location": "/elsewhere"}, 5),
        (404, {}, 5),
    ],
)
def test_when_it_is_tried_again(
    client: Client, worker: FakeWorker, receiver: Receiver, status: int, headers: dict[str, str], pause_s: float
) -> None:
    receiver.answer = lambda _: (status, headers)
    worker.complete(client.submit(webhook=receiver.url))
    outstanding(worker.redis, tries=1, failed=False)
    assert pauses(worker.redis)[0] == pytest.approx(pause_s, abs=3)
    assert [delivery.path for delivery in receiver.deliveries] == ["/hook"]


@pytest.mark.parametrize(("status", "headers"), [(410, {}), (503, {"Retry-After": "999999"})])
def test_when_it_is_not(
    client: Client, worker: FakeWorker, receiver: Receiver, status: int, headers: dict[str, str]
) -> None:
    """The receiver is gone, or wants to be asked when the result is gone."""
    receiver.answer = lambda _: (status, headers)
    worker.complete(client.submit(webhook=receiver.url))
    (given_up,) = outstanding(worker.redis, failed=True)
    assert given_up.answer == f"answered with status {status}"
    assert not pauses(worker.redis)


def test_a_receiver_that_hangs_delays_nobody_else(client: Client, worker: FakeWorker, receiver: Receiver) -> None:
    released = threading.Event()

    def hang(_: object) -> tuple[int, dict[str, str]]:
        released.wait(PATIENCE_S)
        return 200, {}

    with receiving() as slow:
        slow.answer = hang
        for _ in range(80):  # more than a process sends at the same time
            worker.complete(client.submit(webhook=slow.url))
        began = time.monotonic()
        worker.complete(client.submit(webhook=receiver.url))
        receiver.wait_for(1)
        assert time.monotonic() - began < sender.TRY_S / 3
        released.set()
        slow.wait_for(80)
        outstanding(worker.redis, 0)


def test_how_long_a_try_takes(
    client: Client, worker: FakeWorker, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sender.TRY_S == 15 < LEASE_S
    monkeypatch.setattr(sender, "TRY_S", 0.3)
    receiver.answer = lambda _: (time.sleep(1), (200, {}))[1]  # type: ignore[func-returns-value]
    worker.complete(client.submit(webhook=receiver.url))
    outstanding(worker.redis, tries=1, answer="no answer within 0.3 s")


def test_each_message_is_sent_by_one_gateway(
    make_settings: MakeSettings, own_redis_url: str, receiver: Receiver
) -> None:
    settings = make_settings(redis_url=own_redis_url, fetch_allow_cidrs="127.0.0.0/8")
    worker = FakeWorker(settings)
    with serving(settings) as one, serving(settings) as _other:
        ids = [one.submit(webhook=receiver.url, webhook_events_filter="started,completed") for _ in range(25)]
        for request_id in ids:
            worker.complete(request_id)
        receiver.wait_for(50)
        outstanding(worker.redis, 0)
    assert set(Counter(delivery.id for delivery in receiver.deliveries).values()) == {1}


def test_another_gateway_sends_what_a_dead_one_has_leased(
    client: Client, worker: FakeWorker, receiver: Receiver
) -> None:
    """The dead one is a lease that nobody settles; should it live after all, it changes nothing any more."""
    outbox = Outbox(worker.redis)
    receiver.answer = lambda _: (500, {})
    worker.complete(client.submit(webhook=receiver.url))
    outstanding(worker.redis, tries=1)
    assert outbox.lease(10, 10, {})[0] == []  # due in 5 s
    (key,) = worker.redis.keys("facelight:webhooks:*")  # type: ignore[misc]
    (message,) = worker.redis.zrange(key, 0, -1)  # type: ignore[misc]
    worker.redis.hset("facelight:webhook:" + message.decode(), "lease", "of the dead")
    worker.redis.zadd(key, {message: time.time() + LEASE_S})
    receiver.answer = lambda _: (200, {})
    let_time_pass(worker.redis, 6)
    time.sleep(1.5)
    assert len(receiver.deliveries) == 1
    let_time_pass(worker.redis, LEASE_S)
    receiver.wait_for(2)
    outstanding(worker.redis, 0)


def test_a_late_settlement_does_not_count(own_redis_url: str) -> None:
    """By a gateway that only hung, when another has the message by now."""
    redis = connect(own_redis_url)
    webhook = Webhook("https://example.com/", (WebhookEvent.COMPLETED,), "receiver", "http://facelight.example")
    records, outbox = Records(redis, 3600, 86_400), Outbox(redis)
    records.create("r1", "ic-light", "foreground", "", {}, webhook=webhook)
    records.cancel("r1")
    (first,), _ = outbox.lease(10, 10, {})
    messages, left_s = outbox.lease(10, 10, {})
    assert (messages, left_s) == ([], pytest.approx(LEASE_S, abs=2))
    let_time_pass(redis, LEASE_S + 1)
    (second,), _ = outbox.lease(10, 10, {})
    assert second.id == first.id
    outbox.sent(first)
    outbox.give_up(first, "too late")
    assert [one.failed for one in outbox.outstanding()] == [False]
    outbox.sent(second)
    assert outbox.outstanding() == []


def test_a_process_sends_few_messages_to_a_receiver_at_a_time(own_redis_url: str) -> None:
    redis = connect(own_redis_url)
    records, outbox = Records(redis, 3600, 86_400), Outbox(redis)
    for number in range(12):
        receiver = "busy" if number < 8 else "idle"
        webhook = Webhook("https://example.com/", (WebhookEvent.COMPLETED,), receiver, "http://facelight.example")
        records.create(f"r{number}", "ic-light", "foreground", "", {}, webhook=webhook)
        records.cancel(f"r{number}")
    leased, left_s = outbox.lease(64, 4, {"busy": 3})
    assert Counter(message.receiver for message in leased) == {"busy": 1, "idle": 4}
    assert left_s is None, "nothing else may be sent before one of these is settled"
    assert outbox.lease(2, 4, {})[0][0].receiver == "busy"


def test_no_step_fails_because_of_the_outbox(client: Client, worker: FakeWorker, receiver: Receiver) -> None:
    request_id = client.submit(webhook=receiver.url, webhook_events_filter="started,completed")
    record = worker.record(request_id)
    assert record.webhook is not None
    odd = ["webhooks", f"webhooks:{record.webhook.receiver}"]
    odd += [f"webhook:{request_id}:{event}" for event in ("started", "completed")]
    for name in odd:
        worker.redis.set(f"facelight:{name}", "of another type")
    worker.complete(request_id)
    assert worker.record(request_id).status == "COMPLETED"
    assert client.get(f"/v2/requests/{request_id}/status").status_code == 200


def test_a_redis_that_is_full_takes_what_ends(tmp_path: Any, receiver: Receiver) -> None:
    with own_redis() as (url, _):
        settings = GatewaySettings(redis_url=url, data_dir=tmp_path, fetch_allow_cidrs="127.0.0.0/8")
        worker = FakeWorker(settings)
        with serving(settings) as client:
            request_id = client.submit(webhook=receiver.url, webhook_events_filter="started,completed")
            WebhookSecrets(worker.redis).get(None)
            worker.redis.config_set("maxmemory", 1)
            assert client.post("/v2/ic-light", json=body_for("ic-light")).status_code == 503
            worker.complete(request_id)
            found = receiver.wait_for(2)
            outstanding(worker.redis, 0)
    assert {delivery.json["type"] for delivery in found} == {"request.started", "request.completed"}


def test_messages_expire_with_their_requests(client: Client, worker: FakeWorker, receiver: Receiver) -> None:
    receiver.answer = lambda _: (500, {})
    request_id = client.submit(webhook=receiver.url)
    worker.complete(request_id)
    outstanding(worker.redis, tries=1)
    for key in set(worker.redis.scan_iter("facelight:webhook*")) - {b"facelight:webhook-secrets"}:
        assert 0 < worker.redis.ttl(key) <= 3600, key  # type: ignore[operator]
    worker.redis.delete(f"facelight:request:{request_id}")
    assert Outbox(worker.redis).outstanding() == []
    let_time_pass(worker.redis, 10)
    deadline = time.monotonic() + PATIENCE_S
    while worker.redis.exists("facelight:webhooks"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert len(receiver.deliveries) == 1


def test_offline_nothing_is_sent(make_settings: MakeSettings, own_redis_url: str, receiver: Receiver) -> None:
    settings = make_settings(redis_url=own_redis_url, offline=True)
    with serving(settings) as client:
        answer = client.post("/v2/ic-light", json=body_for("ic-light", webhook=receiver.url))
        assert (answer.status_code, "offline" in answer.json()["error"]) == (400, True)
    with serving(make_settings(redis_url=own_redis_url, offline=True, fetch_allow_cidrs="127.0.0.0/8")) as client:
        FakeWorker(settings).complete(client.submit(webhook=receiver.url))
        receiver.wait_for(1)
