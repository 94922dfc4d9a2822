"""URLs of Redis: one server, or Sentinels."""

from __future__ import annotations

import pytest
from redis.asyncio.sentinel import SentinelConnectionPool as AsyncPool
from redis.sentinel import SentinelConnectionPool, SentinelManagedSSLConnection

from workers.errors import SettingsError
from workers.settings import CommonSettings, read_settings
from workers.state.address import SentinelAddress, parse_address
from workers.state.connection import connect, connect_async


@pytest.mark.parametrize("url", ["redis://host:1/2", "rediss://:p@host", "unix:///run/redis.sock?db=1"])
def test_one_redis(url: str) -> None:
    assert parse_address(url) is None


def test_sentinels() -> None:
    url = "redis+sentinel://me:p%40ss@one,two:1,[::1]:2/main/3?sentinel_password=x&sentinel_username=y&replicas=2"
    assert parse_address(url) == SentinelAddress(
        sentinels=(("one", 26379), ("two", 1), ("::1", 2)),
        service="main",
        replicas=2,
        is_tls=False,
        options={"username": "me", "password": "p@ss", "db": 3},
        sentinel_options={"username": "y", "password": "x"},
    )
    assert parse_address("redis+sentinel://one/main") == SentinelAddress((("one", 26379),), "main", 1, False, {}, {})


def test_tls_is_for_both() -> None:
    url = "rediss+sentinel://one/main?ssl_ca_certs=/ca.pem"
    address = parse_address(url)
    assert address is not None
    assert (address.is_tls, address.options) == (True, {"ssl_ca_certs": "/ca.pem"})
    assert address.sentinel_options == {"ssl": True, "ssl_ca_certs": "/ca.pem"}
    pool = connect(url).connection_pool
    assert isinstance(pool, SentinelConnectionPool)
    assert issubclass(pool.connection_class, SentinelManagedSSLConnection)
    listener = connect_async(url, 1.0).connection_pool
    assert isinstance(listener, AsyncPool)
    assert "SSL" in listener.connection_class.__name__


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("localhost:6379", "must begin with redis://, rediss://, unix://, redis"),
        ("http://host", "must begin with"),
        ("redis://host:port", "Port could not be cast to integer"),
        ("redis+sentinel://one,two", "must name the Sentinels and the service"),
        ("redis+sentinel:///main", "must name the Sentinels and the service"),
        ("redis+sentinel://one,:2/main", "':2' is not the address of a Sentinel"),
        ("redis+sentinel://one:port/main", "'one:port' is not the address of a Sentinel"),
        ("redis+sentinel://one/main/zero", "the database 'zero' is not a number"),
        ("redis+sentinel://one/main?replicas=all", "replicas=all is not a number"),
    ],
)
def test_what_does_not_fit_is_refused_at_start(monkeypatch: pytest.MonkeyPatch, url: str, reason: str) -> None:
    monkeypatch.setenv("FACELIGHT_REDIS_URL", url)
    with pytest.raises(SettingsError) as refused:
        read_settings(CommonSettings)
    assert str(refused.value).startswith(f"FACELIGHT_REDIS_URL: {reason}")
