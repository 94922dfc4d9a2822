"""Redis: whether it is there, fit to hold requests, near, and in step with this host's clock."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any, Final
from urllib.parse import urlsplit

from redis import Redis
from redis.exceptions import RedisError

from cli.doctor.finding import Finding, fail, ok, warn
from cli.serve import redis_url
from server.settings import GatewaySettings
from workers.state.connection import connect, decode
from workers.state.suspension import is_suspended
from workers.state.versions import QUEUE_VERSION

_LEAST_VERSION: Final = (6, 2)
_PINGS: Final = 10
_SLOW_S: Final = 0.005
_TOO_SLOW_S: Final = 0.25
_SKEW_S: Final = 2.0
_MUCH_SKEW_S: Final = 300.0
"""S3 refuses signatures that are off by 15 minutes."""
_NEARLY_FULL: Final = 0.8
_FULL: Final = 0.95
_MIB: Final = 1024**2


def check_redis(settings: GatewaySettings) -> Iterator[Finding]:
    """Everything about the Redis that gateway and workers share; one line each."""
    url = redis_url(settings)
    if "redis_url" not in settings.model_fields_set and not Path(urlsplit(url).path).exists():
        yield warn(
            "FACELIGHT_REDIS_URL is not set, and `facelight serve`, which starts a Redis of its own, does not run",
            "Start it, or set FACELIGHT_REDIS_URL to the Redis of the server.",
        )
        return
    try:
        with connect(url) as redis:
            info: Mapping[str, Any] = redis.info()
            yield _check_version(info)
            yield from _check_role(info)
            yield _check_memory(info)
            yield _check_persistence(info)
            yield _check_round_trip(redis)
            yield _check_clock(redis)
            yield from _check_queue(redis)
    except RedisError as error:
        yield fail(
            f"it cannot be used: {error}",
            "Start it, and look at FACELIGHT_REDIS_URL: host, port, user and password, and what its user may do "
            "(deploy/redis-users.acl).",
        )


def _check_version(info: Mapping[str, Any]) -> Finding:
    version = str(info["redis_version"])
    if tuple(map(int, version.split(".")[:2])) < _LEAST_VERSION:
        return fail(f"Redis {version} is reachable, and too old", "Install Redis 6.2 or newer.")
    return ok(f"Redis {version} is reachable")


def _check_role(info: Mapping[str, Any]) -> Iterator[Finding]:
    if info.get("redis_mode") == "cluster":
        yield fail(
            "it is a Redis Cluster, whose keys lie apart", "Use one Redis, with replicas and Sentinels if need be."
        )
    if info["role"] != "master":
        yield fail(
            "it is a replica, which cannot be written",
            "Let FACELIGHT_REDIS_URL name the master, or the Sentinels by redis+sentinel://.",
        )


def _check_memory(info: Mapping[str, Any]) -> Finding:
    policy, most, used = info["maxmemory_policy"], int(info["maxmemory"]), int(info["used_memory"])
    told = f"{used / _MIB:.0f} MiB in use of " + (f"{most / _MIB:.0f} MiB" if most else "no limit") + f", {policy}"
    if policy != "noeviction":
        return fail(
            told, "Set maxmemory-policy noeviction: under any other a full Redis drops requests without a word."
        )
    if not most:
        return warn(told, "Set maxmemory, such as 256mb: else the kernel ends Redis when the host has no memory left.")
    if used > _FULL * most:
        return fail(told, "Raise maxmemory, or lower FACELIGHT_QUEUE_LIMIT or FACELIGHT_RESULT_TTL_S.")
    if used > _NEARLY_FULL * most:
        return warn(told, "It is nearly full, and refuses requests when it is: raise maxmemory.")
    return ok(told)


def _check_persistence(info: Mapping[str, Any]) -> Finding:
    if not info["aof_enabled"]:
        return warn(
            "it keeps no append-only file: when it restarts, accepted requests and issued keys are lost",
            "Set appendonly yes.",
        )
    if info["aof_last_write_status"] != "ok" or info["aof_last_bgrewrite_status"] != "ok":
        return fail("it cannot write its append-only file", "Free room on its disk; its log has the reason.")
    return ok("it keeps an append-only file")


def _check_round_trip(redis: Redis) -> Finding:
    def ping_s() -> float:
        began = time.perf_counter()
        redis.ping()
        return time.perf_counter() - began

    seconds = median(ping_s() for _ in range(_PINGS))
    told = f"a round trip takes {seconds * 1000:.2f} ms"
    if seconds > _TOO_SLOW_S:
        return fail(told, "Bring Redis nearer: a request takes about twenty round trips.")
    return (
        warn(told, "Have Redis in the same data centre, and look for a busy host.") if seconds > _SLOW_S else ok(told)
    )


def _check_clock(redis: Redis) -> Finding:
    before = time.time()
    seconds, microseconds = redis.time()
    skew = float(seconds) + float(microseconds) / 1e6 - (before + time.time()) / 2
    told = f"its clock is {abs(skew):.2f} s {'ahead of' if skew > 0 else 'behind'} this host's"
    remedy = (
        "Have chrony or systemd-timesyncd set both clocks: logs disagree, and presigned URLs expire at wrong times."
    )
    if abs(skew) > _MUCH_SKEW_S:
        return fail(told, remedy)
    return warn(told, remedy) if abs(skew) > _SKEW_S else ok(told)


def _check_queue(redis: Redis) -> Iterator[Finding]:
    version = redis.get("facelight:version")
    if version is not None and int(decode(version)) > QUEUE_VERSION:
        yield fail("the queue in it was written by a newer facelight", "Upgrade this installation.")
    if is_suspended(redis):
        yield warn("the workers are paused, and claim no request", "`facelight queue resume` has them go on.")
