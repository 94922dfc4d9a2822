"""Issued keys at the gateway's door: who gets in, to which models, how often, on what balance."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import httpx
import pytest
from redis import Redis

from server.settings import GatewaySettings
from tests.server.conftest import MakeSettings
from tests.server.support import KEYS, SLUGS, Client, FakeWorker, body_for, serving
from workers.state.connection import connect
from workers.state.keys import Keys, new_secret

BALANCE = "/v1/get-user-credits"


@pytest.fixture
def guarded_settings(make_settings: MakeSettings) -> GatewaySettings:
    return make_settings(require_key=True, credits=77)


@pytest.fixture
def guarded(guarded_settings: GatewaySettings) -> Iterator[Client]:
    with serving(guarded_settings) as client:
        yield client


@pytest.fixture
def redis(guarded_settings: GatewaySettings) -> Redis:
    return connect(guarded_settings.redis_url)


@pytest.fixture
def keys(redis: Redis) -> Keys:
    return Keys(redis)


def submit(client: Client, secret: str, slug: str = "ic-light", version: str = "v2") -> httpx.Response:
    return client.post(f"/{version}/{slug}", json=body_for(slug), headers={"x-api-key": secret})


def status_of(client: Client, secret: str) -> int:
    return client.get(BALANCE, headers={"x-api-key": secret}).status_code


def test_an_issued_key_opens_the_door_in_both_headers(guarded: Client, keys: Keys) -> None:
    _, secret = keys.add("alice")
    assert status_of(guarded, secret) == 200
    assert guarded.get(BALANCE, headers={"Authorization": f"Bearer {secret}"}).status_code == 200
    assert guarded.get(BALANCE).status_code == 401


def test_whatever_is_wrong_with_a_key_the_answer_is_the_same(guarded: Client, keys: Keys) -> None:
    key, revoked = keys.add("revoked")
    keys.revoke(key.id)
    key, rotated = keys.add("rotated")
    new = keys.rotate(key.id)
    assert new is not None
    wrong = ["", "fl_", KEYS[0], new_secret(), revoked, rotated, key.id, new[:-1], f"{new}0", f"{new},{new}"]
    answers = [guarded.get(BALANCE)]
    answers += [guarded.get(BALANCE, headers={"x-api-key": secret}) for secret in wrong]
    answers += [guarded.get(BALANCE, headers={"Authorization": f"Bearer {secret}"}) for secret in wrong[1:]]
    seen = {(answer.status_code, answer.text, repr(without_date(answer))) for answer in answers}
    assert len(seen) == 1
    assert answers[0].status_code == 401
    assert answers[0].headers["www-authenticate"] == "Bearer"
    assert status_of(guarded, new) == 200


def without_date(answer: httpx.Response) -> list[tuple[str, str]]:
    return [pair for pair in answer.headers.items() if pair[0] != "date"]


def test_revoking_counts_from_the_next_request_on(guarded: Client, keys: Keys) -> None:
    key, secret = keys.add("alice")
    assert status_of(guarded, secret) == 200
    keys.revoke(key.id)
    assert status_of(guarded, secret) == 401


def test_requests_stay_with_a_key_that_is_rotated(
    guarded: Client, keys: Keys, guarded_settings: GatewaySettings
) -> None:
    key, old = keys.add("alice")
    request_id = submit(guarded, old).json()["request_id"]
    assert FakeWorker(guarded_settings).record(request_id).owner == key.id
    new = keys.rotate(key.id)
    assert new is not None
    path = f"/v2/requests/{request_id}"
    assert guarded.get(path, headers={"x-api-key": new}).status_code == 200
    assert guarded.get(path, headers={"x-api-key": old}).status_code == 401


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_scopes_name_the_models_of_a_key(guarded: Client, keys: Keys, version: str) -> None:
    mine, others = SLUGS
    _, secret = keys.add("alice", scopes=[mine])
    answer = submit(guarded, secret, others, version)
    assert (answer.status_code, answer.json()) == (403, {"error": f"This API key may not use {others}."})
    assert guarded.post(f"/{version}/{mine}", content=b"{", headers={"x-api-key": secret}).status_code == 400
    assert submit(guarded, secret, mine).status_code == 200


def test_a_rate_counts_submits_and_nothing_else(guarded: Client, keys: Keys, redis: Redis) -> None:
    _, secret = keys.add("alice", rate=3)
    _, other = keys.add("bob", rate=3)
    left = []
    for _ in range(3):
        answer = submit(guarded, secret)
        assert answer.headers["ratelimit-policy"] == '"requests";q=3;w=60'
        left.append(re.fullmatch(r'"requests";r=(\d);t=\d+', answer.headers["ratelimit"])[1])  # type: ignore[index]
        for path in (answer.json()["status_url"], answer.json()["response_url"], BALANCE):
            assert guarded.get(path, headers={"x-api-key": secret}).status_code == 200
    assert left == ["2", "1", "0"]
    for slug in SLUGS:
        for version in ("v1", "v2"):
            refused = submit(guarded, secret, slug, version)
            wait_s = int(refused.headers["retry-after"])
            assert 50 <= wait_s <= 60
            assert refused.status_code == 429
            assert refused.json() == {"error": f"This API key may send 3 requests per minute. Try again in {wait_s} s."}
            assert refused.headers["ratelimit"] == f'"requests";r=0;t={wait_s}'
    assert submit(guarded, other).status_code == 200
    assert status_of(guarded, secret) == 200
    grow_older(redis, 61)
    assert submit(guarded, secret).status_code == 200


@pytest.mark.parametrize("pictures", [1, 2])
def test_a_waiting_call_tells_rate_and_balance(
    guarded: Client, keys: Keys, guarded_settings: GatewaySettings, pictures: int
) -> None:
    _, secret = keys.add("alice", rate=3, credits=5)
    worker = FakeWorker(guarded_settings)
    with ThreadPoolExecutor(1) as pool:
        body = body_for("ic-light", number_of_images=pictures)
        call = pool.submit(guarded.post, "/v1/ic-light", json=body, headers={"x-api-key": secret})
        worker.complete(worker.await_request("ic-light"))
    answer = call.result()
    assert answer.status_code == 200
    assert answer.headers["ratelimit"].startswith('"requests";r=2;')
    after = guarded.get(BALANCE, headers={"x-api-key": secret}).json()["credits"]
    assert float(answer.headers["x-remaining-credits"]) == after
    result = guarded.get(f"/v2/requests/{answer.headers['x-request-id']}", headers={"x-api-key": secret}).json()
    assert result["metrics"]["remaining_credits"] == after


def grow_older(redis: Redis, seconds: float) -> None:
    """Let all that was counted have happened so much earlier."""
    for name in cast("list[bytes]", redis.keys("facelight:rate:*")):
        assert 0 < cast(int, redis.ttl(name)) <= 60
        for call, stamp in cast("list[tuple[bytes, float]]", redis.zrange(name, 0, -1, withscores=True)):
            redis.zadd(name, {call: stamp - seconds * 1_000_000})


def test_a_rate_admits_exactly_so_many_at_once(guarded: Client, keys: Keys) -> None:
    _, secret = keys.add("alice", rate=5)
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: submit(guarded, secret).status_code, range(12)))
    assert sorted(answers) == [200] * 5 + [429] * 7


def test_keys_of_the_settings_are_not_limited(make_settings: MakeSettings) -> None:
    settings = make_settings(require_key=True, api_keys=KEYS[0], credits=77)
    with serving(settings) as client:
        for slug in SLUGS:
            assert submit(client, KEYS[0], slug).status_code == 200
        assert client.get(BALANCE, headers={"x-api-key": KEYS[0]}).json() == {"credits": 77, "free-credits": 0}
        _, secret = Keys(connect(settings.redis_url)).add("alice")
        assert status_of(client, secret) == 200


def test_the_balance_is_that_of_the_key(guarded: Client, keys: Keys) -> None:
    key, metered = keys.add("alice", credits=2.5)
    _, free = keys.add("bob")
    assert guarded.get(BALANCE, headers={"x-api-key": metered}).json() == {"credits": 2.5, "free-credits": 0}
    assert guarded.get(BALANCE, headers={"x-api-key": free}).json() == {"credits": 77, "free-credits": 0}
    keys.change(key.id, {}, added=0.5)
    assert guarded.get(BALANCE, headers={"x-api-key": metered}).json()["credits"] == 3


def test_keys_cannot_be_checked_without_redis(make_settings: MakeSettings) -> None:
    with serving(make_settings(redis_url="redis://127.0.0.1:1/0", require_key=True, api_keys=KEYS[0])) as client:
        answer = client.get(BALANCE, headers={"x-api-key": new_secret()})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert status_of(client, KEYS[0]) == 200, "keys of the settings are checked without Redis"
        assert status_of(client, "fl_mistyped") == 401


def test_nobody_needs_a_key_unless_it_is_asked_for(make_settings: MakeSettings) -> None:
    with serving(make_settings()) as client:
        assert status_of(client, new_secret()) == 200
