"""The parts of the workers' room, on a real Redis and a real folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from redis import Redis

from workers.state.connection import connect
from workers.state.records import Records
from workers.state.registry import WorkerRegistry
from workers.store.base import Store
from workers.store.open import open_store


@pytest.fixture
def redis(redis_url: str) -> Redis:
    return connect(redis_url)


@pytest.fixture
def records(redis: Redis) -> Records:
    return Records(redis, result_ttl_s=3600, request_ttl_s=86_400)


@pytest.fixture
def registry(redis: Redis) -> WorkerRegistry:
    return WorkerRegistry(redis, ttl_s=10)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))
