"""`python -m server`: one gateway process."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING

from server.http.server import build_server, raise_descriptor_limit
from server.settings import GatewaySettings
from workers.errors import SettingsError
from workers.logs import configure_logging
from workers.settings import read_settings
from workers.store.open import open_store
from workers.traces import start_traces, stop_traces

if TYPE_CHECKING:
    from server.metrics.calls import CallMetrics


def main() -> None:
    """Read the settings and serve HTTP until SIGTERM or SIGINT; requests in progress are finished first."""
    try:
        settings = read_settings(GatewaySettings)
        configure_logging("gateway", settings.log_level, settings.log_format)
        open_store(settings.store_location).check()
    except SettingsError as error:
        sys.exit(str(error))
    start_traces("gateway")
    from server.app import create_app  # RQ comes with it: see `read_settings`

    raise_descriptor_limit(settings.max_connections)
    try:
        with _counted(settings) if settings.metrics_port else nullcontext() as metrics:
            app = create_app(settings, metrics)
            with suppress(KeyboardInterrupt):  # of a second signal, before the server listens to them
                build_server(app, settings).run()
    except SettingsError as error:
        sys.exit(str(error))
    stop_traces()


@contextmanager
def _counted(settings: GatewaySettings) -> Iterator[CallMetrics]:
    """Tell Prometheus what is counted for as long as the block lasts. Raises `SettingsError`."""
    from server.metrics.calls import CallMetrics  # 30 ms, for those that are scraped
    from server.metrics.queue import QueueMetrics
    from workers.metrics.endpoint import new_registry, serving

    registry = new_registry()
    QueueMetrics(registry, settings)
    metrics = CallMetrics(registry)
    with serving(settings, registry):
        yield metrics


main()
