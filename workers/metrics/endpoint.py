"""Where Prometheus asks a process for its metrics: a port of its own, never the one that callers reach."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any, Final

from prometheus_client import CollectorRegistry, Gauge, ProcessCollector, disable_created_metrics, start_http_server

from workers.errors import SettingsError
from workers.settings import CommonSettings

MOMENTS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
"""Buckets in seconds for what is done at once: stages, steps."""
PATIENCE: Final = (*MOMENTS, 120, 300, 600, 1800, 3600)
"""Buckets in seconds for what may have to wait: requests, HTTP calls."""


def new_registry() -> CollectorRegistry:
    """A registry with what every process tells: its version, memory, processor time, open files, start."""
    disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each: Prometheus finds counters that began anew by itself
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    build = Gauge("facelight_build_info", "Version of the process; always 1.", ["version"], registry=registry)
    build.labels(version("facelight")).set(1)
    return registry


@contextmanager
def serving(settings: CommonSettings, registry: CollectorRegistry, idle_s: float = 10.0) -> Iterator[int]:
    """Answer scrapes on the port of the settings, on threads, for as long as the block lasts; yields the port.

    A connection that is silent for `idle_s` is closed. Raises `SettingsError` if the address cannot be bound.
    """
    try:
        server, thread = start_http_server(settings.metrics_port, settings.metrics_host, registry)
    except OSError as error:
        where = f"{settings.metrics_host}:{settings.metrics_port}"
        raise SettingsError(f"FACELIGHT_METRICS_PORT: cannot listen on {where}: {error.strerror or error}") from None
    handler: Any = server.RequestHandlerClass
    server.RequestHandlerClass = type("Handler", (handler,), {"timeout": idle_s})  # the library's own has none
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
