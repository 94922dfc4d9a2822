"""API keys in Redis: returned once, stored as digests, changed atomically, found in one round trip."""

from __future__ import annotations

import re
import threading
import time
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from workers.errors import NotMetered
from workers.state.keys import Key, Keys, digest_of, is_well_formed, new_secret


@pytest.fixture
def keys(redis: Redis) -> Keys:
    return Keys(redis)


def everything_in(redis: Redis) -> str:
    """All names and values of a Redis that holds hashes and strings only."""
    read = {b"hash": redis.hgetall, b"string": redis.get}
    found = {name: read[cast(bytes, redis.type(name))](name) for name in cast("list[bytes]", redis.keys())}
    return repr(found)


def lasting(redis: Redis) -> list[bytes]:
    """Names of what never expires."""
    return [name for name in cast("list[bytes]", redis.keys()) if redis.ttl(name) == -1]


def test_a_new_key_is_found_by_its_secret_only(keys: Keys) -> None:
    key, secret = keys.add("alice", scopes=["ic-light"], rate=30, credits=12.5)
    assert (key.name, key.scopes, key.rate, key.credits, key.last_used) == ("alice", ("ic-light",), 30, 12.5, None)
    assert abs(key.created_at - time.time()) < 5
    assert keys.find(secret) == key
    for other in (new_secret(), "", key.id, key.name, digest_of(secret), secret.upper(), f" {secret}", "schlüssel"):
        assert keys.find(other) is None


def test_a_key_is_unrestricted_by_default(keys: Keys) -> None:
    free, _ = keys.add("bob")
    assert (free.scopes, free.rate, free.credits) == ((), None, None)
    assert free.may_use("ic-light")
    bound, _ = keys.add("carol", scopes=["pulid-lightning"])
    assert bound.may_use("pulid-lightning")
    assert not bound.may_use("ic-light")


def test_secrets_are_256_random_bits_with_a_checksum() -> None:
    secrets = {new_secret() for _ in range(1000)}
    assert len(secrets) == 1000
    assert all(re.fullmatch("fl_[0-9a-f]{72}", secret) and is_well_formed(secret) for secret in secrets)


@given(st.integers(3, 74), st.sampled_from("0123456789abcdef"))
def test_one_wrong_character_is_noticed_without_redis(position: int, digit: str) -> None:
    secret = new_secret()
    changed = secret[:position] + digit + secret[position + 1 :]
    assert is_well_formed(changed) == (changed == secret)
    assert not is_well_formed(secret[:position])


def test_secrets_are_never_in_redis(keys: Keys, redis: Redis) -> None:
    key, first = keys.add("alice")
    second = keys.rotate(key.id)
    assert second is not None
    keys.find(second)
    kept = everything_in(redis)
    assert digest_of(second) in kept
    for secret in (first, second):
        assert secret not in kept
        assert secret[3:67] not in kept
    assert digest_of(first) not in kept


def test_revoked_keys_are_gone(keys: Keys, redis: Redis) -> None:
    key, secret = keys.add("alice")
    assert keys.revoke(key.id)
    assert keys.find(secret) is None
    assert keys.get(key.id) is None
    assert keys.all() == []
    assert lasting(redis) == []
    assert not keys.revoke(key.id)
    assert keys.rotate(key.id) is None
    assert keys.change(key.id, {"rate": 1}) is None
    assert keys.change(key.id, {}, added=1) is None
    assert lasting(redis) == [], "nothing raises a revoked key from the dead"


def test_rotation_changes_the_secret_and_nothing_else(keys: Keys) -> None:
    key, old = keys.add("alice", scopes=["ic-light"], rate=3, credits=4)
    new = keys.rotate(key.id)
    assert new is not None
    assert keys.find(old) is None
    assert keys.find(new) == key


def test_changes_touch_what_they_name(keys: Keys) -> None:
    key, secret = keys.add("alice", scopes=["ic-light"], rate=3, credits=4)
    assert keys.change(key.id, {}) == key
    assert keys.change(key.id, {"rate": None}) == Key(key.id, "alice", ("ic-light",), None, 4.0, key.created_at)
    keys.change(key.id, {"scopes": (), "credits": None})
    found = keys.find(secret)
    assert found is not None
    assert (found.scopes, found.rate, found.credits) == ((), None, None)


def test_topping_up_adds_and_loses_nothing(keys: Keys) -> None:
    key, _ = keys.add("alice", credits=0.5)
    threads = [threading.Thread(target=keys.change, args=(key.id, {}, 0.1)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    topped = keys.get(key.id)
    assert topped is not None
    assert topped.credits == pytest.approx(2.5)
    free, _ = keys.add("bob")
    with pytest.raises(NotMetered):
        keys.change(free.id, {"rate": 3}, added=5)
    assert keys.get(free.id) == free


def test_last_use_is_recorded_once_a_minute(keys: Keys, redis: Redis) -> None:
    key, secret = keys.add("alice")
    first = keys.find(secret)
    assert first is not None
    assert first.last_used is None
    noted = keys.get(key.id)
    assert noted is not None
    assert abs((noted.last_used or 0) - time.time()) < 5
    for ago, moves in ((30, False), (61, True)):
        stamp = int(time.time()) - ago
        redis.hset(f"facelight:key:{key.id}", "last_used", stamp)
        keys.find(secret)
        after = keys.get(key.id)
        assert after is not None
        assert (after.last_used != stamp) == moves


def test_a_full_redis_still_authenticates_keys(keys: Keys, redis: Redis) -> None:
    key, secret = keys.add("alice")
    redis.config_set("maxmemory", 1)
    try:
        assert keys.find(secret) == key
    finally:
        redis.config_set("maxmemory", 0)
    assert keys.get(key.id) == key, "its use could not be noted"


def test_keys_are_listed_oldest_first_and_never_expire(keys: Keys, redis: Redis) -> None:
    made = [keys.add(name)[0] for name in ("one", "two", "three")]
    assert keys.all() == made
    assert len(lasting(redis)) == 4, "three keys and one of all digests"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(steps=st.lists(st.tuples(st.sampled_from(["add", "rotate", "revoke"]), st.integers(0, 3)), max_size=15))
def test_any_history_leaves_exactly_the_valid_secrets(keys: Keys, redis: Redis, steps: list[tuple[str, int]]) -> None:
    redis.flushall()
    valid: dict[str, str] = {}
    worthless: list[str] = []
    for serial, (step, number) in enumerate(steps):
        if step == "add":
            key, secret = keys.add(f"user {serial}")
            valid[key.id] = secret
        elif valid:
            key_id = sorted(valid)[number % len(valid)]
            worthless.append(valid.pop(key_id))
            if step == "revoke":
                assert keys.revoke(key_id)
            else:
                valid[key_id] = cast(str, keys.rotate(key_id))
    found: list[Any] = [keys.find(secret) for secret in valid.values()]
    assert [key.id for key in found] == list(valid)
    assert not any(map(keys.find, worthless))
    assert {key.id for key in keys.all()} == set(valid)
    assert redis.hlen("facelight:key-digests") == len(valid)
