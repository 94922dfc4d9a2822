"""A gateway over real HTTP, on a real Redis and a real folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from server.settings import GatewaySettings
from tests.server.support import Client, FakeWorker, Host, hosting, serving

MakeSettings = Callable[..., GatewaySettings]
NEVER = 86_400.0
"""The played worker does not announce itself: a janitor would take its requests for abandoned."""


@pytest.fixture
def make_settings(redis_url: str, tmp_path: Path) -> MakeSettings:
    """Settings with what a test needs to be different, for a gateway of its own."""

    def make(**fields: Any) -> GatewaySettings:
        return GatewaySettings(**{"redis_url": redis_url, "data_dir": tmp_path, "janitor_interval_s": NEVER, **fields})

    return make


@pytest.fixture(scope="session")
def shared_settings(redis_socket: Path, tmp_path_factory: pytest.TempPathFactory) -> GatewaySettings:
    return GatewaySettings(
        redis_url=f"unix://{redis_socket}",
        data_dir=tmp_path_factory.mktemp("gateway"),
        fetch_allow_cidrs="127.0.0.0/8",
        max_body_mb=32,
        janitor_interval_s=NEVER,
    )


@pytest.fixture(scope="session")
def shared_client(shared_settings: GatewaySettings) -> Iterator[Client]:
    with serving(shared_settings) as client:
        yield client


@pytest.fixture
def settings(shared_settings: GatewaySettings, redis_url: str) -> GatewaySettings:
    """Settings of the gateway that most tests share; its Redis is empty."""
    return shared_settings


@pytest.fixture
def client(shared_client: Client, settings: GatewaySettings) -> Client:
    """A client of the gateway that most tests share."""
    return shared_client


@pytest.fixture
def worker(settings: GatewaySettings) -> FakeWorker:
    """A worker of the gateway that most tests share."""
    return FakeWorker(settings)


@pytest.fixture(scope="session")
def shared_host() -> Iterator[Host]:
    with hosting() as host:
        yield host


@pytest.fixture
def host(shared_host: Host) -> Host:
    """A web server on this machine; nobody has asked it for anything yet."""
    shared_host.requests.clear()
    return shared_host
